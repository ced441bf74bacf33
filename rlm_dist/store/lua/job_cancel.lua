-- Cancels a job: one that nobody runs ends now, a running one is marked to stop, a final one stays as it is.
-- ARGV: 1 cancelled outcome (JSON), 2 retention_ms
-- Returns the state of the job afterwards, or NOT_FOUND.
-- Atomic: a worker could take the job up between the read of the state and the write.
local job = get(JOB, 'state', 'lease_ms')
local state = job[1]
if not state then return NOT_FOUND end
if FINAL[state] then return state end
call('HSET', JOB, 'cancel', 1)
if state == 'queued' or tonumber(job[2]) <= now_ms then
  end_job(state, 'cancelled', ARGV[1], ARGV[2])
  return 'cancelled'
end
return state
