-- Sets a not-before, unless a later one is set, and logs it. An equal one is kept for longer.
-- The stored value is "TIME JSON".
-- ARGV: field, value, events kept, event type, event time. Returns the event's id in the log.
local not_befores = base .. ':not_befores'
local stored = redis.call('HGET', not_befores, ARGV[1])
local function time_of(value)
  return tonumber(string.match(value, '^%S+'))
end
if not stored or time_of(ARGV[2]) >= time_of(stored) then
  redis.call('HSET', not_befores, ARGV[1], ARGV[2])
end
return log(redis.call, ARGV[3], ARGV[4], ARGV[5], '', ARGV[2])
