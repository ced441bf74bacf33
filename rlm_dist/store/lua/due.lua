-- Takes jobs that are due from a list of jobs by time, and makes them due again later.
-- KEYS: 1 list (rlm:leases or rlm:queued)
-- ARGV: 1 how long a job must be overdue, in ms, 2 most jobs, 3 ms until they are due again
-- Returns the ids of the jobs.
-- Atomic: of many workers that look at once, one is to send a job again, not all.
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local last_ms = string.format('%.0f', now_ms - ARGV[1])
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', last_ms, 'LIMIT', 0, ARGV[2])
for _, id in ipairs(due) do
  redis.call('ZADD', KEYS[1], string.format('%.0f', now_ms + ARGV[3]), id)
end
return due
