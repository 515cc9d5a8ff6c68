-- Writes a document if what is stored is its predecessor. ARGV: name, revision, content.
-- Returns 1, or false when another write came first.
local key = document_key(ARGV[1])
local stored = redis.call('GET', key)
local revision = stored and tonumber(string.match(stored, '^%d+')) or 0
if tonumber(ARGV[2]) ~= revision + 1 then
  return false
end
redis.call('SET', key, ARGV[2] .. '\n' .. ARGV[3])
return 1
