-- Returns the ids of a subject's records. ARGV: the name of their set, how many at most.
local ids = redis.call('SMEMBERS', subject_key(ARGV[1]))
for position = #ids, tonumber(ARGV[2]) + 1, -1 do
  ids[position] = nil
end
return ids
