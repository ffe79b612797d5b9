-- Drop some. ARGV: group, which (dead, delayed, loads, main, back or suspects), the last message to look at.
-- Returns {how many, whether there is more}.
if not exists() then return {'none'} end
local which, last = ARGV[2], ARGV[3]
local purged, more = 0, 0
if which == 'delayed' then
  promote(now_ms())
  local found = call('ZRANGE', DUE, 0, 499)
  for _, id in ipairs(found) do
    call('ZREM', DUE, id)
    call('XDEL', LATER, id)
  end
  purged = #found
  more = #found == 500 and 1 or 0
elseif which == 'loads' then
  purged = tonumber(call('HGET', META, 'staged') or 0)
  call('DEL', LOADS)
  call('HSET', META, 'staged', 0)
elseif last ~= '' then
  local stream = ({dead = DEAD, main = MAIN, back = BACK, suspects = SUSPECTS})[which]
  local from = '-'
  if stream ~= DEAD then
    local _, delivered = group_of(stream)
    from = '(' .. delivered
  end
  local found = call('XRANGE', stream, from, last, 'COUNT', 500)
  local foreign = 0
  for _, message in ipairs(found) do
    call('XDEL', stream, message[1])
    if stream == DEAD then call('HDEL', GRAVES, message[2][2]) end
    if stream == MAIN and message[2][1] ~= 'minionize' then foreign = foreign + 1 end
  end
  if foreign > 0 then call('HINCRBY', META, 'put', foreign) end
  purged = #found
  more = #found == 500 and 1 or 0
  if stream ~= DEAD then mend_lag(stream) end
end
if purged > 0 then call('HINCRBY', META, 'purged', purged) end
return {'ok', purged, more}
