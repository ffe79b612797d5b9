-- Dead letters back to work, counts reset. ARGV: group, the messages to look at (from, to; or nothing), then
-- the ids of the params. What was trimmed stays: there is nothing to run. Returns {'ok', how many, the last
-- message that was looked at, or nothing at the end}.
if not exists() then return {'none'} end
local graves, last = {}, ''
if ARGV[3] ~= '' then
  local found = call('XRANGE', DEAD, ARGV[2], ARGV[3], 'COUNT', 500)
  for _, message in ipairs(found) do graves[#graves + 1] = message[1] end
  if #found == 500 then last = graves[500] end
end
for i = 4, #ARGV do
  local grave = call('HGET', GRAVES, ARGV[i])
  if grave then graves[#graves + 1] = grave end
end
local count = 0
for _, grave in ipairs(graves) do
  local fields = fields_at(DEAD, grave)
  if fields and fields[6] ~= TRIMMED then
    call('XDEL', DEAD, grave)
    call('HDEL', GRAVES, fields[2])
    place_back(fields[2], '1 0 0 0', {unpack(fields, 11)})
    count = count + 1
  end
end
return {'ok', count, last}
