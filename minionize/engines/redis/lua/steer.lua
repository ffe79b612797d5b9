-- ARGV: group, paused ('1', '0' or nothing), whether to stop.
if not exists() then return {'none'} end
call('HDEL', META, 'swept')
if ARGV[2] ~= '' then call('HSET', META, 'paused', ARGV[2]) end
if ARGV[3] == '1' then call('HINCRBY', META, 'stops', 1) end
return {'ok'}
