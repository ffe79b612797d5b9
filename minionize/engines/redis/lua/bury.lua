-- Dead letters. ARGV: group, consumer, reason, detail, then for each: token, the param's id, its counts,
-- its text (if it is gone from the stream).
local consumer, now = ARGV[2], now_ms()
for i = 5, #ARGV, 4 do
  local stream, id = place(ARGV[i])
  if is_mine(stream, id, consumer) then
    local fields, raw = fields_at(stream, id), {'minionize', ARGV[i + 3]}
    if fields then
      local _, _, was = taken_apart(stream, id, fields)
      raw = was
    end
    drop(stream, id)
    bury(now, ARGV[i + 1], ARGV[i + 2], ARGV[3], ARGV[4], raw)
  end
end
tidy()
return 'ok'
