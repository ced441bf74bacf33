-- Finds calls that nobody works on, and restarts their unclaimed timer: each is returned once per pending_ms.
-- ARGV: 1 pending_ms, then the call ids
-- Returns the ids of those pending for longer than pending_ms, or with a lapsed lease; none during a pause.
-- Atomic: a call claimed between the read and the write would lose its claim.
local lost, abandoned = {}, 0
local job = get(JOB, 'state', 'batch', 'parent')
if FINAL[job[1] or 'failed'] or job[2] and call('HEXISTS', job[2], 'paused') == 1 then return lost end
for index = 2, #ARGV do
  local record = open_state(call('HGET', CALLS, ARGV[index]))
  local wait_ms = record and record.kind == 'p' and tonumber(ARGV[1]) or 0
  if record and record.at_ms + wait_ms <= now_ms then
    abandoned = abandoned + in_flight(record)
    if record.kind == 'c' then record.lapsed = record.lapsed + 1 end
    write_pending(ARGV[index], now_ms, record)
    lost[#lost + 1] = ARGV[index]
  end
end
if abandoned > 0 then add_to_all(ledgers_of(jobs_above(job[3]), job[2]), {in_flight = 0 - abandoned}) end
return lost
