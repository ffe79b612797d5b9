-- Marks. ARGV: group, consumer, tokens.
for token in string.gmatch(ARGV[3], '%S+') do
  local stream, id = place(token)
  if is_mine(stream, id, ARGV[2]) then
    call('HDEL', MARKS, token)
    call('HSET', MARKS, token, 1)
  end
end
return 'ok'
