-- Appends an entry to the journal of a running job.
-- ARGV: 1 epoch, 2 entry, 3 turns begun so far
-- Returns 1; 'refused <kind> <used> <limit> 0' if the job has no room for it; or NOT_FOUND, or SUPERSEDED if the job
--         is final or another worker's.
-- Atomic: a holder that was superseded must not write between its successor's read and write. An entry equal to
-- the last one is the repeat of a write whose reply was lost, since each entry holds its turn and block.
local job = get(JOB, 'state', 'epoch')
if not job[1] then return NOT_FOUND end
if job[1] ~= 'running' or job[2] ~= ARGV[1] then return SUPERSEDED end
if call('LINDEX', JOURNAL, -1) == ARGV[2] then return 1 end
local refused = no_room(#ARGV[2])
if refused then return refused end
call('RPUSH', JOURNAL, ARGV[2])
call('HSET', JOB, 'turns', ARGV[3])
return 1
