-- Finds calls that nobody works on, and counts their waiting from now on again: each is told once a time.
-- ARGV: 1 pending_ms, then the call ids
-- Returns the ids of those pending for longer than pending_ms, or with a lapsed lease.
-- Atomic: a call claimed between the look and the write would lose its claim.
local lost = {}
if FINAL[call('HGET', JOB, 'state') or 'failed'] then return lost end
for index = 2, #ARGV do
  local id = ARGV[index]
  local state = call('HGET', CALLS, id)
  local kind, at_ms, money, tokens = (state or ''):match('^([pc]) (%d+) (%d+) (%d+)')
  local wait_ms = kind == 'p' and tonumber(ARGV[1]) or 0
  if kind and tonumber(at_ms) + wait_ms <= now_ms then
    call('HSET', CALLS, id, table.concat({'p', int(now_ms), money, tokens}, ' '))
    lost[#lost + 1] = id
  end
end
return lost
