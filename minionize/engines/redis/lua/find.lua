-- Params of these ids that need no search. ARGV: group, then ids. Returns {'ok', {id, state, message, fields,
-- holder}, ...}; reads only.
if not exists() then return {'none'} end
local found = {}
local _, delivered = group_of(MAIN)
for i = 2, #ARGV do
  local id = ARGV[i]
  local grave = call('HGET', GRAVES, id)
  if grave then
    local fields = fields_at(DEAD, grave)
    if fields then found[#found + 1] = {id, 'dead', grave, fields, ''} end
  elseif string.find(id, '^%d+%-%d+$') then
    local fields = fields_at(MAIN, id)
    if fields then
      local pending = delivered ~= '0-0' and call('XPENDING', MAIN, GROUP, id, id, 1)[1]
      local holder = pending and pending[2] or ''
      if holder ~= '' then
        found[#found + 1] = {id, 'running', id, fields, holder}
      elseif is_newer(id, delivered) then
        found[#found + 1] = {id, 'waiting', id, fields, ''}
      end
    end
  end
end
return {'ok', unpack(found)}
