-- Renews the leases of the calls of one job that a worker runs.
-- ARGV: 1 owner, 2 lease_ms, then the call ids
-- Returns 1; 0 if the job is cancelled or gone, so that its calls are to be given up; 2 if it ends or has ended in
--         another way: calls under way go on, as the endpoint bills them and the ledger must count them.
-- Atomic: a call that was settled, or claimed by another worker, in between must not be taken back.
local job = get(JOB, 'state', 'cancel', 'batch', 'epoch', 'stopping')
if not job[1] or job[1] == 'cancelled' or job[2] then return 0 end
if job[3] and call('HEXISTS', job[3], 'cancelled') == 1 then return 0 end
for index = 3, #ARGV do
  local record = open_state(call('HGET', CALLS, ARGV[index]))
  if record and record.owner == ARGV[1] then
    write_claimed(ARGV[index], now_ms + ARGV[2], record, record.token, record.owner)
  end
end
return (FINAL[job[1]] or job[4] == job[5]) and 2 or 1
