-- Streams or groups are gone while the queue is there: somebody deleted them. ARGV: group.
if not ensure(false) then return {'none'} end
return {'ok'}
