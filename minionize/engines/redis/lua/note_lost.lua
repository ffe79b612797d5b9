-- More was put than is anywhere: somebody trimmed the stream. One dead letter says so. ARGV: group.
local waiting, running = counts()
if running > 0 then return 0 end
-- Who trims takes done ones away, too; so they are not to be counted any more.
call('HDEL', META, 'swept')
lay_ghosts(1)
mend_lags()
waiting = counts()
local meta = call('HMGET', META, 'done', 'purged', 'put')
local purged = tonumber(meta[2] or 0)
local known = waiting + call('ZCARD', DUE) + tonumber(meta[1] or 0) + call('XLEN', DEAD) + purged
local lost = tonumber(meta[3] or 0) - known
if lost <= 0 then return 0 end
local now = now_ms()
call('HSET', META, 'purged', int(purged + lost - 1))
bury(now, 'lost-' .. int(now), '1 0 0 0', TRIMMED,
  int(lost) .. ' params are gone: somebody trimmed the stream (XTRIM, XDEL or MAXLEN) or deleted it',
  {'minionize', '{"lost":' .. int(lost) .. '}'})
return lost
