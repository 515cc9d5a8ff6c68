-- Writes last seen time and expire time, if what is stored is still the same write.
-- ARGV: id, revision, create time, last seen time, expire time, ttl in ms.
local id = ARGV[1]
local value = redis.call('GET', record_key(id))
if value and is_same(parse(value), ARGV[2], ARGV[3]) then
  local stored = parse(value)
  local line = table.concat(
    { stored.format, stored.revision, stored.create_time, ARGV[4], ARGV[5], stored.index }, ' ')
  local rest = string.sub(value, string.find(value, '\n', 1, true), -1)
  redis.call('SET', record_key(id), line .. rest, 'PX', ARGV[6])
  redis.call('ZADD', EXPIRES, ARGV[5], id)
  local counted = counted_in(id, value, stored)
  if counted then
    redis.call('ZADD', counted, ARGV[5], id)
  end
end
