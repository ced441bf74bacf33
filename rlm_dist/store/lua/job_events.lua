-- Appends events to the trace of a job.
-- ARGV: 1 token of this append, then the payloads
-- Returns 1, or NOT_FOUND.
-- Atomic: a repeat after a lost reply must not write twice, nor a late write leave a trace without TTL.
if call('EXISTS', JOB) == 0 then return NOT_FOUND end
if repeated(ARGV[1]) then return 1 end
for index = 2, #ARGV do call('XADD', TRACE, '*', 'e', ARGV[index]) end
live_as(JOB, TRACE)
return 1
