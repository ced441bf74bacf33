-- Prelude, after prelude_calls.lua, of every script of calls (calls_*.lua): what fits into the budgets.
-- What a job or batch has used of its budgets, in the order of a call's reservation (nano-dollars, tokens).
local function ledger_budgets(ledger, max_nanousd, max_tokens, whose)
  local used = get(ledger, 'spent_nanousd', 'reserved_nanousd', 'spent_tokens', 'reserved_tokens')
  return {
    {kind = whose .. 'max_usd', used = number(used[1]) + number(used[2]), limit = tonumber(max_nanousd)},
    {kind = whose .. 'max_tokens', used = number(used[3]) + number(used[4]), limit = tonumber(max_tokens)},
  }
end

-- The budgets that a call of the job has to fit into: the job's own, and those of its batch.
local function budgets_of(batch, max_nanousd, max_tokens)
  local of_batch = batch and get(batch, 'max_nanousd', 'max_tokens')
  return {ledger_budgets(LEDGER, max_nanousd, max_tokens, ''),
    batch and ledger_budgets(batch .. ':ledger', of_batch[1], of_batch[2], 'batch_') or nil}
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
-- ledgers of the job and its batch count as reserved, so that sub-calls cannot use it.
local function kept()
  local amounts = get(LEDGER, 'kept_nanousd', 'kept_tokens')
  return {number(amounts[1]), number(amounts[2])}
end

local function write_kept(amounts)
  call('HSET', LEDGER, 'kept_nanousd', int(amounts[1]), 'kept_tokens', int(amounts[2]))
end
