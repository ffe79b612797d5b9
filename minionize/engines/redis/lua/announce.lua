-- All parts of a large put are there: from now on they are in the queue. ARGV: group, serial,
-- parts, params. KEYS[14], KEYS[15]: the parts, the last serial of this feeder.
if foreign_version() then return {'foreign', call('HGET', META, 'format')} end
if call('GET', KEYS[15]) == ARGV[2] then return {'ok'} end
if call('LLEN', KEYS[14]) ~= tonumber(ARGV[3]) then return {'expired'} end
if call('EXISTS', LOADS) == 0 then
  call('RENAME', KEYS[14], LOADS)
  call('PERSIST', LOADS)
else
  for _ = 1, tonumber(ARGV[3]) do call('RPUSH', LOADS, call('LPOP', KEYS[14])) end
end
ensure(true)
call('HINCRBY', META, 'staged', ARGV[4])
call('HINCRBY', META, 'put', ARGV[4])
call('SET', KEYS[15], ARGV[2], 'PX', 3600000)
return {'ok'}
