-- Adds to counters in the ledgers of a job and its batch.
-- ARGV: 1 token of this count, then counter, number, …
-- Returns 1, or NOT_FOUND.
-- Atomic: a repeat after a lost reply must not count twice; job and batch count alike.
local job = get(JOB, 'state', 'batch')
if not job[1] then return NOT_FOUND end
if repeated(ARGV[1]) then return 1 end
local batch = job[2] and call('EXISTS', job[2]) == 1 and job[2]
for index = 2, #ARGV, 2 do
  call('HINCRBY', LEDGER, ARGV[index], ARGV[index + 1])
  if batch then call('HINCRBY', batch .. ':ledger', ARGV[index], ARGV[index + 1]) end
end
live_as(JOB, LEDGER)
if batch then live_as(batch, batch .. ':ledger') end
return 1
