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
  local open = get(batch, 'n:queued', 'n:running', 'sealed', 'cancelled', 'webhooks')
  if number(open[1]) + number(open[2]) > 0 then return end
  if (open[3] or open[4]) and open[5] and call('HSETNX', batch, 'ended_ms', int(now_ms)) == 1 then
    call('ZADD', open[5], int(now_ms), batch)
  end
  for_batch(batch, 'PEXPIRE', retention_ms)
end

-- Lets all keys of a job start to expire.
local function expire(retention_ms)
  release_blobs(call('HGET', JOB, 'id'), retention_ms)
  for _, key in ipairs(OWN) do call('PEXPIRE', key, retention_ms) end
end

-- Makes the job final: cancels what is below it, releases its reservations, wakes waiters, and lets its keys start to
-- expire. `reason` says why it has no answer. The keys of a child stay until its top job ends, which may still ask
-- for its outcome.
local end_job
function end_job(from, state, outcome, retention_ms, reason)
  local fields = get(JOB, 'id', 'batch', 'parent', 'live_children')
  local id, batch, parent, live = fields[1], fields[2], fields[3], fields[4]
  if number(live) > 0 then
    as_children(false, function()
      local child = call('HGET', JOB, 'state')
      if not FINAL[child] then end_job(child, 'cancelled', '{"state":"cancelled"}', retention_ms) end
    end)
  end
  set_state(not parent and batch, from, state)
  call('HSET', JOB, 'ended_ms', int(now_ms), 'outcome', outcome, 'reason', reason or '')
  call('ZREM', QUEUED, id)
  call('ZREM', LEASES, id)
  call('XADD', DONE, '*', 's', state)
  give_back(jobs_above(parent), batch)
  if parent then
    call('XADD', parent .. ':replies', 'MAXLEN', '~', 8192, '*', 'c', id)
    call('HINCRBY', parent, 'live_children', -1)
    return
  end
  if batch then end_in_batch(batch, id, state, reason or '', retention_ms) end
  expire(retention_ms)
  if live then as_children(true, expire, retention_ms) end
end
