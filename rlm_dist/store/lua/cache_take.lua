-- Asks for a cached result, or to be the leader, who makes the call.
-- KEYS: 1 result, 2 leader (who makes the call)
-- ARGV: 1 holder, 2 lease_ms
-- Returns {'hit', result}; {'lead', ''} if the holder is to make the call (a leader that asks again renews its
--         lease); or {'wait', ''} if another makes it.
-- Atomic: of all that ask at once, one makes the call; none does if the result is stored in between.
local result = redis.call('GET', KEYS[1])
if result then return {'hit', result} end
local leader = redis.call('GET', KEYS[2])
if leader and leader ~= ARGV[1] then return {'wait', ''} end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
return {'lead', ''}
