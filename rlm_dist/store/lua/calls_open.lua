-- Opens calls of a job and reserves their budget.
-- ARGV: 1 epoch, then for each call: id, role, request, reserve_nanousd ('' unknown), reserve_tokens
-- Returns for each 'new', 'pending', 'settled', 'refused <kind> <used> <limit> <needed>'; or NOT_FOUND, CANCELLED, …
-- A root call first uses what is kept for it.
-- Atomic: two callers that both check a budget before either reserves would both pass.
local job = get(JOB, 'state', 'epoch', 'cancel', 'batch', 'max_nanousd', 'max_tokens', 'max_sub_calls', 'parent')
if not job[1] then return NOT_FOUND end
local above = jobs_above(job[8])
if job[1] == 'cancelled' or job[3] or to_stop(above) then return CANCELLED end
if job[1] ~= 'running' or job[2] ~= ARGV[1] then return SUPERSEDED end
local batch, mine = job[4], 'e' .. ARGV[1]
if batch and call('HEXISTS', batch, 'paused') == 1 then return PAUSED end
local opened, begun, reserved = 0, 0, {0, 0}
local budgets, own = budgets_of(above, batch, job[5], job[6]), {root = kept(), sub = {0, 0}}
local limits = call_limits(job[7], above)

local function refusal(role, reservation)
  local refused = role == 'sub' and too_many(limits, opened)
  for _, pair in ipairs(budgets) do refused = refused or overrun(pair, reservation, own[role]) end
  return refused
end

local function open(id, role, request, reservation)
  local text = call('HGET', CALLS, id)
  local record = open_state(text)
  if record and role == 'root' and record.token ~= mine then
    record.lapsed = record.lapsed + 1
    begun = begun + write_claimed(id, 0, record, mine, 'root')
  end
  if text then return record and 'pending' or 'settled' end
  local refused = refusal(role, reservation) or role == 'sub' and no_room(#request)
  if refused then return refused end
  reservation[1] = reservation[1] or 0
  local new = {money = int(reservation[1]), tokens = int(reservation[2]), lapsed = 0}
  if role == 'root' then
    begun = begun + write_claimed(id, 0, new, mine, 'root')
  else
    write_pending(id, now_ms, new)
    opened = opened + call('HSET', REQUESTS, id, request)
  end
  for index = 1, 2 do
    local drawn = math.min(own[role][index], reservation[index])
    own[role][index] = own[role][index] - drawn
    reserved[index] = reserved[index] + reservation[index] - drawn
    for _, pair in ipairs(budgets) do pair[index].used = pair[index].used + reservation[index] - drawn end
  end
  return 'new'
end

local states = {}
for at = 2, #ARGV, 5 do
  states[#states + 1] = open(ARGV[at], ARGV[at + 1], ARGV[at + 2], {tonumber(ARGV[at + 3]), ARGV[at + 4] + 0})
end
local add = {reserved_nanousd = reserved[1], reserved_tokens = reserved[2], in_flight = begun}
add_to_all(ledgers_of(above, batch), add)
write_kept(own.root)
add_to_all(ledgers_of(above), {sub_calls = opened})
return states
