-- Opens calls of a job and reserves their budget, after what they rest on was appended to the journal.
-- ARGV: 1 epoch, 2 turns begun so far, 3 number of entries for the journal, the entries,
--       then for each call: id, role, request, reserve_nanousd ('' unknown), reserve_tokens
-- The role 'ahead' is a sub-call that no code has asked for yet: it must leave a quarter of each budget free.
-- Returns for each 'new', 'pending', 'settled', 'refused <kind> <used> <limit> <needed>'; or NOT_FOUND, CANCELLED, …
-- or such a refusal of the entries. A root call first uses what is kept for it.
-- Atomic: two callers that both check a budget before either reserves would both pass.
local job = get(JOB, 'state', 'epoch', 'cancel', 'batch', 'max_nanousd', 'max_tokens', 'max_sub_calls', 'parent')
if not job[1] then return NOT_FOUND end
local above, batch, mine = jobs_above(job[8]), job[4], 'e' .. ARGV[1]
local holds = job[1] == 'running' and job[2] == ARGV[1]
local unwritten = holds and append_to_journal(2)
if unwritten then return unwritten end
if job[1] == 'cancelled' or job[3] or to_stop(above) then return CANCELLED end
if not holds then return SUPERSEDED end
if batch and call('HEXISTS', batch, 'paused') == 1 then return PAUSED end
local opened, begun, reserved, limits = 0, 0, {0, 0}, call_limits(job[7], above)
local budgets, own = budgets_of(above, batch, job[5], job[6]), {root = kept(), sub = {0, 0}, ahead = {0, 0}}

local function refusal(role, reservation)
  local refused, share = role ~= 'root' and too_many(limits, opened), role == 'ahead' and 0.75
  for _, pair in ipairs(budgets) do refused = refused or overrun(pair, reservation, own[role], share) end
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
  local refused = refusal(role, reservation) or role ~= 'root' and no_room(#request)
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
for at = 4 + ARGV[3], #ARGV, 5 do
  states[#states + 1] = open(ARGV[at], ARGV[at + 1], ARGV[at + 2], {tonumber(ARGV[at + 3]), ARGV[at + 4] + 0})
end
add_to_all(ledgers_of(above, batch), {reserved_nanousd = reserved[1],
  reserved_tokens = reserved[2], in_flight = begun})
write_kept(own.root)
add_to_all(ledgers_of(above), {sub_calls = opened})
return states
