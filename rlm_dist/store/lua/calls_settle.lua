-- Settles calls of a job: the first settlement of a call is its answer, a later one was paid in vain.
-- ARGV: 1 owner, then for each settlement: call id, token, result ('' for none: only charges), failed (0/1),
--       number of charges, and for each: role, model, input, cached, output, estimated (0/1), nanousd or ''
-- Returns for each settlement 1 where its result is the call's answer, else 0; or NOT_FOUND.
-- Atomic: answer, money, reservation and reply go together, once, whatever is delivered or repeated twice.
local job = get(JOB, 'state', 'batch')
if not job[1] then return NOT_FOUND end
local at, firsts, paid, add, plus = 2, {}, {}, sums()

-- An attempt that was lost and done again is counted when the call is settled, once: if its holder comes back
-- after all and settles too, that is the payment that was counted already.
local function again(id, token, ended)
  if (',' .. ended.tokens .. ','):find(',' .. token .. ',', 1, true) or call('ZSCORE', TOKENS, token) then return end
  local lapsed = ended.lapsed
  if lapsed > 0 then
    lapsed = lapsed - 1
  elseif tonumber(ARGV[at + 4]) > 0 then
    plus('duplicate_paid_calls', 1)
  end
  charge(at, plus, {'spent'}, paid)
  write_settled(id, ended.tokens .. ',' .. token, ended.failed, lapsed, ended.owner)
end

local function first(id, token, known)
  charge(at, plus, {'spent', 'committed'}, paid)
  answer(id, token, known, ARGV[1], ARGV[at + 2], ARGV[at + 3], plus)
end

local function settle(id, token, state)
  local ended = settled_state(state)
  local known = open_state(state) or {lapsed = 0}
  -- A failure says nothing where another attempt is under way.
  local let_go = known.lapsed > 0 and known.owner ~= 'root' and known.owner ~= ARGV[1]
  if ended then
    again(id, token, ended)
  elseif ARGV[at + 2] ~= '' and not (ARGV[at + 3] == '1' and let_go) then
    first(id, token, known)
    return 1
  elseif not repeated(token) then
    charge(at, plus, {'spent'}, paid)
    if known.kind == 'c' and not let_go then plus('in_flight', give_up(id, known)) end
  end
  return ended and ended.tokens:match('^[^,]*') == token and 1 or 0
end

while at <= #ARGV do
  firsts[#firsts + 1] = settle(ARGV[at], ARGV[at + 1], call('HGET', CALLS, ARGV[at]) or '')
  at = at + 5 + ARGV[at + 4] * 7
end
book(job, add, paid)
return firsts
