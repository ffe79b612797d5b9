-- A minion joins. ARGV: group, name, lease in ms, who it is. Returns its consumer's name, which is
-- new each time: what an older self of it held is taken over as a dead minion's. Also orders, and the server's
-- policy for a full memory: asked here, that takes no trip of its own.
if not exists() then return {'none'} end
if foreign_version() then return {'foreign', call('HGET', META, 'format')} end
call('ZREM', MINIONS, ARGV[2])
ensure(false)
local consumer = ARGV[2] .. ':' .. int(call('HINCRBY', META, 'generation', 1))
call('ZADD', MINIONS, int(now_ms() + ARGV[3]), consumer)
call('HSET', WHO, consumer, ARGV[4])
local orders = call('HMGET', META, 'paused', 'stops')
return {'ok', consumer, orders[1] or '', orders[2] or '', memory_policy()}
