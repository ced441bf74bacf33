-- Puts a job into the lists of its batch, if an earlier version made the batch, or the job.
-- ARGV: 1 batch key, 2 name, 3 turns, 4 reason
-- Returns 1, or NOT_FOUND.
-- Atomic: the job may change its state between the read and the write.
local job = get(JOB, 'id', 'state', 'ended_ms', 'started_ms', 'ran_ms', 'since_ms')
if not job[1] or call('EXISTS', ARGV[1]) == 0 then return NOT_FOUND end
list_name(ARGV[1], job[1], ARGV[2])
list_state(ARGV[1], job[2])
if FINAL[job[2]] then
  call('HSETNX', JOB, 'turns', ARGV[3])
  call('HSETNX', JOB, 'reason', ARGV[4])
  local ran_ms = job[4] and number(job[5]) + number(job[3]) - number(job[6] or job[3])
  list_end(ARGV[1], job[1], job[2], ran_ms, ARGV[4])
end
local ttl = call('PTTL', ARGV[1])
if ttl > 0 then for_batch(ARGV[1], 'PEXPIRE', ttl) end
return 1
