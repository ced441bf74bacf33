-- Appends entries to the journal of a running job.
-- ARGV: 1 epoch, 2 turns begun so far, 3 number of entries, then the entries
-- Returns 1; 'refused <kind> <used> <limit> 0' if the job has no room for them; or NOT_FOUND, or SUPERSEDED if the
--         job is final or another worker's.
-- Atomic: a holder that was superseded must not write between its successor's read and write.
local job = get(JOB, 'state', 'epoch')
if not job[1] then return NOT_FOUND end
if job[1] ~= 'running' or job[2] ~= ARGV[1] then return SUPERSEDED end
return append_to_journal(2) or 1
