-- Gives a running job back to the queue, because its worker stops or its batch is paused.
-- ARGV: 1 epoch
-- Returns 1 if a message is to be sent, 2 if the batch is paused, 0 if the job is final or another worker's,
--         or NOT_FOUND.
-- Atomic: state, batch counts and the two lists through which jobs are found again change together.
local job = get(JOB, 'state', 'epoch', 'id', 'batch', 'parent')
if not job[1] then return NOT_FOUND end
if FINAL[job[1]] or job[2] ~= ARGV[1] then return 0 end
local paused = job[4] and call('HEXISTS', job[4], 'paused') == 1
park(job[3], not job[5] and job[4], job[1], paused)
return paused and 2 or 1
