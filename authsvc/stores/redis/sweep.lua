-- Removes records whose time is over, and logs their end.
-- ARGV: now, how many at most, events kept. Returns how many there were.
local expired = redis.call('ZRANGE', EXPIRES, '-inf', ARGV[1], 'BYSCORE', 'LIMIT', 0, ARGV[2])
for _, id in ipairs(expired) do
  local value = redis.call('GET', record_key(id))
  if value then
    expire(ARGV[3], id, value)
  else
    unlist(id) -- its key's own time to live ran out first
  end
end
return #expired
