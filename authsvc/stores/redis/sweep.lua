-- Removes records whose expire time has passed, and logs them as EXPIRED.
-- ARGV: now, how many at most, events kept. Returns what was removed (see prelude.lua).
local expired = redis.call('ZRANGE', EXPIRES, '-inf', ARGV[1], 'BYSCORE', 'LIMIT', 0, ARGV[2])
for _, id in ipairs(expired) do
  local value = redis.call('GET', record_key(id))
  if value then
    expire(ARGV[3], id, value)
  else
    unlist(id) -- its key expired first, by its TTL
    note_removed(id, '')
  end
end
return removed
