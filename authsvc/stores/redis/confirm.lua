-- Writes nothing new, so that WAIT can be called after it: with it, all earlier writes have been
-- replicated. ARGV: id, ttl in ms.
redis.call('PEXPIRE', record_key(ARGV[1]), ARGV[2])
return 1
