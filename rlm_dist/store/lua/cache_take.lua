-- Asks for a cached result, or for leave to be the one who makes the call.
-- KEYS: 1 result, 2 who makes the call
-- ARGV: 1 holder, 2 lease_ms
-- Returns {'hit', result}, {'lead', ''} where the call is the holder's to make (again: its lease is renewed), or
--         {'wait', ''} where another makes it.
-- Atomic: of all who ask at once one is to make the call; and none, where the result comes in between.
local result = redis.call('GET', KEYS[1])
if result then return {'hit', result} end
local leader = redis.call('GET', KEYS[2])
if leader and leader ~= ARGV[1] then return {'wait', ''} end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
return {'lead', ''}
