-- Prelude, after prelude.lua, of every script of a job (job_*.lua, calls_*.lua): the jobs above and below a job.
-- The hash of a child names the key of its parent. A live job has only live jobs above it: the end of a job ends all
-- that are below it. What a ledger of a job counts includes the jobs below it; that of a batch counts each once.

-- The jobs above this one, the nearest first; `parent` is the field of its hash.
local function jobs_above(parent)
  local jobs = {}
  while parent do
    local fields = get(parent, 'id', 'parent', 'max_nanousd', 'max_tokens', 'max_sub_calls', 'cancel')
    if not fields[1] then return jobs end
    jobs[#jobs + 1] = {key = parent, ledger = parent .. ':ledger', max_nanousd = fields[3], max_tokens = fields[4],
      max_sub_calls = fields[5], cancel = fields[6]}
    parent = fields[2]
  end
  return jobs
end

-- Whether one of these jobs is to stop.
local function to_stop(jobs)
  for _, job in ipairs(jobs) do
    if job.cancel then return true end
  end
  return false
end

-- The ledgers of this job, of those above it and of their batch, if there is one.
local function ledgers_of(above, batch)
  local ledgers = {LEDGER}
  for _, job in ipairs(above) do ledgers[#ledgers + 1] = job.ledger end
  if batch then ledgers[#ledgers + 1] = batch .. ':ledger' end
  return ledgers
end

local function add_to_all(ledgers, fields)
  for _, ledger in ipairs(ledgers) do
    for field, n in pairs(fields) do
      if n ~= 0 then call('HINCRBY', ledger, field, int(n)) end
    end
  end
end

-- What a job that ends had reserved is free again. Its calls in flight are pending: their costs are still to come.
local function give_back(above, batch)
  local held = get(LEDGER, 'reserved_nanousd', 'reserved_tokens', 'in_flight')
  local calls = number(held[3])
  local given = {reserved_nanousd = 0 - number(held[1]), reserved_tokens = 0 - number(held[2]),
    in_flight = 0 - calls, pending_calls = calls}
  add_to_all(ledgers_of(above, batch), given)
  call('HDEL', LEDGER, 'reserved_nanousd', 'reserved_tokens', 'in_flight', 'kept_nanousd', 'kept_tokens')
end

-- Runs a function as if another job's keys were the script's.
local function as_job(key, fn, ...)
  local mine = JOB
  use(key)
  local result = fn(...)
  use(mine)
  return result
end

-- Runs a function as each child of this job, and with `deep` as each job below these too, the lowest first.
local as_children
function as_children(deep, fn, ...)
  for _, id in ipairs(call('ZRANGE', CHILDREN, 0, -1)) do
    as_job(PREFIX .. id, function(...)
      if deep then as_children(deep, fn, ...) end
      fn(...)
    end, ...)
  end
end
