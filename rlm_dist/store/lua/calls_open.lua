-- Opens calls of a job and reserves their budget.
-- ARGV: 1 epoch, then for each call: id, role, request, reserve_nanousd, reserve_tokens
-- Returns for each call 'new', 'pending', 'settled', or 'refused <kind> <used> <limit>';
--         or NOT_FOUND, CANCELLED, SUPERSEDED.
-- Atomic: two askers that check a budget before either reserves would both pass.
-- The state of a call (a value of J:calls) is one of
--   p <since_ms> <nanousd> <tokens>                        pending, with its reservation
--   c <lease_ms> <nanousd> <tokens> <claim token> <owner>  claimed
--   s <settlement tokens, with commas> <owner>             settled; the first token is the one that counts
local job = get(JOB, 'state', 'epoch', 'cancel', 'batch', 'max_nanousd', 'max_tokens', 'max_sub_calls')
if not job[1] then return NOT_FOUND end
if job[1] == 'cancelled' or job[3] then return CANCELLED end
if job[1] ~= 'running' or job[2] ~= ARGV[1] then return SUPERSEDED end
local batch = job[4]
local sub_calls, money, tokens = number(call('HGET', LEDGER, 'sub_calls')), 0, 0
local budgets, states = {}, {}

local function add_budgets(ledger, limits)
  local used = get(ledger, 'spent_nanousd', 'reserved_nanousd', 'spent_tokens', 'reserved_tokens')
  for index, kind in ipairs({'max_usd', 'max_tokens'}) do
    local sum = number(used[2 * index - 1]) + number(used[2 * index])
    budgets[#budgets + 1] = {kind = kind, part = index, used = sum, limit = tonumber(limits[index])}
  end
end

local function refusal(role, wanted)
  if role == 'sub' and job[7] and sub_calls + 1 > tonumber(job[7]) then
    return 'refused max_sub_calls ' .. int(sub_calls) .. ' ' .. job[7]
  end
  for _, one in ipairs(budgets) do
    if one.limit and one.used + wanted[one.part] > one.limit then
      return 'refused ' .. one.kind .. ' ' .. int(one.used) .. ' ' .. int(one.limit)
    end
  end
end

local function open(id, role, request, wanted)
  local refused = refusal(role, wanted)
  if refused then return refused end
  call('HSET', CALLS, id, table.concat({'p', int(now_ms), int(wanted[1]), int(wanted[2])}, ' '))
  call('HSET', REQUESTS, id, request)
  for _, one in ipairs(budgets) do one.used = one.used + wanted[one.part] end
  money, tokens = money + wanted[1], tokens + wanted[2]
  sub_calls = sub_calls + (role == 'sub' and 1 or 0)
  return 'new'
end

add_budgets(LEDGER, {job[5], job[6]})
if batch then add_budgets(batch .. ':ledger', get(batch, 'max_nanousd', 'max_tokens')) end
for at = 2, #ARGV, 5 do
  local known = call('HGET', CALLS, ARGV[at])
  states[#states + 1] = known and (known:sub(1, 1) == 's' and 'settled' or 'pending')
    or open(ARGV[at], ARGV[at + 1], ARGV[at + 2], {tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])})
end
call('HSET', LEDGER, 'sub_calls', int(sub_calls))
for _, ledger in ipairs(batch and {LEDGER, batch .. ':ledger'} or {LEDGER}) do
  call('HINCRBY', ledger, 'reserved_nanousd', int(money))
  call('HINCRBY', ledger, 'reserved_tokens', int(tokens))
end
return states
