-- Whether all records have been entered in the index lately, and as many are in it as there are.
if redis.call('GET', base .. ':indexed')
  and redis.call('ZCARD', IDS) == redis.call('ZCARD', CREATED) then
  return 1
end
return 0
