-- Drops a cut-off, unless it has been set again meanwhile. ARGV: field, value.
local cutoffs = base .. ':cutoffs'
if redis.call('HGET', cutoffs, ARGV[1]) == ARGV[2] then
  redis.call('HDEL', cutoffs, ARGV[1])
end
