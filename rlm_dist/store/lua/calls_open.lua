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
local sub_calls, opened, money, tokens = number(call('HGET', LEDGER, 'sub_calls')), 0, 0, 0

local function budget(ledger, max_nanousd, max_tokens)
  local used = get(ledger, 'spent_nanousd', 'reserved_nanousd', 'spent_tokens', 'reserved_tokens')
  return {
    {kind = 'max_usd', used = number(used[1]) + number(used[2]), limit = tonumber(max_nanousd)},
    {kind = 'max_tokens', used = number(used[3]) + number(used[4]), limit = tonumber(max_tokens)},
  }
end

local budgets = {budget(LEDGER, job[5], job[6])}
if batch then
  local limits = get(batch, 'max_nanousd', 'max_tokens')
  budgets[2] = budget(batch .. ':ledger', limits[1], limits[2])
end

local function refusal(role, wanted)
  if role == 'sub' and job[7] and sub_calls + opened + 1 > tonumber(job[7]) then
    return 'refused max_sub_calls ' .. int(sub_calls + opened) .. ' ' .. job[7]
  end
  for _, pair in ipairs(budgets) do
    for index, one in ipairs(pair) do
      if one.limit and one.used + wanted[index] > one.limit then
        return 'refused ' .. one.kind .. ' ' .. int(one.used) .. ' ' .. int(one.limit)
      end
    end
  end
end

local states = {}
for at = 2, #ARGV, 5 do
  local known = call('HGET', CALLS, ARGV[at])
  local wanted = {tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])}
  local refused = not known and refusal(ARGV[at + 1], wanted)
  if known then
    states[#states + 1] = known:sub(1, 1) == 's' and 'settled' or 'pending'
  elseif refused then
    states[#states + 1] = refused
  else
    states[#states + 1] = 'new'
    call('HSET', CALLS, ARGV[at], 'p ' .. int(now_ms) .. ' ' .. ARGV[at + 3] .. ' ' .. ARGV[at + 4])
    call('HSET', REQUESTS, ARGV[at], ARGV[at + 2])
    if ARGV[at + 1] == 'sub' then opened = opened + 1 end
    for _, pair in ipairs(budgets) do
      for index, one in ipairs(pair) do one.used = one.used + wanted[index] end
    end
    money, tokens = money + wanted[1], tokens + wanted[2]
  end
end
for _, ledger in ipairs(batch and {LEDGER, batch .. ':ledger'} or {LEDGER}) do
  call('HINCRBY', ledger, 'reserved_nanousd', int(money))
  call('HINCRBY', ledger, 'reserved_tokens', int(tokens))
end
call('HINCRBY', LEDGER, 'sub_calls', opened)
return states
