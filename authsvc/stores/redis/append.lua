-- Logs an event that changes no record. ARGV: event type, event time, id, value, events kept.
return log(redis.call, ARGV[5], ARGV[1], ARGV[2], ARGV[3], ARGV[4])
