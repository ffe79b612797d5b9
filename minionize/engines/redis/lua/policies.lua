-- By what the server may drop keys of the queue; reads only, and needs no queue. ARGV: group.
-- Returns {'ok', policy for a full memory, its bytes, how many keys were evicted (nothing: may not ask),
-- {key, ms until it expires}, ...}.
local policy, bytes = memory_policy()
local evicted = ''
if policy ~= '' then
  local said = pcall_('INFO', 'stats')
  if type(said) == 'string' then evicted = string.match(said, 'evicted_keys:(%d+)') or '' end
end
local found = {'ok', policy, bytes, evicted}
for _, key in ipairs(KEYS) do
  local left = pcall_('PTTL', key)
  if type(left) ~= 'number' then break end
  if left >= 0 then found[#found + 1] = {key, left} end
end
return found
