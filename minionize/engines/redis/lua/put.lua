-- Put a few, or be alive as a feeder. ARGV: group, make the queue if missing, serial of this put, texts,
-- how many, feeder, its lease in ms (0: it does not feed), who it is. KEYS[14]: the last serial of this
-- feeder, so that a put whose answer was lost is not done twice. Says what was made: a stream, its group, or nothing.
local now = now_ms()
if foreign_version() then return {'foreign', call('HGET', META, 'format')} end
local made = ''
local again = ARGV[3] ~= '' and call('GET', KEYS[14]) == ARGV[3]
if not again then
  if call('HEXISTS', META, 'format') == 0 then
    made = call('EXISTS', MAIN) == 0 and 'stream' or 'group'
    if not ensure(ARGV[2] == '1') then return {'none'} end
  end
  for text in string.gmatch(ARGV[4], '[^\n]+') do call('XADD', MAIN, '*', 'minionize', text) end
  if ARGV[3] ~= '' then
    call('HINCRBY', META, 'put', ARGV[5])
    call('SET', KEYS[14], ARGV[3], 'PX', 3600000)
  end
end
if ARGV[7] ~= '0' then
  call('ZREM', FEEDERS, ARGV[6])
  call('ZADD', FEEDERS, int(now + ARGV[7]), ARGV[6])
  call('HSET', WHO, ARGV[6], ARGV[8])
end
return {'ok', made}
