-- Claims calls of a job for a worker.
-- ARGV: 1 owner, 2 lease_ms, 3 token of this claim, then the call ids
-- Returns for each call its request where it was won, else false (settled, held, unknown, job over).
-- Atomic: of two workers with the same call one may win. The owner may not: the broker delivers a message
-- twice to the same worker. The token lets a repeat of a lost reply win again. Where the batch is paused the
-- message is spent for nothing, which is noted so that the call is sent anew after the pause.
local won = {}
for index = 4, #ARGV do won[index - 3] = false end
local job = get(JOB, 'state', 'cancel', 'batch')
if not job[1] or FINAL[job[1]] or job[2] then return won end
local flags = job[3] and get(job[3], 'cancelled', 'paused') or {}
if flags[1] then return won end

local begun = 0

local function claim(id, known)
  if known.kind == 'c' and known.token ~= ARGV[3] then known.lapsed = known.lapsed + 1 end
  begun = begun + write_claimed(id, now_ms + ARGV[2], known, ARGV[3], ARGV[1])
  return call('HGET', REQUESTS, id)
end

for index = 4, #ARGV do
  local known = open_state(call('HGET', CALLS, ARGV[index]))
  if known and flags[2] then
    if known.kind == 'p' then write_pending(ARGV[index], 0, known) end
  elseif known and (known.kind == 'p' or known.at_ms <= now_ms or known.token == ARGV[3]) then
    won[index - 3] = claim(ARGV[index], known)
  end
end
add_to_both(job[3], {in_flight = begun})
return won
