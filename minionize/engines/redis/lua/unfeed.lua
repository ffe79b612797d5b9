-- A feeder is done. ARGV: group, feeder.
call('ZREM', FEEDERS, ARGV[2])
call('HDEL', WHO, ARGV[2])
return 'ok'
