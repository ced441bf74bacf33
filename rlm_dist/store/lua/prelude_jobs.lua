-- Prelude, after prelude_lists.lua, of every script of jobs (job_*.lua): how a job changes its state.
local function set_state(batch, from, to)
  call('HSET', JOB, 'state', to)
  if batch and from then call('HINCRBY', batch, 'n:' .. from, -1) end
  if batch then
    call('HINCRBY', batch, 'n:' .. to, 1)
    list_state(batch, to)
  end
end

-- Puts a job back into the queue. In a paused batch it is dated ten minutes ahead; resuming makes it due at once.
local function park(id, batch, state, paused)
  local since_ms = call('HGET', JOB, 'since_ms')
  if since_ms then call('HINCRBY', JOB, 'ran_ms', int(now_ms - since_ms)) end
  call('HDEL', JOB, 'since_ms')
  if state == 'running' then set_state(batch, state, 'queued') end
  call('ZREM', LEASES, id)
  call('ZADD', QUEUED, int(now_ms + (paused and 600000 or 0)), id)
end

-- Jobs in progress use a blob, and jobs that have ended until their retention is over.
local function in_use(blob)
  call('ZREMRANGEBYSCORE', blob .. ':users', '-inf', int(now_ms))
  return call('EXISTS', blob .. ':jobs') + call('EXISTS', blob .. ':users')
end

local function release_blobs(id, retention_ms)
  for _, blob in ipairs(call('SMEMBERS', BLOBS)) do
    call('SREM', blob .. ':jobs', id)
    call('ZADD', blob .. ':users', int(now_ms + retention_ms), id)
    call('PEXPIRE', blob .. ':users', retention_ms)
    if call('EXISTS', blob .. ':jobs') == 0 then call('PEXPIRE', blob, retention_ms) end
  end
end

local function end_in_batch(batch, id, state, reason, retention_ms)
  local ran, used = get(JOB, 'started_ms', 'ran_ms', 'since_ms'), get(LEDGER, 'spent_nanousd', 'spent_tokens')
  local ran_ms = ran[1] and int(number(ran[2]) + now_ms - (ran[3] or now_ms)) or ''
  call('HSET', JOB, 'ended_entry', call('XADD', batch .. ':ended', '*', 'j', id, 'ms', ran_ms, 'n', used[1] or 0,
    't', used[2] or 0))
  list_end(batch, id, state, ran_ms, reason)
  local held, ledger = get(LEDGER, 'reserved_nanousd', 'reserved_tokens', 'in_flight'), batch .. ':ledger'
  call('HINCRBY', ledger, 'reserved_nanousd', int(0 - number(held[1])))
  call('HINCRBY', ledger, 'reserved_tokens', int(0 - number(held[2])))
  call('HINCRBY', ledger, 'in_flight', int(0 - number(held[3])))
  call('HINCRBY', ledger, 'pending_calls', number(held[3]))
  local open = get(batch, 'n:queued', 'n:running', 'sealed', 'cancelled', 'webhooks')
  if number(open[1]) + number(open[2]) > 0 then return end
  if (open[3] or open[4]) and open[5] and call('HSETNX', batch, 'ended_ms', int(now_ms)) == 1 then
    call('ZADD', open[5], int(now_ms), batch)
  end
  for_batch(batch, 'PEXPIRE', retention_ms)
end

-- Makes the job final, `reason` says why it has no answer: releases its reservations and blobs, wakes waiters, and lets all its keys start to expire. Its
-- calls in flight are pending from now on: their costs are still to come.
local function end_job(from, state, outcome, retention_ms, reason)
  local fields = get(JOB, 'id', 'batch')
  local id, batch = fields[1], fields[2]
  set_state(batch, from, state)
  call('HSET', JOB, 'ended_ms', int(now_ms), 'outcome', outcome, 'reason', reason or '')
  call('ZREM', QUEUED, id)
  call('ZREM', LEASES, id)
  call('XADD', DONE, '*', 's', state)
  release_blobs(id, retention_ms)
  if batch then end_in_batch(batch, id, state, reason or '', retention_ms) end
  call('HSET', LEDGER, 'pending_calls', number(call('HGET', LEDGER, 'in_flight')))
  call('HDEL', LEDGER, 'reserved_nanousd', 'reserved_tokens', 'in_flight', 'kept_nanousd', 'kept_tokens')
  for index = 1, OWN_KEYS do call('PEXPIRE', KEYS[index], retention_ms) end
end
