-- Renews the leases of the calls of one job that a worker runs.
-- ARGV: 1 owner, 2 lease_ms, then the call ids
-- Returns 1; 0 where the job is cancelled or gone, so that its calls are to be given up; 2 where it has ended in
--         another way: calls under way go on, as the endpoint bills them and the ledger must hear of them.
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
return FINAL[job[1]] and 2 or 1
