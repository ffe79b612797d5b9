-- What the queue holds; reads only.
-- Returns {'ok', waiting, delayed, running, done, dead, purged, put, feeders, minions, paused, stops, due}.
if not exists() then return {'none'} end
if foreign_version() then return {'foreign', call('HGET', META, 'format')} end
local now = now_ms()
local waiting, running = counts()
local meta = call('HMGET', META, 'done', 'purged', 'put', 'paused', 'stops')
local first, due = call('ZRANGE', DUE, 0, 0, 'WITHSCORES'), ''
if first[2] then due = int(math.max(0, first[2] - now)) end
return {'ok', int(waiting), call('ZCARD', DUE), int(running), meta[1] or '0', call('XLEN', DEAD),
  meta[2] or '0', meta[3] or '0', call('ZCOUNT', FEEDERS, '(' .. int(now), '+inf'),
  call('ZCOUNT', MINIONS, '(' .. int(now), '+inf'), meta[4] or '', meta[5] or '', due}
