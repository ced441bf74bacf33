-- Ends the call of a leader, and caches its result.
-- KEYS: 1 result, 2 leader (who makes the call)
-- ARGV: 1 holder, 2 result, or '' if there is none to cache, 3 ttl_ms
-- Returns 1.
-- Atomic: a holder whose lease lapsed must not end the lease of the next leader.
if ARGV[2] ~= '' then redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
if redis.call('GET', KEYS[2]) == ARGV[1] then redis.call('DEL', KEYS[2]) end
return 1
