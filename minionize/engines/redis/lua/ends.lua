-- The newest messages of dead, main, back and suspects: what comes later is none of a purge's or a retry's
-- business. ARGV: group.
if not exists() then return {'none'} end
local ends = {}
for i, stream in ipairs({DEAD, MAIN, BACK, SUSPECTS}) do
  local last = call('XREVRANGE', stream, '+', '-', 'COUNT', 1)
  ends[i] = last[1] and last[1][1] or ''
end
return {'ok', unpack(ends)}
