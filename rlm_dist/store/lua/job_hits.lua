-- Counts calls that were answered from the store.
-- ARGV: 1 token of this count, 2 number of calls
-- Returns 1, or NOT_FOUND.
-- Atomic: a repeat after a lost reply must not count twice; job and batch count alike.
local job = get(JOB, 'state', 'batch')
if not job[1] then return NOT_FOUND end
if repeated(ARGV[1]) then return 1 end
call('HINCRBY', LEDGER, 'cache_hits', ARGV[2])
live_as(JOB, LEDGER)
if job[2] and call('EXISTS', job[2]) == 1 then
  call('HINCRBY', job[2] .. ':ledger', 'cache_hits', ARGV[2])
  live_as(job[2], job[2] .. ':ledger')
end
return 1
