-- Removes a record, if what is stored is still the same write, and logs it as EXPIRED.
-- Returns what was removed (see prelude.lua).
-- ARGV: id, revision, create time, events kept.
local id = ARGV[1]
local value = redis.call('GET', record_key(id))
if value and is_same(parse(value), ARGV[2], ARGV[3]) then
  expire(ARGV[4], id, value)
end
return removed
