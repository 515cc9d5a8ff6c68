-- Marks a message as received. The value is when its key expires; the later of two times is kept.
-- ARGV: key, time in ms since the epoch.
local key = received_key(ARGV[1])
local stored = redis.call('GET', key)
local until_ms = ARGV[2]
if stored and tonumber(stored) > tonumber(until_ms) then
  until_ms = stored
end
-- Written in either case, so that WAIT confirms the write before, too.
redis.call('SET', key, until_ms, 'PXAT', until_ms)
return 1
