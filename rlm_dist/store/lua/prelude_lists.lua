-- Prelude, after prelude.lua, of every script of jobs (job_*.lua) and of calls_settle.lua: the lists of a batch's jobs,
-- by which people find them. store/job_lists.py reads them. For a batch B:
--   B:by:<order>   zset of job ids; the score is <code of the state> * SPAN + <value>, so that the jobs of a state lie
--                  together. By index: all jobs, by their line; by cost (nano-dollars), time (ms that workers had it),
--                  turns and calls (sub-calls): those that have ended
--   B:by:reason    zset of the ids of jobs that ended without an answer; <number of the reason> * SPAN + <line>
--   B:reasons      hash, reason -> its number
--   B:names        zset, all of score 0: <name><NUL><job id>
local SPAN, MOST_REASONS, OTHER_REASON = 1e14, 64, '(other)'
local CODES = {queued = 0, running = 1, succeeded = 2, exhausted = 3, failed = 4, cancelled = 5}
local ORDERS = {'cost', 'time', 'turns', 'calls', 'reason'} -- of the lists that a job is in once it has ended
-- The keys that live as long as their batch.
local OF_BATCH = {'', ':ledger', ':jobs', ':ended', ':names', ':reasons', ':by:index', ':by:cost', ':by:time',
  ':by:turns', ':by:calls', ':by:reason'}

local function put(batch, order, code, value, id, flag)
  local score = int(code * SPAN + math.max(0, math.min(number(value), SPAN - 1)))
  if flag then call('ZADD', batch .. ':by:' .. order, flag, score, id)
  else call('ZADD', batch .. ':by:' .. order, score, id) end
end

local function list_state(batch, state)
  local id = call('HGET', JOB, 'id')
  put(batch, 'index', CODES[state], call('ZSCORE', batch .. ':jobs', id), id)
end

local function list_name(batch, id, name)
  call('HSET', JOB, 'name', name)
  call('ZADD', batch .. ':names', 0, name .. '\0' .. id)
end

local function reason_number(batch, reason)
  local known = call('HGET', batch .. ':reasons', reason)
  if known then return known end
  local count = call('HLEN', batch .. ':reasons')
  if count >= MOST_REASONS then reason = OTHER_REASON end
  call('HSETNX', batch .. ':reasons', reason, count)
  return call('HGET', batch .. ':reasons', reason)
end

local function list_end(batch, id, state, ran_ms, reason)
  local code = CODES[state]
  put(batch, 'cost', code, call('HGET', LEDGER, 'spent_nanousd'), id)
  put(batch, 'calls', code, call('HGET', LEDGER, 'sub_calls'), id)
  put(batch, 'turns', code, call('HGET', JOB, 'turns'), id)
  put(batch, 'time', code, ran_ms, id)
  if reason ~= '' then
    put(batch, 'reason', reason_number(batch, reason), call('ZSCORE', batch .. ':jobs', id), id)
  end
end

local function unlist_end(batch, id)
  for _, order in ipairs(ORDERS) do call('ZREM', batch .. ':by:' .. order, id) end
end

-- After a late charge of a job of the batch that has ended, or of a job below it; `key` is that of its hash.
local function list_cost(batch, key)
  local job = get(key, 'state', 'id')
  put(batch, 'cost', CODES[job[1]], call('HGET', key .. ':ledger', 'spent_nanousd'), job[2], 'XX')
end

local function for_batch(batch, command, ...)
  for _, suffix in ipairs(OF_BATCH) do call(command, batch .. suffix, ...) end
end
