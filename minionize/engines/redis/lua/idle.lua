-- How many other minions hold nothing, beat less than half their lease ago, and have ids before this
-- one's. ARGV: group, consumer, how many are enough. Returns {'ok', how many}; reads only.
local consumer, enough = ARGV[2], tonumber(ARGV[3])
local now = now_ms()
if not alive(consumer, now) then return {exists() and 'gone' or 'none'} end

-- An older self has the same id, and comes neither before nor after.
local function id_of(name) return string.match(name, '^(.*):%d+$') or name end

local busy = {}
for _, stream in ipairs(STREAMS) do
  for _, holder in ipairs(call('XPENDING', stream, GROUP)[4] or {}) do busy[holder[1]] = true end
end

-- That nobody took it for dead yet is not enough: it may have died long before its lease is over.
local function beat_lately(name, till)
  local lease = string.match(call('HGET', WHO, name) or '', '"lease_ms": ?(%d+)')
  return lease and till - now > lease / 2
end

-- The latest beats first, a few at a time: nearly everybody sees enough at once.
local own, count, first, last = id_of(consumer), 0, 0, 99
while true do
  local some = call('ZRANGE', MINIONS, first, last, 'REV', 'WITHSCORES')
  for i = 1, #some, 2 do
    local name = some[i]
    if count < enough and not busy[name] and id_of(name) < own and beat_lately(name, some[i + 1]) then
      count = count + 1
    end
  end
  if #some < 2 * (last - first + 1) or count >= enough then return {'ok', count} end
  first, last = last + 1, last + 1000
end
