-- Put after prelude.lua before every script of calls (calls_*.lua): how the state of a call is written.
-- The state of a call (a value of J:calls) is one of
--   p <since_ms> <nanousd> <tokens> <lapsed>                        pending, with its reservation
--   c <lease_ms> <nanousd> <tokens> <lapsed> <claim token> <owner>  claimed
--   s <settlement tokens, with commas> <failed 0/1> <lapsed> <owner>  settled; the first token counts
-- <lapsed> counts the attempts whose holder let go of the call in the middle, and may have paid for it. A
-- pending call with since_ms 0 has no message any more. A root call is claimed for good by the epoch that
-- opened it (token e<epoch>): a later epoch that opens it again knows that the earlier one died with it. A
-- claim whose holder said that it gave the call up has the token -.
-- The field in_flight of a ledger is the number of calls that are claimed and not given up.

local function open_state(state)
  local kind, at_ms, money, tokens, lapsed, rest =
    (state or ''):match('^([pc]) (%d+) (%d+) (%d+) (%d+) ?(.*)$')
  if not kind then return nil end
  local token, owner = rest:match('^(%S+) (.*)$')
  return {kind = kind, at_ms = tonumber(at_ms), money = money, tokens = tokens, lapsed = tonumber(lapsed),
    token = token, owner = owner}
end

local function write_pending(id, since_ms, known)
  call('HSET', CALLS, id, table.concat({'p', int(since_ms), known.money, known.tokens, known.lapsed}, ' '))
end

-- The settled state of a call, or nothing.
local function settled_state(state)
  local tokens, failed, lapsed, owner = (state or ''):match('^s (%S*) (%d) (%d+) (.*)$')
  return tokens and {tokens = tokens, failed = failed == '1', lapsed = tonumber(lapsed), owner = owner}
end

local function write_settled(id, tokens, failed, lapsed, owner)
  call('HSET', CALLS, id, table.concat({'s', tokens, failed and 1 or 0, int(lapsed), owner}, ' '))
end

local function in_flight(known) return known.kind == 'c' and known.token ~= '-' and 1 or 0 end

-- Returns by how much the number of calls in flight changes.
local function write_claimed(id, until_ms, known, token, owner)
  call('HSET', CALLS, id,
    table.concat({'c', int(until_ms), known.money, known.tokens, known.lapsed, token, owner}, ' '))
  return (token == '-' and 0 or 1) - in_flight(known)
end

local function give_up(id, known) return write_claimed(id, known.at_ms, known, '-', known.owner) end

-- What a job or batch has used of its budgets, in the order of a call's reservation.
local function budget(ledger, max_nanousd, max_tokens, whose)
  local used = get(ledger, 'spent_nanousd', 'reserved_nanousd', 'spent_tokens', 'reserved_tokens')
  return {
    {kind = whose .. 'max_usd', used = number(used[1]) + number(used[2]), limit = tonumber(max_nanousd)},
    {kind = whose .. 'max_tokens', used = number(used[3]) + number(used[4]), limit = tonumber(max_tokens)},
  }
end

-- Why a call that wants so much is refused: a budget would be overrun, or one of money by how much nobody knows.
local function overrun(budgets, wanted)
  for index, one in ipairs(budgets) do
    if one.limit and not wanted[index] then return 'refused unpriced 0 0' end
    if one.limit and one.used + wanted[index] > one.limit then
      return 'refused ' .. one.kind .. ' ' .. int(one.used) .. ' ' .. int(one.limit)
    end
  end
end

-- Adds to fields of the ledgers of a job in progress and of its batch.
local function add_to_both(batch, fields)
  for _, ledger in ipairs(batch and {LEDGER, batch .. ':ledger'} or {LEDGER}) do
    for field, n in pairs(fields) do
      if n ~= 0 then call('HINCRBY', ledger, field, int(n)) end
    end
  end
end
