-- All whose time has come. ARGV: group.
if not exists() then return {'none'} end
promote(now_ms())
return {'ok'}
