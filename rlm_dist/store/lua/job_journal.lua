-- Appends an entry to the journal of a running job.
-- ARGV: 1 epoch, 2 entry
-- Returns 1, or NOT_FOUND, or SUPERSEDED if the job is final or another worker's.
-- Atomic: a holder that was superseded must not write between its successor's read and write. An entry equal to
-- the last one is the repeat of a write whose reply was lost, since each entry holds its turn and block.
local job = get(JOB, 'state', 'epoch')
if not job[1] then return NOT_FOUND end
if job[1] ~= 'running' or job[2] ~= ARGV[1] then return SUPERSEDED end
if call('LINDEX', JOURNAL, -1) ~= ARGV[2] then call('RPUSH', JOURNAL, ARGV[2]) end
return 1
