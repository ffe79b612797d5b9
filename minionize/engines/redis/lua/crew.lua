-- Minions and feeders alive: {is it a feeder, name, ms until its end, who it is}, flat. ARGV: group.
if not exists() then return {'none'} end
local now, found = now_ms(), {}
for i, key in ipairs({MINIONS, FEEDERS}) do
  local some = call('ZRANGEBYSCORE', key, '(' .. int(now), '+inf', 'WITHSCORES')
  for j = 1, #some, 2 do
    found[#found + 1] = {i - 1, some[j], int(some[j + 1] - now), call('HGET', WHO, some[j]) or ''}
  end
end
return {'ok', found}
