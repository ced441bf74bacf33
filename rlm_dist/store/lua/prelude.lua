-- Prelude of every script of a job (job_*.lua, calls_*.lua).
-- KEYS: keys.job_keys(job id), as named here. All times are in Unix milliseconds of this server.
local JOB, LEDGER, CALLS, REQUESTS, RESULTS, JOURNAL, TRACE, REPLIES, DONE, BLOBS, TOKENS, CHARGES, CHILDREN, TOOLS,
  JOBS, QUEUED, LEASES = unpack(KEYS)
local OWN, OWN_KEYS, PREFIX = KEYS, #KEYS - 3, 'rlm:job:' -- the last three are lists of all jobs

-- Makes the keys of a job those that all functions use.
local function use(keys)
  OWN = keys
  JOB, LEDGER, CALLS, REQUESTS, RESULTS, JOURNAL, TRACE, REPLIES, DONE, BLOBS, TOKENS, CHARGES, CHILDREN, TOOLS =
    unpack(keys)
end

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

-- Counts n bytes that are to be stored for the job. Returns why they may not be, if they are beyond its budget; from
-- then on no others may be either, so that the job soon ends.
local function no_room(n)
  local used, most = call('HINCRBY', JOB, 'bytes', n), tonumber(call('HGET', JOB, 'max_bytes'))
  if most and used > most then return 'refused max_job_bytes ' .. int(used) .. ' ' .. int(most) .. ' 0' end
end
