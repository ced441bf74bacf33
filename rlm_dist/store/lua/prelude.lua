-- Prelude of every script of a job (job_*.lua, calls_*.lua).
-- KEYS: keys.job_keys(job id), the key of the job's hash. The names of the job's other keys are made from it here: to
-- send each would cost a client more. All times are in Unix milliseconds of this server.
local PREFIX, JOBS, QUEUED, LEASES = 'rlm:job:', 'rlm:jobs', 'rlm:queued', 'rlm:leases'
local OWN, JOB, LEDGER, CALLS, REQUESTS, RESULTS, JOURNAL
local TRACE, REPLIES, DONE, BLOBS, TOKENS, CHARGES, CHILDREN, TOOLS
local PARTS = {'', ':ledger', ':calls', ':requests', ':results', ':journal', ':trace', ':replies', ':done', ':blobs',
  ':tokens', ':charges', ':children', ':tools'}

-- Makes the keys of a job those that all functions use.
local function use(job)
  OWN = {}
  for index, part in ipairs(PARTS) do OWN[index] = job .. part end
  JOB, LEDGER, CALLS, REQUESTS, RESULTS, JOURNAL, TRACE, REPLIES, DONE, BLOBS, TOKENS, CHARGES, CHILDREN, TOOLS =
    unpack(OWN)
end
use(KEYS[1])

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
