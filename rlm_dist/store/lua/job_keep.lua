-- Restarts the retention of a job that has ended, and of its blobs, because a later job of its session needs it.
-- ARGV: 1 retention_ms
-- Returns 1, also if the job has not ended, or NOT_FOUND.
-- Atomic: a job that expires by halves could not be run again.
local job = get(JOB, 'state', 'id')
if not job[1] then return NOT_FOUND end
if FINAL[job[1]] then
  release_blobs(job[2], ARGV[1])
  for _, key in ipairs(OWN) do call('PEXPIRE', key, ARGV[1]) end
end
return 1
