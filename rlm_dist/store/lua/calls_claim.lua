-- Claims calls of a job for a worker.
-- ARGV: 1 owner, 2 lease_ms, 3 token of this claim, 4 max_lapses, 5 poison result (JSON), then the call ids
-- Returns for each call its request where it was won, else false (settled, held, unknown, job over).
-- A call that was let go of in the middle more than max_lapses times is not given out again: it ends as failed.
-- Atomic: of two workers with the same call one may win. The owner may not: the broker delivers a message
-- twice to the same worker. The token lets a repeat of a lost reply win again. Where the batch is paused the
-- message is spent for nothing, which is noted so that the call is sent anew after the pause.
local won, add, plus = {}, sums()
for index = 6, #ARGV do won[index - 5] = false end
local job = get(JOB, 'state', 'cancel', 'batch')
if not job[1] or FINAL[job[1]] or job[2] then return won end
local flags = job[3] and get(job[3], 'cancelled', 'paused') or {}
if flags[1] then return won end

local function claim(id, known)
  if known.kind == 'c' and known.token ~= ARGV[3] then known.lapsed = known.lapsed + 1 end
  if known.lapsed > tonumber(ARGV[4]) then
    answer(id, ARGV[3], known, ARGV[1], ARGV[5], '1', plus)
    return false
  end
  plus('in_flight', write_claimed(id, now_ms + ARGV[2], known, ARGV[3], ARGV[1]))
  return call('HGET', REQUESTS, id)
end

for index = 6, #ARGV do
  local known = open_state(call('HGET', CALLS, ARGV[index]))
  if known and flags[2] then
    if known.kind == 'p' then write_pending(ARGV[index], 0, known) end
  elseif known and (known.kind == 'p' or known.at_ms <= now_ms or known.token == ARGV[3]) then
    won[index - 5] = claim(ARGV[index], known)
  end
end
if next(add) then book({job[1], job[3]}, add, {}) end
return won
