-- Counts calls that were answered from the store.
-- ARGV: 1 token of this count, 2 number of calls
-- Returns 1, or NOT_FOUND.
-- Atomic: a repeat after a lost reply must not count twice; job and batch count alike.
local job = get(JOB, 'state', 'hits_token', 'batch')
if not job[1] then return NOT_FOUND end
if job[2] == ARGV[1] then return 1 end
call('HSET', JOB, 'hits_token', ARGV[1])
call('HINCRBY', LEDGER, 'cache_hits', ARGV[2])
live_as(JOB, LEDGER)
if job[3] and call('EXISTS', job[3]) == 1 then
  call('HINCRBY', job[3] .. ':ledger', 'cache_hits', ARGV[2])
  live_as(job[3], job[3] .. ':ledger')
end
return 1
