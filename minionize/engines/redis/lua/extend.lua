-- The beat. ARGV: group, consumer, lease in ms, who it is. Also looks for consumers with messages and
-- without a beat, whoever made them.
local consumer, lease = ARGV[2], tonumber(ARGV[3])
local now = now_ms()
if not alive(consumer, now) then return {exists() and 'gone' or 'none'} end
call('ZREM', MINIONS, consumer)
call('ZADD', MINIONS, int(now + lease), consumer)
call('HSET', WHO, consumer, ARGV[4])
promote(now)
take_over(now)
local orders = call('HMGET', META, 'paused', 'stops', 'swept')
if not orders[3] or now - orders[3] > lease / 2 or now < tonumber(orders[3]) then
  call('HSET', META, 'swept', int(now))
  for _, feeder in ipairs(call('ZRANGEBYSCORE', FEEDERS, '-inf', int(now))) do
    call('ZREM', FEEDERS, feeder)
    call('HDEL', WHO, feeder)
  end
  for _, stream in ipairs(STREAMS) do
    for _, flat in ipairs(call('XINFO', 'CONSUMERS', stream, GROUP)) do
      local other = {}
      for i = 1, #flat, 2 do other[flat[i]] = flat[i + 1] end
      if not call('ZSCORE', MINIONS, other['name']) then
        if other['pending'] == 0 then
          call('XGROUP', 'DELCONSUMER', stream, GROUP, other['name'])
        elseif other['idle'] > lease then
          call('ZADD', MINIONS, 0, other['name'])
        end
      end
    end
  end
  mend_lags()  -- for those that delete what is not theirs
end
return {'ok', orders[1] or '', orders[2] or ''}
