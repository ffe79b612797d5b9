-- A minion leaves; what it holds goes back uncharged. ARGV: group, consumer. Returns 1 if there is more.
local consumer = ARGV[2]
if not alive(consumer, now_ms()) then return 0 end
local left = 500
for _, stream in ipairs(STREAMS) do
  if left > 0 then left = left - hand_back(stream, consumer, '-', left) end
end
if left == 0 then return 1 end
for _, stream in ipairs(STREAMS) do call('XGROUP', 'DELCONSUMER', stream, GROUP, consumer) end
call('ZREM', MINIONS, consumer)
call('HDEL', WHO, consumer)
return 0
