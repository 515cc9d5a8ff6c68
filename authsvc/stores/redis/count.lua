-- Returns how many records have not expired: all, the unauthenticated, the revoked. ARGV: now.
local after = '(' .. ARGV[1]
return {
  redis.call('ZCOUNT', EXPIRES, after, '+inf'),
  redis.call('ZCOUNT', LIVE_UNAUTHENTICATED, after, '+inf'),
  redis.call('ZCOUNT', REVOKED, after, '+inf'),
}
