-- Ends a running job that has made no progress for a while: no event in its trace, and no sub-call settled.
-- ARGV: 1 for how long, in ms, 2 outcome (JSON), 3 retention_ms, 4 event for its trace
-- Returns 1 if this ended the job, 0 if it makes progress or does not run, or NOT_FOUND.
-- Atomic: a job that makes progress between the check and the end must not be ended. Its worker learns of the end
-- at its next renewal and can write nothing more. Its calls under way are given up, as if it had been cancelled.
local job = get(JOB, 'state', 'started_ms', 'live_children')
if not job[1] then return NOT_FOUND end
if job[1] ~= 'running' or number(job[3]) > 0 then return 0 end -- it may wait for a child

local moved_ms = number(job[2])
for _, stream in ipairs({TRACE, REPLIES}) do
  local last = call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
  if last then moved_ms = math.max(moved_ms, tonumber(last[1]:match('^%d+'))) end
end
if moved_ms > now_ms - ARGV[1] then return 0 end
call('HSET', JOB, 'cancel', 1)
call('XADD', TRACE, '*', 'e', ARGV[4])
end_job('running', 'failed', ARGV[2], ARGV[3], 'stalled')
return 1
