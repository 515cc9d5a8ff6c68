-- Returns a document, "REVISION\nCONTENT", or false without one. It is also given an end, in 100
-- years: a write, so that WAIT can be called after it, and one that needs no memory. With it, the
-- write that the document comes from has been replicated. ARGV: name.
local key = document_key(ARGV[1])
redis.call('PEXPIRE', key, 3155760000000)
return redis.call('GET', key)
