-- Gives calls of a job back that were not made, or that the endpoint will take again once a person has helped.
-- ARGV: 1 owner of the calls, or of the job whose root calls they are, 2 why its batch is to be paused ('': it
--       is not), then the call ids
-- Returns for each call 1 where it was given back; 0 where it is not the owner's any more, where the job is
--         over, and where there is no batch to pause.
-- Atomic: a job that goes on between the two would ask for the calls again before its batch is paused.
local back = {}
for index = 3, #ARGV do back[index - 2] = 0 end
local job = get(JOB, 'state', 'batch', 'owner')
local batch = job[2] and call('EXISTS', job[2]) == 1 and job[2]
if not job[1] or FINAL[job[1]] or ARGV[2] ~= '' and not batch then return back end

local add = {reserved_nanousd = 0, reserved_tokens = 0}
for index = 3, #ARGV do
  local known = open_state(call('HGET', CALLS, ARGV[index]))
  if known and known.kind == 'c' and (known.owner == 'root' and job[3] or known.owner) == ARGV[1] then
    back[index - 2] = 1
    if known.owner == 'root' then
      add.reserved_nanousd = add.reserved_nanousd - known.money
      add.reserved_tokens = add.reserved_tokens - known.tokens
      add.duplicate_paid_calls = number(add.duplicate_paid_calls) + known.lapsed
      call('HDEL', CALLS, ARGV[index])
    else
      write_pending(ARGV[index], 0, known)
    end
  end
end
book(job, add, {})
if ARGV[2] ~= '' and call('HSETNX', batch, 'paused', 1) == 1 then call('HSET', batch, 'pause_reason', ARGV[2]) end
return back
