-- Writes nothing new, so that WAIT can be called after it: with it, the write that a document comes
-- from has been replicated. A document does not expire; its end is in 100 years. ARGV: name.
redis.call('PEXPIRE', document_key(ARGV[1]), 3155760000000)
return 1
