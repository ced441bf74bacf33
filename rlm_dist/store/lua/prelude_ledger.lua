-- Prelude, after prelude_calls.lua, of every script of calls (calls_*.lua): how calls end, and what they cost.
local REPLY_BYTES, MOST_REPLIES = 1024, 8192
local NOT_KEPT = '{"failure":{"kind":"limit","message":"its answer was not kept: limit max_job_bytes reached"}}'

-- Returns a table of what a script adds to the ledgers, and a function that adds to a field of it.
local function sums()
  local add = {}
  return add, function(field, n) add[field] = (add[field] or 0) + n end
end

-- Ends a call with its result: gives its reservation back, and sends a reply to its job. A result that the job has no
-- room for fails the call.
local function answer(id, token, record, owner, result, failed, plus)
  if no_room(#result) then result, failed = NOT_KEPT, '1' end
  plus('reserved_nanousd', 0 - number(record.money))
  plus('reserved_tokens', 0 - number(record.tokens))
  plus('in_flight', 0 - in_flight(record))
  plus('failed_calls', failed)
  plus('duplicate_paid_calls', record.lapsed)
  write_settled(id, token, failed == '1', record.lapsed, owner)
  call('HSET', RESULTS, id, result)
  -- A job never waits for more calls than its window holds, so the entries that are trimmed have been read. A short
  -- result goes into the reply, which saves the job a read.
  local reply = {'c', id}
  if #result <= REPLY_BYTES then reply[3], reply[4] = 'r', result end
  call('XADD', REPLIES, 'MAXLEN', '~', MOST_REPLIES, '*', unpack(reply))
end

-- Adds the charges of the settlement at ARGV[at] to its lines and to the totals, and lists them in ``paid``. The
-- label of a charge is <role>[@<tier>][,<metric>=<n>...].
local function charge(at, plus, totals, paid, booked_as)
  for first = at + 5, at + 4 + ARGV[at + 4] * 7, 7 do
    local role, tier, parts = ARGV[first]:match('^(%a+)(@?[^,]*)(.*)$')
    local model = booked_as(ARGV[first + 1])
    local line = function(metric) return 'line:' .. role .. ':' .. metric .. tier .. ':' .. model end
    local tokens, nanousd = ARGV[first + 2] + ARGV[first + 4], ARGV[first + 6]
    plus(line('calls'), 1)
    plus(line('input'), ARGV[first + 2])
    plus(line('cached'), ARGV[first + 3])
    plus(line('output'), ARGV[first + 4])
    plus(line(nanousd == '' and 'unpriced' or 'nanousd'), nanousd == '' and 1 or nanousd)
    for metric, n in parts:gmatch('(%a+)=(%d+)') do plus(line(metric), n) end
    plus('estimated_calls', ARGV[first + 5])
    paid[#paid + 1] = table.concat({ARGV[at], ARGV[first], ARGV[first + 2], ARGV[first + 3], ARGV[first + 4],
      ARGV[first + 5], nanousd == '' and '-' or nanousd, model}, ' ')
    for _, total in ipairs(totals) do
      plus(total .. '_tokens', tokens)
      plus(total .. '_nanousd', nanousd == '' and 0 or nanousd)
    end
  end
end

-- Adds to the ledgers of the job, of those above it and of its batch, and appends the single charges. `job` has its
-- state, batch and parent.
local function book(job, add, paid)
  -- When the job ended, its reservations were given back, and its calls in flight became pending ones.
  if FINAL[job[1]] then
    add['pending_calls'] = add['in_flight']
    add['reserved_nanousd'], add['reserved_tokens'], add['in_flight'] = nil, nil, nil
  end
  local batch = job[2] and call('EXISTS', job[2]) == 1 and job[2]
  local above = jobs_above(job[3])
  add_to_all(ledgers_of(above, batch), add)
  for _, line in ipairs(paid) do call('RPUSH', CHARGES, line) end
  live_as(JOB, LEDGER, CALLS, RESULTS, REPLIES, CHARGES)
  for _, each in ipairs(above) do live_as(each.key, each.ledger) end
  if batch then live_as(batch, batch .. ':ledger') end
end
