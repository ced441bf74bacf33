-- Ends a running job.
-- ARGV: 1 epoch, 2 state, 3 outcome (JSON), 4 retention_ms, 5 turns, 6 why it has no answer, or ''
-- Returns 1 if this call or the one that it repeats ended the job, 0 if the job was final or is another worker's,
--         or NOT_FOUND.
-- Atomic: state, batch counts, TTLs, blob uses and the waking of waiters change together or not at all.
local job = get(JOB, 'state', 'epoch', 'outcome')
if not job[1] then return NOT_FOUND end
if job[2] ~= ARGV[1] then return 0 end
if job[1] ~= 'running' then return job[3] == ARGV[3] and 1 or 0 end
if tonumber(ARGV[5]) > number(call('HGET', JOB, 'turns')) then call('HSET', JOB, 'turns', ARGV[5]) end
end_job(job[1], ARGV[2], ARGV[3], ARGV[4], ARGV[6])
return 1
