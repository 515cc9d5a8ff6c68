-- Deletes a not-before, unless it has been set again meanwhile. ARGV: field, value.
local not_befores = base .. ':not_befores'
if redis.call('HGET', not_befores, ARGV[1]) == ARGV[2] then
  redis.call('HDEL', not_befores, ARGV[1])
end
