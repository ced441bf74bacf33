-- Settles calls of a job: the first settlement of a call is its answer, a later one was paid in vain.
-- ARGV: 1 owner, then for each settlement: call id, token, result, failed (0/1), number of charges, and for
--       each charge: role, model, input, cached, output, estimated (0/1), nanousd ('' where unknown)
-- Returns for each settlement 1 where its result is the call's answer, else 0; or NOT_FOUND.
-- Atomic: answer, money, reservation and reply go together, once, whatever is delivered or repeated twice.
local job = get(JOB, 'state', 'batch')
if not job[1] then return NOT_FOUND end
local add, at, firsts = {}, 2, {}

local function plus(field, n) add[field] = (add[field] or 0) + n end

-- Adds the charges that start at ARGV[at + 5].
local function charge(totals)
  for first = at + 5, at + 4 + ARGV[at + 4] * 7, 7 do
    local line = function(metric) return 'line:' .. ARGV[first] .. ':' .. metric .. ':' .. ARGV[first + 1] end
    local nanousd = ARGV[first + 6]
    plus(line('calls'), 1)
    for n, metric in ipairs({'input', 'cached', 'output'}) do plus(line(metric), ARGV[first + 1 + n]) end
    plus(line(nanousd == '' and 'unpriced' or 'nanousd'), nanousd == '' and 1 or nanousd)
    plus('estimated_calls', ARGV[first + 5])
    for _, total in ipairs(totals) do
      plus(total .. '_tokens', ARGV[first + 2] + ARGV[first + 4])
      plus(total .. '_nanousd', nanousd == '' and 0 or nanousd)
    end
  end
end

local function settle(id, token, state)
  local tokens, owner = state:match('^s (%S*) (.*)$')
  if not tokens then
    local money, reserved = state:match('^[pc] %d+ (%d+) (%d+)')
    plus('reserved_nanousd', 0 - number(money))
    plus('reserved_tokens', 0 - number(reserved))
    plus('failed_calls', ARGV[at + 3])
    charge({'spent', 'committed'})
    call('HSET', CALLS, id, 's ' .. token .. ' ' .. ARGV[1])
    call('HSET', RESULTS, id, ARGV[at + 2])
    call('XADD', REPLIES, '*', 'c', id)
  elseif not (',' .. tokens .. ','):find(',' .. token .. ',', 1, true) then
    if tonumber(ARGV[at + 4]) > 0 then plus('duplicate_paid_calls', 1) end
    charge({'spent'})
    call('HSET', CALLS, id, 's ' .. tokens .. ',' .. token .. ' ' .. owner)
  end
  return (not tokens or tokens:match('^[^,]*') == token) and 1 or 0
end

while at <= #ARGV do
  firsts[#firsts + 1] = settle(ARGV[at], ARGV[at + 1], call('HGET', CALLS, ARGV[at]) or '')
  at = at + 5 + ARGV[at + 4] * 7
end

if FINAL[job[1]] then add.reserved_nanousd, add.reserved_tokens = nil, nil end -- given back at its end
local batch = job[2] and call('EXISTS', job[2]) == 1 and job[2]
for field, n in pairs(add) do
  call('HINCRBY', LEDGER, field, int(n))
  if batch then call('HINCRBY', batch .. ':ledger', field, int(n)) end
end
live_as(JOB, LEDGER, CALLS, RESULTS, REPLIES)
if batch then live_as(batch, batch .. ':ledger') end
return firsts
