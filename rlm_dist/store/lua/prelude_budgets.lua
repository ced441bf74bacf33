-- Prelude, after prelude_calls.lua, of every script of calls (calls_*.lua) and job_children.lua: what fits into the
-- budgets.
-- What a job or batch has used of its budgets, in the order of a call's reservation (nano-dollars, tokens).
local function ledger_budgets(ledger, max_nanousd, max_tokens, whose)
  local used = get(ledger, 'spent_nanousd', 'reserved_nanousd', 'spent_tokens', 'reserved_tokens')
  return {
    {kind = whose .. 'max_usd', used = number(used[1]) + number(used[2]), limit = tonumber(max_nanousd)},
    {kind = whose .. 'max_tokens', used = number(used[3]) + number(used[4]), limit = tonumber(max_tokens)},
  }
end

-- The budgets that a call of the job has to fit into: its own, those of the jobs above it, and those of its batch.
local function budgets_of(above, batch, max_nanousd, max_tokens)
  local budgets = {ledger_budgets(LEDGER, max_nanousd, max_tokens, '')}
  for _, job in ipairs(above) do
    budgets[#budgets + 1] = ledger_budgets(job.ledger, job.max_nanousd, job.max_tokens, '')
  end
  local of_batch = batch and get(batch, 'max_nanousd', 'max_tokens')
  if batch then budgets[#budgets + 1] = ledger_budgets(batch .. ':ledger', of_batch[1], of_batch[2], 'batch_') end
  return budgets
end

-- Why a reservation is refused, if it is: it would overrun a budget, or there is a budget of money and its price is
-- unknown. Of what is used, the amounts in ``own`` are kept for it.
local function overrun(budgets, reservation, own)
  for index, limit in ipairs(budgets) do
    if limit.limit and not reservation[index] then return 'refused unpriced 0 0 0' end
    local used = limit.used - own[index]
    if limit.limit and used + reservation[index] > limit.limit then
      return table.concat({'refused', limit.kind, int(used), int(limit.limit), int(reservation[index])}, ' ')
    end
  end
end

-- What is kept of the budgets for the job's next root call, in the order of a reservation. It is part of what the
-- ledgers of the job, of those above it and of its batch count as reserved, so that sub-calls and children cannot use
-- it.
local function kept()
  local amounts = get(LEDGER, 'kept_nanousd', 'kept_tokens')
  return {number(amounts[1]), number(amounts[2])}
end

local function write_kept(amounts)
  call('HSET', LEDGER, 'kept_nanousd', int(amounts[1]), 'kept_tokens', int(amounts[2]))
end

-- The limits on the sub-calls and children of this job and of those above it, each with what is used of it.
local function call_limits(max_sub_calls, above)
  local limits = {}
  local function add(ledger, limit)
    local used = limit and get(ledger, 'sub_calls', 'children')
    if used then limits[#limits + 1] = {used = number(used[1]) + number(used[2]), limit = limit} end
  end
  add(LEDGER, max_sub_calls)
  for _, job in ipairs(above) do add(job.ledger, job.max_sub_calls) end
  return limits
end

-- Why there may not be another, if there may not, after `more` have been added.
local function too_many(limits, more)
  for _, each in ipairs(limits) do
    if each.used + more >= tonumber(each.limit) then
      return 'refused max_sub_calls ' .. int(each.used + more) .. ' ' .. each.limit .. ' 0'
    end
  end
end
