-- Takes a job up: a queued one, or a running one whose lease has lapsed.
-- ARGV: 1 owner, 2 lease_ms, 3 token of this attempt, 4 cancelled outcome (JSON), 5 retention_ms,
--       6 max_recoveries, 7 poison outcome (JSON), 8 isolation, 9 max_bytes or '',
--       10 with how many deaths a job must not start in this process, or '' if it runs no other job
-- Returns {present time, length of its journal, 1 if it shares a budget of its batch or of a job above it (else 0),
--         its hash, its ledger}; or 0 if the job cannot be taken (final, paused, leased), -1 if this ended
--         it, -2 if it is to run alone, or NOT_FOUND.
-- Atomic: of two workers with the same message only one may win, and a repeat after a lost reply must win again.
-- A job whose workers died more than max_recoveries times is ended; parking does not count as a death.
local job = get(JOB, 'state', 'epoch', 'lease_ms', 'cancel', 'batch', 'token', 'id', 'parent', 'recoveries')
local state, batch = job[1], job[5]
if not state then return NOT_FOUND end
if FINAL[state] then return 0 end
local flags = batch and get(batch, 'cancelled', 'paused', 'max_nanousd', 'max_tokens') or {}
local above = jobs_above(job[8])

local function taken()
  local shared = flags[3] or flags[4]
  for _, each in ipairs(above) do shared = shared or each.max_nanousd or each.max_tokens end
  return {now_ms, call('LLEN', JOURNAL), shared and 1 or 0, call('HGETALL', JOB), call('HGETALL', LEDGER)}
end

if state == 'running' and job[6] == ARGV[3] then return taken() end
if state == 'running' and tonumber(job[3]) > now_ms then return 0 end
local listed = not job[8] and batch -- a child is in no list of its batch
if job[4] or flags[1] or to_stop(above) then
  end_job(state, 'cancelled', ARGV[4], ARGV[5])
  return -1
end
local deaths = (tonumber(job[9]) or 0) + (state == 'running' and 1 or 0)
if ARGV[10] ~= '' and deaths >= tonumber(ARGV[10]) and deaths <= tonumber(ARGV[6]) and not flags[2] then return -2 end
if state == 'running' and call('HINCRBY', JOB, 'recoveries', 1) > tonumber(ARGV[6]) then
  end_job(state, 'failed', ARGV[7], ARGV[5], 'poison')
  return -1
end
if flags[2] then
  park(job[7], listed, state, true)
  return 0
end

local lease_ms = int(now_ms + ARGV[2])
local epoch = call('HINCRBY', JOB, 'epoch', 1)
if state == 'running' then call('HSET', JOB, 'recovered_epoch', epoch) end
if state == 'queued' then set_state(listed, state, 'running') end
call('HSET', JOB, 'owner', ARGV[1], 'lease_ms', lease_ms, 'token', ARGV[3], 'isolation', ARGV[8])
if ARGV[9] ~= '' then call('HSET', JOB, 'max_bytes', ARGV[9]) end
for _, field in ipairs({'started_ms', 'since_ms'}) do call('HSETNX', JOB, field, int(now_ms)) end
call('ZREM', QUEUED, job[7])
call('ZADD', LEASES, lease_ms, job[7])
return taken()
