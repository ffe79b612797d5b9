-- So many messages that somebody else put were seen for the first time. ARGV: group, how many.
return call('HINCRBY', META, 'put', ARGV[2])
