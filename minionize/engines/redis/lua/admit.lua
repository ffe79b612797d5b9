-- Whether what a blocking read brought may be kept. ARGV: group, consumer.
if not alive(ARGV[2], now_ms()) then return {exists() and 'gone' or 'none'} end
local orders = call('HMGET', META, 'paused', 'stops')
return {'ok', orders[1] or '', orders[2] or ''}
