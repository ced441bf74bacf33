-- Appends events to the trace of a job. One that the job has no room for is left out, unless it is short: the trace
-- shows how the job ended.
-- ARGV: 1 token of this append, then the payloads
-- Returns 1, or 0 if nothing is written because the job has ended or this is a repeat, or NOT_FOUND.
-- Atomic: a repeat after a lost reply must not write twice, and a worker that lost the job must not write after
-- its end.
local SHORT_BYTES = 2048
local state = call('HGET', JOB, 'state')
if not state then return NOT_FOUND end
if FINAL[state] or repeated(ARGV[1]) then return 0 end
for index = 2, #ARGV do
  if not no_room(#ARGV[index]) or #ARGV[index] <= SHORT_BYTES then call('XADD', TRACE, '*', 'e', ARGV[index]) end
end
live_as(JOB, TRACE)
return 1
