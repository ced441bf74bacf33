-- Counts the slots of the live workers, and the jobs that share them.
-- KEYS: 1 slots by worker, 2 end of each announcement, 3 leases of running jobs
-- ARGV: none
-- Returns {slots of all live workers, live workers, running jobs}.
-- Atomic: all three numbers are of one moment, by the server's clock.
local time = redis.call('TIME')
local now_ms = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
local slots, workers = 0, redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. now_ms, '+inf')
for _, worker in ipairs(workers) do
  slots = slots + tonumber(redis.call('HGET', KEYS[1], worker) or 0)
end
return {slots, #workers, redis.call('ZCARD', KEYS[3])}
