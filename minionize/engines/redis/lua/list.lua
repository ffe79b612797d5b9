-- A page of params. ARGV: group, which stream (main, back, suspects, later, dead), running or not, the id to
-- begin at, how many. Returns {'ok', {id, fields, holder or ms until due}, ...}; reads only.
if not exists() then return {'none'} end
local stream = ({main = MAIN, back = BACK, suspects = SUSPECTS, later = LATER, dead = DEAD})[ARGV[2]]
local count, found = tonumber(ARGV[5]), {}
if ARGV[3] == '1' then
  if group_of(stream) == 0 then return {'ok'} end
  for _, pending in ipairs(call('XPENDING', stream, GROUP, ARGV[4], '+', count)) do
    found[#found + 1] = {pending[1], fields_at(stream, pending[1]) or {}, pending[2]}
  end
elseif stream == LATER then
  local now = now_ms()
  for _, message in ipairs(call('XRANGE', stream, ARGV[4], '+', 'COUNT', count)) do
    local due = call('ZSCORE', DUE, message[1])
    found[#found + 1] = {message[1], message[2], due and int(math.max(0, due - now)) or '0'}
  end
else
  local from = ARGV[4]
  if stream ~= DEAD and from == '-' then
    local _, delivered = group_of(stream)
    from = '(' .. delivered
  end
  for _, message in ipairs(call('XRANGE', stream, from, '+', 'COUNT', count)) do
    found[#found + 1] = {message[1], message[2], ''}
  end
end
return {'ok', unpack(found)}
