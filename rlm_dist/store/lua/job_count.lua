-- Adds to counters in the ledgers of a job, of those above it and of its batch.
-- ARGV: 1 token of this count, then counter, number, …
-- Returns 1, or NOT_FOUND.
-- Atomic: a repeat after a lost reply must not count twice; all count alike.
local job = get(JOB, 'state', 'batch', 'parent')
if not job[1] then return NOT_FOUND end
if repeated(ARGV[1]) then return 1 end
local batch = job[2] and call('EXISTS', job[2]) == 1 and job[2]
local above, add = jobs_above(job[3]), {}
for index = 2, #ARGV, 2 do add[ARGV[index]] = tonumber(ARGV[index + 1]) end
add_to_all(ledgers_of(above, batch), add)
live_as(JOB, LEDGER)
for _, each in ipairs(above) do live_as(each.key, each.ledger) end
if batch then live_as(batch, batch .. ':ledger') end
return 1
