-- The next announced part into the stream. ARGV: group, feeder, its lease in ms. 0: there was none.
if ARGV[3] ~= '0' then
  call('ZREM', FEEDERS, ARGV[2])
  call('ZADD', FEEDERS, int(now_ms() + ARGV[3]), ARGV[2])
end
return unload() and 1 or 0
