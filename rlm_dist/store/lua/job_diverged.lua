-- Records how many cells of a running job differed from its journal.
-- ARGV: 1 epoch, 2 cells
-- Returns 1, or NOT_FOUND, or SUPERSEDED if the job is final or another worker's.
-- Atomic: a write after the job expired would leave a key that never expires.
local job = get(JOB, 'state', 'epoch')
if not job[1] then return NOT_FOUND end
if job[1] ~= 'running' or job[2] ~= ARGV[1] then return SUPERSEDED end
call('HSET', JOB, 'diverged', ARGV[2])
return 1
