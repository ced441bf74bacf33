-- Settles calls of a job: the first settlement of a call is its answer, a later one is a payment in vain.
-- ARGV: 1 owner, then for each settlement: call id, token, result ('' for none: only charges), failed (0/1),
--       number of charges, and for each: label, model, input, cached, output, estimated (0/1), nanousd or ''
-- Returns for each settlement 1 if its result is the call's answer, else 0; BAD if nothing was written, as one of
--         them cannot be booked; or NOT_FOUND.
-- Atomic: answer, money, reservation and reply change together, and once, whatever is delivered or repeated twice.
local job = get(JOB, 'state', 'batch', 'parent')
if not job[1] then return NOT_FOUND end
local above = jobs_above(job[3])
local ledgers = ledgers_of(above, job[2])
if not bookable(ledgers) then return 'BAD' end
local at, firsts, paid, booked_as, add, plus = 2, {}, {}, booked_names(ledgers, job[2]), sums()

-- An attempt that was lost and made again is counted as a duplicate payment once, when the call is settled. If its
-- holder comes back and settles too, its payment has been counted already.
local function again(id, token, ended)
  if (',' .. ended.tokens .. ','):find(',' .. token .. ',', 1, true) or call('ZSCORE', TOKENS, token) then return end
  local lapsed = ended.lapsed
  if lapsed > 0 then
    lapsed = lapsed - 1
  elseif tonumber(ARGV[at + 4]) > 0 then
    plus('duplicate_paid_calls', 1)
  end
  charge(at, plus, {'spent'}, paid, booked_as)
  write_settled(id, ended.tokens .. ',' .. token, ended.failed, lapsed, ended.owner)
end

local function first(id, token, record)
  charge(at, plus, {'spent', 'committed'}, paid, booked_as)
  answer(id, token, record, ARGV[1], ARGV[at + 2], ARGV[at + 3], plus)
end

local function settle(id, token, state)
  local ended = settled_state(state)
  local record = open_state(state) or {lapsed = 0}
  -- A failure is no answer if another attempt is under way.
  local superseded = record.lapsed > 0 and record.owner ~= 'root' and record.owner ~= ARGV[1]
  if ended then
    again(id, token, ended)
  elseif ARGV[at + 2] ~= '' and not (ARGV[at + 3] == '1' and superseded) then
    first(id, token, record)
    return 1
  elseif not repeated(token) then
    charge(at, plus, {'spent'}, paid, booked_as)
    if record.kind == 'c' and not superseded then plus('in_flight', give_up(id, record)) end
  end
  return ended and ended.tokens:match('^[^,]*') == token and 1 or 0
end

while at <= #ARGV do
  firsts[#firsts + 1] = settle(ARGV[at], ARGV[at + 1], call('HGET', CALLS, ARGV[at]) or '')
  at = at + 5 + ARGV[at + 4] * 7
end
book(job, add, paid)
local top = above[#above]
if FINAL[job[1]] and job[2] and add.spent_nanousd then list_cost(job[2], top and top.key or JOB) end
return firsts
