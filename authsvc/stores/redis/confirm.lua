-- Writes what changes nothing, for its replication to be waited for: with it, everything that was
-- written before has been replicated. ARGV: id, ttl in ms.
redis.call('PEXPIRE', record_key(ARGV[1]), ARGV[2])
return 1
