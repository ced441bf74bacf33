-- Ends the call that a holder had leave to make.
-- KEYS: 1 result, 2 who makes the call
-- ARGV: 1 holder, 2 result, or '' where there is none to keep, 3 ttl_ms
-- Returns 1.
-- Atomic: leave that another has been given meanwhile must stay.
if ARGV[2] ~= '' then redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
if redis.call('GET', KEYS[2]) == ARGV[1] then redis.call('DEL', KEYS[2]) end
return 1
