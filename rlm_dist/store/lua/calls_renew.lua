-- Renews the leases of the calls of one job that a worker runs.
-- ARGV: 1 owner, 2 lease_ms, then the call ids
-- Returns 1, or 0 where the job is cancelled or gone: its calls are to be given up. Those of a job that ended
-- in another way go on: the endpoint bills them, so the ledger must hear of them.
-- Atomic: a call that was settled or claimed by another since must not be taken back.
local job = get(JOB, 'state', 'cancel', 'batch')
if not job[1] or job[1] == 'cancelled' or job[2] then return 0 end
if job[3] and call('HEXISTS', job[3], 'cancelled') == 1 then return 0 end
for index = 3, #ARGV do
  local known = open_state(call('HGET', CALLS, ARGV[index]))
  if known and known.owner == ARGV[1] then
    write_claimed(ARGV[index], now_ms + ARGV[2], known, known.token, known.owner)
  end
end
return 1
