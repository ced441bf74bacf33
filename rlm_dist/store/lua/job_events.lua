-- Appends events to the trace of a job.
-- ARGV: 1 token of this append, then the payloads
-- Returns 1, or 0 if nothing is written because the job has ended or this is a repeat, or NOT_FOUND.
-- Atomic: a repeat after a lost reply must not write twice, and a worker that lost the job must not write after
-- its end.
local state = call('HGET', JOB, 'state')
if not state then return NOT_FOUND end
if FINAL[state] or repeated(ARGV[1]) then return 0 end
append_events(2, #ARGV)
return 1
