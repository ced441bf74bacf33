-- Renews the lease of a running job.
-- ARGV: 1 epoch, 2 lease_ms, 3 for how long its clock stood still since the last renewal, in ms
-- Returns 'ok', 'paused', CANCELLED if the job is to stop, SUPERSEDED if another worker holds it or it has ended,
--         or NOT_FOUND.
-- Atomic: an old holder could take a lease back between the check of the epoch and the write.
local job = get(JOB, 'state', 'epoch', 'cancel', 'id', 'batch', 'parent')
if not job[1] then return NOT_FOUND end
if job[1] == 'cancelled' then return CANCELLED end
if job[1] ~= 'running' or job[2] ~= ARGV[1] then return SUPERSEDED end
local lease_ms = int(now_ms + ARGV[2])
call('HSET', JOB, 'lease_ms', lease_ms)
if tonumber(ARGV[3]) > 0 then call('HINCRBY', JOB, 'since_ms', ARGV[3]) end
call('ZADD', LEASES, lease_ms, job[4])
call('ZREM', QUEUED, job[4])
local flags = job[5] and get(job[5], 'cancelled', 'paused') or {}
if job[3] or flags[1] or to_stop(jobs_above(job[6])) then return CANCELLED end
return flags[2] and 'paused' or 'ok'
