-- Appends events to the trace of a job.
-- ARGV: 1 token of this append, then the payloads
-- Returns 1, or 0 where the job has ended and nothing is written, or NOT_FOUND.
-- Atomic: a repeat after a lost reply must not write twice, nor a worker that lost the job write after its end.
local state = call('HGET', JOB, 'state')
if not state then return NOT_FOUND end
if FINAL[state] or repeated(ARGV[1]) then return 0 end
for index = 2, #ARGV do call('XADD', TRACE, '*', 'e', ARGV[index]) end
live_as(JOB, TRACE)
return 1
