-- Moves running jobs whose lease has lapsed to the list of waiting jobs.
-- KEYS: 1 leases (rlm:leases), 2 list of waiting jobs (rlm:queued)
-- ARGV: 1 maximum number of jobs
-- Returns the ids of the jobs.
-- Atomic: of many workers that look at once, only one may send a job again. A job on neither list would be
-- forgotten.
local time = redis.call('TIME')
local now_ms = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
local lapsed = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now_ms, 'LIMIT', 0, ARGV[1])
for _, id in ipairs(lapsed) do
  redis.call('ZADD', KEYS[2], now_ms, id)
  redis.call('ZREM', KEYS[1], id)
end
return lapsed
