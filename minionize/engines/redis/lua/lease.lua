-- Up to so many params. ARGV: group, consumer, limit, and the last ids received from suspects, back
-- and main where an answer may have been lost on its way, else empty.
-- Returns {'ok', paused, stops, ids, texts, others, ms until the next delayed one, minions, whether the queue
-- looks drained}: ids and texts, line by line, of fresh messages of ours in main; others as {token, fields}.
local consumer, limit = ARGV[2], tonumber(ARGV[3])
local now = now_ms()
if not alive(consumer, now) then return {exists() and 'gone' or 'none'} end
local orders = call('HMGET', META, 'paused', 'stops', 'staged')
local paused, stops = orders[1] or '', orders[2] or ''
promote(now)
take_over(now)
if paused == '1' then
  -- What got lost on its way to us waits with the rest.
  for i, stream in ipairs(STREAMS) do
    if ARGV[3 + i] ~= '' then hand_back(stream, consumer, '(' .. ARGV[3 + i], 100000) end
  end
  return {'ok', paused, stops, '', '', {}, '', call('ZCARD', MINIONS), 0}
end

local ids, texts, others = {}, {}, {}

local function read(stream, from, count)
  local reply = call('XREADGROUP', 'GROUP', GROUP, consumer, 'COUNT', count, 'STREAMS', stream, from)
  local messages = reply and reply[1] and reply[1][2] or {}
  local find, is_main, n = string.find, stream == MAIN, #ids
  for i = 1, #messages do
    local message = messages[i]
    local id, fields = message[1], message[2]
    if is_main and fields and fields[1] == 'minionize' and not fields[3]
        and not find(fields[2], '\n', 1, true) then
      n = n + 1
      ids[n] = id
      texts[n] = fields[2]
    elseif not fields then
      drop(stream, id)
      bury_trimmed(now, stream, id)
    else
      others[#others + 1] = {LETTER[stream] .. id, fields}
      if from == '>' and stream == MAIN and fields[1] ~= 'minionize' then call('HINCRBY', META, 'put', 1) end
    end
  end
  return #messages
end

local function read_all()
  for i, stream in ipairs(STREAMS) do
    local count = limit - #ids - #others
    if ARGV[3 + i] ~= '' and count > 0 then
      -- Those that were trimmed are gone from our hands then, and others follow.
      repeat
        local found = read(stream, ARGV[3 + i], count)
      until found < count or #ids + #others > limit - count
      -- Suspects come alone.
      if stream == SUSPECTS and #others > 0 then return end
    end
  end
  if #ids + #others > 0 then return end
  if read(SUSPECTS, '>', limit) > 0 then return end
  local got = read(BACK, '>', limit)
  if got < limit then got = got + read(MAIN, '>', limit - got) end
  while got < limit and orders[3] and tonumber(orders[3]) > 0 and unload() do
    got = got + read(MAIN, '>', limit - got)
  end
end

read_all()
local due, minions, drained = '', 0, 0
if #ids + #others == 0 then
  local first = call('ZRANGE', DUE, 0, 0, 'WITHSCORES')
  if first[2] then due = int(math.max(0, first[2] - now)) end
  minions = call('ZCARD', MINIONS)
  local meta = call('HMGET', META, 'done', 'purged', 'put')
  if (meta[1] or 0) + (meta[2] or 0) + call('XLEN', DEAD) >= tonumber(meta[3] or 0) then drained = 1 end
end
return {'ok', paused, stops, table.concat(ids, '\n'), table.concat(texts, '\n'), others, due, minions, drained}
