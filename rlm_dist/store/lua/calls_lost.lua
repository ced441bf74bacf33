-- Finds calls that nobody works on, and counts their waiting from now on again: each is told once a time.
-- ARGV: 1 pending_ms, then the call ids
-- Returns the ids of those pending for longer than pending_ms, or with a lapsed lease; none during a pause.
-- Atomic: a call claimed between the look and the write would lose its claim.
local lost, let_go = {}, 0
local job = get(JOB, 'state', 'batch')
if FINAL[job[1] or 'failed'] or job[2] and call('HEXISTS', job[2], 'paused') == 1 then return lost end
for index = 2, #ARGV do
  local known = open_state(call('HGET', CALLS, ARGV[index]))
  local wait_ms = known and known.kind == 'p' and tonumber(ARGV[1]) or 0
  if known and known.at_ms + wait_ms <= now_ms then
    let_go = let_go + in_flight(known)
    if known.kind == 'c' then known.lapsed = known.lapsed + 1 end
    write_pending(ARGV[index], now_ms, known)
    lost[#lost + 1] = ARGV[index]
  end
end
add_to_both(job[2], {in_flight = 0 - let_go})
return lost
