-- Prelude, after prelude.lua, of every script of calls (calls_*.lua), of job_retry.lua and of job_children.lua: the
-- format of a call's state.
-- The state of a call (a value of J:calls) is one of
--   p <since_ms> <nanousd> <tokens> <lapsed>                        pending, with its reservation
--   c <lease_ms> <nanousd> <tokens> <lapsed> <claim token> <owner>  claimed
--   s <settlement tokens, with commas> <failed 0/1> <lapsed> <owner>  settled; the first token counts
-- <lapsed> counts the attempts whose holder abandoned the call in the middle, and may have paid for it. A pending
-- call with since_ms 0 has no message any more. A root call is claimed for good by the epoch that opened it (token
-- e<epoch>): if a later epoch opens it again, the earlier one died during the call. A claim whose holder reported
-- that it gave the call up has the token -.
-- The field in_flight of a ledger is the number of calls that are claimed and not given up.

local function open_state(state)
  local kind, at_ms, money, tokens, lapsed, rest =
    (state or ''):match('^([pc]) (%d+) (%d+) (%d+) (%d+) ?(.*)$')
  if not kind then return nil end
  local token, owner = rest:match('^(%S+) (.*)$')
  return {kind = kind, at_ms = tonumber(at_ms), money = money, tokens = tokens, lapsed = tonumber(lapsed),
    token = token, owner = owner}
end

local function write_pending(id, since_ms, record)
  call('HSET', CALLS, id, table.concat({'p', int(since_ms), record.money, record.tokens, record.lapsed}, ' '))
end

-- The settled state of a call, or nil.
local function settled_state(state)
  local tokens, failed, lapsed, owner = (state or ''):match('^s (%S*) (%d) (%d+) (.*)$')
  return tokens and {tokens = tokens, failed = failed == '1', lapsed = tonumber(lapsed), owner = owner}
end

local function write_settled(id, tokens, failed, lapsed, owner)
  call('HSET', CALLS, id, table.concat({'s', tokens, failed and 1 or 0, int(lapsed), owner}, ' '))
end

local function in_flight(record) return record.kind == 'c' and record.token ~= '-' and 1 or 0 end

-- Returns the change in the number of calls in flight.
local function write_claimed(id, until_ms, record, token, owner)
  call('HSET', CALLS, id,
    table.concat({'c', int(until_ms), record.money, record.tokens, record.lapsed, token, owner}, ' '))
  return (token == '-' and 0 or 1) - in_flight(record)
end

local function give_up(id, record) return write_claimed(id, record.at_ms, record, '-', record.owner) end
