-- Shared by all scripts. KEYS[1] is a partition, such as "authsvc:{0}": the names of all keys that a
-- script uses begin with it, so that they are in one slot of a cluster.
--
-- A record is "FORMAT REVISION CREATE_TIME LAST_SEEN_TIME EXPIRE_TIME INDEX\nJSON". The scripts read
-- the first line, authsvc reads all of it. Times stay text, since Lua's numbers lose digits. INDEX is
-- "-" for an unauthenticated record; else it names the set of its subject's records.

local base = KEYS[1]
local CREATED, EXPIRES = base .. ':created', base .. ':expires'
local UNAUTHENTICATED = base .. ':unauthenticated'
local IDS, REVOKED = base .. ':ids', base .. ':revoked'
local LIVE_UNAUTHENTICATED = base .. ':live_unauthenticated'
local EXPIRED = 4

local function record_key(id)
  return base .. ':s:' .. id
end

local function document_key(name)
  return base .. ':d:' .. name
end

local function received_key(key)
  return base .. ':r:' .. key
end

local function subject_key(index)
  return base .. ':u:' .. index
end

local function parse(value)
  local format, revision, create_time, seen, expires, index =
    string.match(value, '^(%d+) (%d+) (%S+) (%S+) (%S+) (%S+)\n')
  return {
    format = format, revision = revision, create_time = create_time,
    expires = expires, index = index,
  }
end

local function is_same(stored, revision, create_time)
  return tonumber(stored.revision) == tonumber(revision)
    and tonumber(stored.create_time) == tonumber(create_time)
end

local function log(call, kept, event_type, time, id, value)
  return call('XADD', base .. ':events', 'MAXLEN', '~', kept, '*',
    't', event_type, 'm', time, 'i', id, 'v', value)
end

-- Ids and values of the records that a script has removed, by turns; the value is "" of a record whose
-- key had expired by its TTL.
local removed = {}

local function note_removed(id, value)
  table.insert(removed, id)
  table.insert(removed, value)
end

-- Whether a record counts as revoked, as `counted_state` of authsvc says it. The second line of a
-- value is JSON that ends with the time of the revocation, or null. A principal session is not
-- revoked while it has a token that was issued later.
local function is_revoked(id, value)
  local revoke_time, grants = string.match(value, ',([^,]+)%]\n(.*)$')
  if not revoke_time or revoke_time == 'null' then
    return false
  end
  if string.sub(id, 1, 1) == '~' then
    for _, grant in pairs(cjson.decode(grants).grants) do
      if grant[2] > tonumber(revoke_time) then
        return false
      end
    end
  end
  return true
end

-- The set by which a record is counted; nil for an authenticated one, which is in none.
local function counted_in(id, value, record)
  if is_revoked(id, value) then
    return REVOKED
  end
  return record.index == '-' and LIVE_UNAUTHENTICATED or nil
end

-- Enters a record in the sets by which it is found and counted, and in no other of them: a new one is
-- in none yet.
local function list(id, value, record, is_new)
  redis.call('ZADD', CREATED, record.create_time, id)
  redis.call('ZADD', EXPIRES, record.expires, id)
  redis.call('ZADD', IDS, 0, id)
  local counted = counted_in(id, value, record)
  for _, set in ipairs({ REVOKED, LIVE_UNAUTHENTICATED }) do
    if set == counted then
      redis.call('ZADD', set, record.expires, id)
    elseif not is_new then
      redis.call('ZREM', set, id)
    end
  end
end

local function unlist(id, index)
  redis.call('ZREM', CREATED, id)
  redis.call('ZREM', EXPIRES, id)
  redis.call('ZREM', IDS, id)
  redis.call('ZREM', REVOKED, id)
  redis.call('ZREM', LIVE_UNAUTHENTICATED, id)
  redis.call('ZREM', UNAUTHENTICATED, id)
  if index and index ~= '-' then
    redis.call('SREM', subject_key(index), id)
  end
end

local function expire(kept, id, value)
  local stored = parse(value)
  redis.call('DEL', record_key(id))
  unlist(id, stored.index)
  -- pcall: when memory is full, the log cannot be written, but records can still be removed.
  log(redis.pcall, kept, EXPIRED, stored.expires, id, value)
  note_removed(id, value)
end
