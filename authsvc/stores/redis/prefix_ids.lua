-- Returns the ids that begin with a prefix, each followed by its create time. ARGV: prefix, how many
-- at most. Returns false when there are more, and when records may be missing in the index: then
-- they have to be looked for one by one.
if redis.call('ZCARD', IDS) ~= redis.call('ZCARD', CREATED) then
  return false
end
local most = tonumber(ARGV[2])
local ids = redis.call(
  'ZRANGE', IDS, '[' .. ARGV[1], '(' .. ARGV[1] .. '\255', 'BYLEX', 'LIMIT', 0, most + 1)
if #ids > most then
  return false
end
local places = {}
for _, id in ipairs(ids) do
  local create_time = redis.call('ZSCORE', CREATED, id)
  if create_time then
    table.insert(places, id)
    table.insert(places, create_time)
  end
end
return places
