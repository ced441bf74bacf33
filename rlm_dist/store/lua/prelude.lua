-- Prelude of every script of a job (job_*.lua, calls_*.lua).
-- KEYS: keys.job_keys(job id), as named here. All times are in Unix milliseconds of this server.
local JOB, LEDGER, CALLS, REQUESTS, RESULTS, JOURNAL, TRACE, REPLIES, DONE, BLOBS, TOKENS, CHARGES, JOBS,
  QUEUED, LEASES = unpack(KEYS)
local OWN_KEYS = #KEYS - 3 -- the last three are lists of all jobs
local NOT_FOUND, SUPERSEDED, CANCELLED, PAUSED = 'NOT_FOUND', 'SUPERSEDED', 'CANCELLED', 'PAUSED'
local FINAL = {succeeded = true, exhausted = true, failed = true, cancelled = true}
local call, time = redis.call, redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)

-- Integers as text: Lua would write large ones as floats.
local function int(n) return string.format('%.0f', n) end

local function get(key, ...) return call('HMGET', key, ...) end

local function number(value) return tonumber(value or 0) or 0 end

-- Gives keys the TTL of their owner; a late write must not leave a key that never expires.
local function live_as(owner, ...)
  local ttl = call('PTTL', owner)
  if ttl > 0 then
    for _, key in ipairs({...}) do call('PEXPIRE', key, ttl) end
  end
end

-- Whether this write was made before, and the client repeats it because the reply was lost. Tokens are kept for
-- longer than any client goes on repeating.
local function repeated(token)
  if call('ZSCORE', TOKENS, token) then return true end
  call('ZADD', TOKENS, int(now_ms), token)
  call('ZREMRANGEBYSCORE', TOKENS, '-inf', int(now_ms - 900000))
  live_as(JOB, TOKENS)
  return false
end

local function set_state(batch, from, to)
  call('HSET', JOB, 'state', to)
  if batch and from then call('HINCRBY', batch, 'n:' .. from, -1) end
  if batch then call('HINCRBY', batch, 'n:' .. to, 1) end
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

local function release_blobs(id, retention_ms)
  for _, blob in ipairs(call('SMEMBERS', BLOBS)) do
    call('SREM', blob .. ':jobs', id)
    if call('EXISTS', blob .. ':jobs') == 0 then call('PEXPIRE', blob, retention_ms) end
  end
end

local function end_in_batch(batch, id, retention_ms)
  local ran, used = get(JOB, 'started_ms', 'ran_ms', 'since_ms'), get(LEDGER, 'spent_nanousd', 'spent_tokens')
  call('HSET', JOB, 'ended_entry', call('XADD', batch .. ':ended', '*', 'j', id,
    'ms', ran[1] and int(number(ran[2]) + now_ms - (ran[3] or now_ms)) or '',
    'n', used[1] or 0, 't', used[2] or 0))
  for _, field in ipairs({'reserved_nanousd', 'reserved_tokens', 'in_flight'}) do
    call('HINCRBY', batch .. ':ledger', field, int(0 - number(call('HGET', LEDGER, field))))
  end
  local open = get(batch, 'n:queued', 'n:running', 'sealed', 'cancelled', 'webhooks')
  if number(open[1]) + number(open[2]) > 0 then return end
  if (open[3] or open[4]) and open[5] and call('HSETNX', batch, 'ended_ms', int(now_ms)) == 1 then
    call('ZADD', open[5], int(now_ms), batch)
  end
  for _, suffix in ipairs({'', ':ledger', ':jobs', ':ended'}) do
    call('PEXPIRE', batch .. suffix, retention_ms)
  end
end

-- Makes the job final: releases its reservations and blobs, wakes waiters, and lets all its keys start to expire.
local function end_job(from, state, outcome, retention_ms)
  local fields = get(JOB, 'id', 'batch')
  local id, batch = fields[1], fields[2]
  set_state(batch, from, state)
  call('HSET', JOB, 'ended_ms', int(now_ms), 'outcome', outcome)
  call('ZREM', QUEUED, id)
  call('ZREM', LEASES, id)
  call('XADD', DONE, '*', 's', state)
  release_blobs(id, retention_ms)
  if batch then end_in_batch(batch, id, retention_ms) end
  call('HDEL', LEDGER, 'reserved_nanousd', 'reserved_tokens', 'in_flight')
  for index = 1, OWN_KEYS do call('PEXPIRE', KEYS[index], retention_ms) end
end
