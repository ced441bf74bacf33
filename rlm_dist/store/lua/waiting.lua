-- Finds jobs that have waited too long, and restarts their waiting time.
-- KEYS: 1 list of waiting jobs (rlm:queued)
-- ARGV: 1 how long, in ms, 2 maximum number of jobs
-- Returns the ids of the jobs, the longest waiting first.
-- Atomic: of many workers that look at once, only one may send a job again.
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local last_ms = string.format('%.0f', now_ms - ARGV[1])
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', last_ms, 'LIMIT', 0, ARGV[2])
for _, id in ipairs(due) do
  redis.call('ZADD', KEYS[1], string.format('%.0f', now_ms), id)
end
return due
