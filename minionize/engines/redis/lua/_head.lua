-- What every script begins with. KEYS are those of keys.py, in that order; ARGV[1] is the group.
--
-- A message is delivered to one consumer, once: whoever gives it back or takes it over moves it,
-- as a new message, in the same step. So what is still pending belongs to the consumer it was
-- delivered to, and a token of old means nothing any more.
--
-- The first write of a script is one that a server without memory still allows (XACK, ZREM, ...);
-- after it all others are. Only scripts that put begin with one that it refuses.
local MAIN, BACK, SUSPECTS, LATER, DUE, DEAD, GRAVES, MARKS, MINIONS, WHO, FEEDERS, META, LOADS =
  unpack(KEYS, 1, 13)
local STREAMS = {SUSPECTS, BACK, MAIN}
local LETTER = {[MAIN] = '', [BACK] = 'b', [SUSPECTS] = 's'}
local GROUP = ARGV[1]
local FORMAT = '1 ' .. GROUP
local TRIMMED = 'trimmed from the stream'
local call, pcall_ = redis.call, redis.pcall

-- Milliseconds of the server's own clock: hosts need not agree about the time.
local function now_ms()
  local time = call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function int(number) return string.format('%.0f', number) end

-- A token is the id of a message, with a letter before it where it is not in the main stream.
local function place(token)
  local letter = string.sub(token, 1, 1)
  if letter == 'b' then return BACK, string.sub(token, 2) end
  if letter == 's' then return SUSPECTS, string.sub(token, 2) end
  return MAIN, token
end

local function exists() return call('EXISTS', META, MAIN) > 0 end

-- Makes what is missing; false where there is no queue and none is to be made.
local function ensure(create)
  if not exists() and not create then return false end
  for _, stream in ipairs(STREAMS) do
    local made = pcall_('XGROUP', 'CREATE', stream, GROUP, '0', 'MKSTREAM')
    if made['err'] and not string.find(made['err'], 'BUSYGROUP', 1, true) then error(made['err']) end
  end
  call('HSETNX', META, 'format', FORMAT)
  return true
end

local function foreign_version()
  local format = call('HGET', META, 'format')
  return format and format ~= FORMAT
end

local function alive(consumer, now)
  local till = call('ZSCORE', MINIONS, consumer)
  return till and tonumber(till) > now
end

local function is_mine(stream, id, consumer)
  return #call('XPENDING', stream, GROUP, id, id, 1, consumer) > 0
end

-- The message behind `token` is no longer pending, nor there at all.
local function drop(stream, id)
  call('XACK', stream, GROUP, id)
  call('XDEL', stream, id)
  return call('HDEL', MARKS, LETTER[stream] .. id)
end

-- (the param's id, its counts, the fields as they were put), from the fields of a message.
-- Counts: attempt, crashes, laters, suspect. In the main stream all fields are the putter's.
local function taken_apart(stream, id, fields)
  if stream == MAIN then return id, '1 0 0 0', fields end
  return fields[2], fields[4], {unpack(fields, 5)}
end

local function fields_at(stream, id)
  local found = call('XRANGE', stream, id, id)
  return found[1] and found[1][2]
end

local function place_back(name, counts, raw)
  local suspect = string.sub(counts, -1) == '1'
  return call('XADD', suspect and SUSPECTS or BACK, '*', '@id', name, '@n', counts, unpack(raw))
end

local function bury(now, name, counts, reason, detail, raw)
  local id = call('XADD', DEAD, '*', '@id', name, '@n', counts, '@why', reason,
    '@detail', detail, '@at', int(now), unpack(raw))
  call('HSET', GRAVES, name, id)
end

local function bury_trimmed(now, stream, id)
  bury(now, stream == MAIN and id or LETTER[stream] .. id, '1 0 0 0', TRIMMED,
    'somebody trimmed the stream (XTRIM, XDEL or MAXLEN) while a minion held this param: ' ..
    'its text is gone', {'minionize', 'null'})
end

local function group_of(stream)
  if call('EXISTS', stream) == 0 then return 0, '0-0' end
  for _, flat in ipairs(call('XINFO', 'GROUPS', stream)) do
    local group = {}
    for i = 1, #flat, 2 do group[flat[i]] = flat[i + 1] end
    if group['name'] == GROUP then return group['pending'], group['last-delivered-id'], group['lag'] end
  end
  return 0, '0-0'
end

-- Whether the id of one message is greater than another's.
local function is_newer(one, other)
  local a, b = string.match(one, '(%d+)%-(%d+)')
  local c, d = string.match(other, '(%d+)%-(%d+)')
  if #a ~= #c then return #a > #c end
  if a ~= c then return a > c end
  if #b ~= #d then return #b > #d end
  return b > d
end

-- Autoscalers go by the lag of the group: how many messages it has not read. The server gives up counting, or counts
-- wrong, once a message was deleted that was not read, or was the last one that was. So whoever deletes has the server
-- count on from what is there. Redis 6.2 has no lag; where a user may not do that, it stays as it is.
local function mend_lag(stream)
  local pending, delivered, lag = group_of(stream)
  if lag == nil then return end
  local ghosts = stream == MAIN and tonumber(call('HGET', META, 'ghosts') or 0) or 0
  local unread = math.max(0, call('XLEN', stream) - pending - ghosts)
  if lag == unread and pending == 0 then return end
  local flat, info = call('XINFO', 'STREAM', stream), {}
  for i = 1, #flat, 2 do info[flat[i]] = flat[i + 1] end
  local deleted, added = info['max-deleted-entry-id'], info['entries-added']
  if deleted == '0-0' or lag == unread and is_newer(delivered, deleted) then return end
  local said = pcall_('XGROUP', 'SETID', stream, GROUP, delivered, 'ENTRIESREAD', int(math.max(0, added - unread)))
  if said['err'] then return end
  pcall_('XSETID', stream, info['last-generated-id'], 'ENTRIESADDED', added, 'MAXDELETEDID', '0-1')
end

local function mend_lags()
  for _, stream in ipairs(STREAMS) do mend_lag(stream) end
end

-- Messages of main that were done and are still there, so many of them: those go before which nothing is
-- pending.
local function lay_ghosts(ghosts)
  if ghosts > 0 then
    local first = call('XPENDING', MAIN, GROUP, '-', '+', 1)[1]
    if first then
      ghosts = math.max(0, ghosts - call('XTRIM', MAIN, 'MINID', '=', first[1]))
    else
      local _, delivered = group_of(MAIN)
      local ms, seq = string.match(delivered, '(%d+)%-(%d+)')
      call('XTRIM', MAIN, 'MINID', '=', ms .. '-' .. int(seq + 1))
      ghosts = 0
    end
  end
  call('HSET', META, 'ghosts', ghosts)
end

-- After messages stopped being pending: what is done goes if it can, and the server counts on from what is there.
local function tidy()
  local ghosts = tonumber(call('HGET', META, 'ghosts') or 0)
  if ghosts > 0 then lay_ghosts(ghosts) end
  mend_lags()
end

-- Up to so many of what a consumer holds of a stream, from an id on, go back uncharged. Returns how many.
local function hand_back(stream, consumer, from, most)
  local held = call('XPENDING', stream, GROUP, from, '+', most, consumer)
  for _, pending in ipairs(held) do
    local id = pending[1]
    local fields = fields_at(stream, id)
    drop(stream, id)
    if fields then
      local name, counts, raw = taken_apart(stream, id, fields)
      place_back(name, counts, raw)
    else
      bury_trimmed(now_ms(), stream, id)
    end
  end
  if #held > 0 then tidy() end
  return #held
end

-- Delayed params whose time has come wait with the others.
local function promote(now)
  for _, id in ipairs(call('ZRANGEBYSCORE', DUE, '-inf', int(now), 'LIMIT', 0, 200)) do
    call('ZREM', DUE, id)
    local fields = fields_at(LATER, id)
    if fields then
      call('XDEL', LATER, id)
      place_back(fields[2], fields[4], {unpack(fields, 5)})
    end
  end
end

-- What a dead minion held is suspect; what it had marked is charged. A part at a time: others
-- must not wait for long.
local function take_over(now)
  local consumer = call('ZRANGEBYSCORE', MINIONS, '-inf', int(now), 'LIMIT', 0, 1)[1]
  if not consumer then return end
  local left = 500
  for _, stream in ipairs(STREAMS) do
    if left > 0 then
      for _, pending in ipairs(call('XPENDING', stream, GROUP, '-', '+', left, consumer)) do
        local id = pending[1]
        local fields = fields_at(stream, id)
        local marked = drop(stream, id)
        left = left - 1
        if fields then
          local name, counts, raw = taken_apart(stream, id, fields)
          local attempt, crashes, laters = string.match(counts, '(%d+) (%d+) (%d+)')
          place_back(name, attempt .. ' ' .. int(crashes + marked) .. ' ' .. laters .. ' 1', raw)
        else
          bury_trimmed(now, stream, id)
        end
      end
    end
  end
  if left < 500 then tidy() end
  if left > 0 then
    for _, stream in ipairs(STREAMS) do call('XGROUP', 'DELCONSUMER', stream, GROUP, consumer) end
    call('ZREM', MINIONS, consumer)
    call('HDEL', WHO, consumer)
  end
end

-- A put in parts that was announced, and is not yet in the stream: its next part.
local function unload()
  local texts = call('LPOP', LOADS)
  if not texts then return false end
  local count = 0
  for text in string.gmatch(texts, '[^\n]+') do
    call('XADD', MAIN, '*', 'minionize', text)
    count = count + 1
  end
  if call('EXISTS', LOADS) == 0 then
    call('HSET', META, 'staged', 0)
  else
    call('HINCRBY', META, 'staged', -count)
  end
  return true
end

-- What the server does when its memory is full, and how much that is, in bytes; nothing where this user may
-- not ask.
local function memory_policy()
  local said = pcall_('INFO', 'memory')
  if type(said) ~= 'string' then return '', '' end
  return string.match(said, 'maxmemory_policy:([%w-]+)') or '', string.match(said, 'maxmemory:(%d+)') or ''
end

-- waiting, running
local function counts()
  local waiting, running = tonumber(call('HGET', META, 'staged') or 0), 0
  for _, stream in ipairs(STREAMS) do
    local pending = group_of(stream)
    local ghosts = stream == MAIN and tonumber(call('HGET', META, 'ghosts') or 0) or 0
    waiting = waiting + math.max(0, call('XLEN', stream) - pending - ghosts)
    running = running + pending
  end
  return waiting, running
end
