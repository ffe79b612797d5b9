-- A part of a large put, aside. ARGV: group, its number from 0, its texts, feeder, its lease in ms (0: it
-- does not feed). KEYS[14]: where; it goes by itself if nobody announces it. 0: parts of it went already.
local parts = call('LLEN', KEYS[14])
if parts ~= tonumber(ARGV[2]) + 1 then
  if parts ~= tonumber(ARGV[2]) then return 0 end
  call('RPUSH', KEYS[14], ARGV[3])
end
call('PEXPIRE', KEYS[14], 3600000)
if ARGV[5] ~= '0' then call('ZADD', FEEDERS, int(now_ms() + ARGV[5]), ARGV[4]) end
return 1
