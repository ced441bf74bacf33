-- Gives back calls of a job that were not made, or that the endpoint will accept again once a person has helped.
-- ARGV: 1 owner of the calls, or of the job whose root calls they are, 2 why its batch is to be paused ('' if it
--       is not), then the call ids
-- Returns the batch (its key) if this paused it, else ''; then for each call 1 if it was given back; 0 if the owner
--         does not have it any more, if the job has ended, or if there is a reason to pause but no batch. What was
--         reserved for a root call is kept for its repeat.
-- Atomic: a job that runs between giving back and pausing would make the calls again before its batch is paused.
local returned = {''}
for index = 3, #ARGV do returned[index - 1] = 0 end
local job = get(JOB, 'state', 'batch', 'parent', 'owner')
local batch = job[2] and call('EXISTS', job[2]) == 1 and job[2]
if not job[1] or FINAL[job[1]] or ARGV[2] ~= '' and not batch then return returned end

local add, plus = sums()
for index = 3, #ARGV do
  local record = open_state(call('HGET', CALLS, ARGV[index]))
  if record and record.kind == 'c' and (record.owner == 'root' and job[4] or record.owner) == ARGV[1] then
    returned[index - 1] = 1
    plus('in_flight', 0 - in_flight(record))
    if record.owner == 'root' then
      local room = kept()
      write_kept({room[1] + record.money, room[2] + record.tokens})
      plus('duplicate_paid_calls', record.lapsed)
      call('HDEL', CALLS, ARGV[index])
    else
      write_pending(ARGV[index], 0, record)
    end
  end
end
book(job, add, {})
if ARGV[2] ~= '' and call('HSETNX', batch, 'paused', 1) == 1 then
  call('HSET', batch, 'pause_reason', ARGV[2])
  returned[1] = batch
end
return returned
