-- Writes a record if what is stored is its predecessor, and logs the event.
-- ARGV: id, value, ttl in ms, cap of unauthenticated records, events kept, event type, event time.
-- Returns the event's id in the log, and what was removed because of the cap (see prelude.lua); or
-- false when another write came first.
local id, value, ttl_ms, cap, kept = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]
local stored_value = redis.call('GET', record_key(id))
local stored = stored_value and parse(stored_value)
local new = parse(value)
if stored then
  if tonumber(new.revision) ~= tonumber(stored.revision) + 1
    or tonumber(stored.create_time) > tonumber(new.create_time) then
    return false
  end
elseif tonumber(new.revision) ~= 1 then
  return false
end
redis.call('SET', record_key(id), value, 'PX', ttl_ms) -- first: when memory is full, nothing is written
if stored and stored.index ~= new.index then
  unlist(id, stored.index)
end
list(id, value, new, not stored)
local written = log(redis.call, kept, ARGV[6], ARGV[7], id, value)
if new.index ~= '-' then
  redis.call('SADD', subject_key(new.index), id)
else
  redis.call('ZADD', UNAUTHENTICATED, new.create_time, id)
  local excess = redis.call('ZCARD', UNAUTHENTICATED) - cap
  if excess > 0 then
    for _, oldest in ipairs(redis.call('ZRANGE', UNAUTHENTICATED, 0, excess - 1)) do
      local oldest_value = redis.call('GET', record_key(oldest))
      if oldest_value then
        expire(kept, oldest, oldest_value)
      else
        unlist(oldest)
        note_removed(oldest, '')
      end
    end
  end
end
return { written, removed }
