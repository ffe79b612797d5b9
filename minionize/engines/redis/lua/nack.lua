-- Give back. ARGV: group, consumer, delay in ms, then for each: token, the param's id, its new counts,
-- its text or nothing. Returns the tokens of those whose text is gone from the stream: they are
-- pending still, and given back when the text is said.
local consumer, delay = ARGV[2], tonumber(ARGV[3])
local gone = {}
local now = now_ms()
for i = 4, #ARGV, 4 do
  local token, name, counts = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local stream, id = place(token)
  if is_mine(stream, id, consumer) then
    local fields, raw = fields_at(stream, id), nil
    if fields then
      local _, _, was = taken_apart(stream, id, fields)
      raw = was
    elseif ARGV[i + 3] ~= '' then
      raw = {'minionize', ARGV[i + 3]}
    end
    if not raw then
      gone[#gone + 1] = token
    else
      drop(stream, id)
      if delay > 0 then
        local later = call('XADD', LATER, '*', '@id', name, '@n', counts, unpack(raw))
        call('ZADD', DUE, int(now + delay), later)
      else
        place_back(name, counts, raw)
      end
    end
  end
end
tidy()
return gone
