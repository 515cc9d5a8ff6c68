-- Enters all records, which are the members of ':created', in the sets by which records are found and
-- counted; or takes out of one of these sets what is no record. ARGV: name of the set, cursor of its
-- scan, how many about. Returns the next cursor; 0 at the end.
local scanned = redis.call('ZSCAN', base .. ':' .. ARGV[1], ARGV[2], 'COUNT', ARGV[3])
for position = 1, #scanned[2], 2 do
  local id = scanned[2][position]
  if ARGV[1] == 'created' then
    local value = redis.call('GET', record_key(id))
    if value then -- otherwise its key expired first, by its TTL, and a sweep removes it
      list(id, value, parse(value))
    end
  elseif not redis.call('ZSCORE', CREATED, id) then
    unlist(id)
  end
end
return scanned[1]
