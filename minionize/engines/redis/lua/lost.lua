-- Which of these are not held by this consumer. ARGV: group, consumer, tokens.
local lost = {}
for token in string.gmatch(ARGV[3], '%S+') do
  local stream, id = place(token)
  if not is_mine(stream, id, ARGV[2]) then lost[#lost + 1] = token end
end
return lost
