-- Stores the result of a tool's call of a running job, unless it has one, and counts the call for the job, those above it and its batch.
-- ARGV: 1 epoch, 2 call id, 3 result
-- Returns {the stored result}; 'refused <kind> <used> <limit> 0' if the job has no room for it; or NOT_FOUND, or
--         SUPERSEDED if the job is final or another worker's.
-- Atomic: a holder that was superseded must not write; a repeat after a lost reply must not count twice.
local job = get(JOB, 'state', 'epoch', 'batch', 'parent')
if not job[1] then return NOT_FOUND end
if job[1] ~= 'running' or job[2] ~= ARGV[1] then return SUPERSEDED end
local stored = call('HGET', TOOLS, ARGV[2])
if stored then return {stored} end
local refused = no_room(#ARGV[2] + #ARGV[3])
if refused then return refused end
call('HSET', TOOLS, ARGV[2], ARGV[3])
add_to_all(ledgers_of(jobs_above(job[4]), job[3] and call('EXISTS', job[3]) == 1 and job[3]), {tool_calls = 1})
return {ARGV[3]}
