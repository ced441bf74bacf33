-- Lets no further call of a running job be begun: the job is about to end.
-- ARGV: 1 epoch
-- Returns the number of its calls in flight; or NOT_FOUND, SUPERSEDED.
-- Atomic: a call that is begun after the count would be missing from it.
local job = get(JOB, 'state', 'epoch')
if not job[1] then return NOT_FOUND end
if job[1] ~= 'running' or job[2] ~= ARGV[1] then return SUPERSEDED end
call('HSET', JOB, 'stopping', ARGV[1])
return number(call('HGET', LEDGER, 'in_flight'))
