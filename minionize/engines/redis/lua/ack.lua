-- Done. ARGV: group, tokens, those of them that are marked, '1' if their texts are large, 'purged' if
-- they count as that. What is not pending is passed over.
--
-- Deleting messages of main one by one costs more than all else. So they stay for a while, are counted
-- as `ghosts`, and go together when nothing before them is pending any more; unless there are too many.
local MOST_GHOSTS = 10000
local ids = {[MAIN] = {}, [BACK] = {}, [SUSPECTS] = {}}
if string.find(ARGV[2], '[bs]') then
  for token in string.gmatch(ARGV[2], '%S+') do
    local stream, id = place(token)
    local list = ids[stream]
    list[#list + 1] = id
  end
else
  local list, n = ids[MAIN], 0
  for id in string.gmatch(ARGV[2], '%S+') do
    n = n + 1
    list[n] = id
  end
end
local function settle(stream, delete)
  local list, settled = ids[stream], 0
  for first = 1, #list, 1000 do
    local last = math.min(first + 999, #list)
    settled = settled + call('XACK', stream, GROUP, unpack(list, first, last))
    if delete then call('XDEL', stream, unpack(list, first, last)) end
  end
  return settled
end
local done = settle(BACK, true) + settle(SUSPECTS, true)
if done > 0 then
  mend_lag(BACK)
  mend_lag(SUSPECTS)
end
if #ids[MAIN] > 0 then
  local ghosts = tonumber(call('HGET', META, 'ghosts') or 0)
  local delete = ARGV[4] == '1' or ghosts + #ids[MAIN] > MOST_GHOSTS
  local settled = settle(MAIN, delete)
  done = done + settled
  if settled > 0 then lay_ghosts(delete and ghosts or ghosts + settled) end
  if delete then mend_lag(MAIN) end
end
for token in string.gmatch(ARGV[3], '%S+') do call('HDEL', MARKS, token) end
if done > 0 then call('HINCRBY', META, ARGV[5] or 'done', done) end
return done
