-- Claims calls of a job for a worker.
-- ARGV: 1 owner, 2 lease_ms, 3 token of this claim, 4 max_lapses, 5 poison result (JSON), then the call ids
-- Returns for each call its request if it was won, else false (settled, claimed, unknown; the job ends or has ended).
-- A call whose claim was abandoned in the middle more than max_lapses times is not claimed again: it ends as
-- failed.
-- Atomic: of two workers with the same call only one may win. A claim is recognized by its token, not its owner:
-- the broker may deliver a message twice to one worker, whose second claim must not win, but a claim that is
-- repeated after a lost reply must. While the batch is paused the message is consumed in vain. The call then
-- notes that it has no message, so that it is sent again after the pause.
local won, add, plus = {}, sums()
for index = 6, #ARGV do won[index - 5] = false end
local job = get(JOB, 'state', 'cancel', 'batch', 'epoch', 'stopping', 'parent')
if not job[1] or FINAL[job[1]] or job[2] or job[4] == job[5] then return won end
local flags = job[3] and get(job[3], 'cancelled', 'paused') or {}
if flags[1] then return won end

local function claim(id, record)
  if record.kind == 'c' and record.token ~= ARGV[3] then record.lapsed = record.lapsed + 1 end
  if record.lapsed > tonumber(ARGV[4]) then
    answer(id, ARGV[3], record, ARGV[1], ARGV[5], '1', plus)
    return false
  end
  plus('in_flight', write_claimed(id, now_ms + ARGV[2], record, ARGV[3], ARGV[1]))
  return call('HGET', REQUESTS, id)
end

for index = 6, #ARGV do
  local record = open_state(call('HGET', CALLS, ARGV[index]))
  if record and flags[2] then
    if record.kind == 'p' then write_pending(ARGV[index], 0, record) end
  elseif record and (record.kind == 'p' or record.at_ms <= now_ms or record.token == ARGV[3]) then
    won[index - 5] = claim(ARGV[index], record)
  end
end
if next(add) then book({job[1], job[3], job[6]}, add, {}) end
return won
