-- Claims calls of a job for a worker.
-- ARGV: 1 owner, 2 lease_ms, 3 token of this claim, then the call ids
-- Returns for each call its request where it was won, else false (settled, held, unknown, job over).
-- Atomic: of two workers with the same call one may win. The owner may not: the broker delivers a message
-- twice to the same worker. The token lets a repeat of a lost reply win again.
local won = {}
for index = 4, #ARGV do won[index - 3] = false end
local job = get(JOB, 'state', 'cancel', 'batch')
if not job[1] or FINAL[job[1]] or job[2] then return won end
local flags = job[3] and get(job[3], 'cancelled', 'paused') or {}
if flags[1] or flags[2] then return won end

local until_ms = int(now_ms + ARGV[2])
for index = 4, #ARGV do
  local id = ARGV[index]
  local state = call('HGET', CALLS, id)
  local kind, at_ms, money, tokens, token = (state or ''):match('^([pc]) (%d+) (%d+) (%d+) ?(%S*)')
  if kind == 'p' or kind == 'c' and (tonumber(at_ms) <= now_ms or token == ARGV[3]) then
    call('HSET', CALLS, id, table.concat({'c', until_ms, money, tokens, ARGV[3], ARGV[1]}, ' '))
    won[index - 3] = call('HGET', REQUESTS, id)
  end
end
return won
