-- Prelude, after prelude_jobs.lua and prelude_calls.lua, of job_retry.lua and job_children.lua: a job that ended
-- without an answer is made ready to run again.
-- Calls that failed or were not answered are made again. The replies of its root model led an exhausted job to its
-- end, so its root calls are made again too. (Root calls have no request, as no other worker runs them.)
-- The journal is dropped if the job was exhausted, if its replay diverged, if it holds sub-calls that failed for a
-- reason that may have passed, or if a child has no answer. Replies that were paid for are still found by their call
-- ids. Samples that have an answer keep it, unless their answers were too different: then all are run again.
local SAMPLE = '{"v":1,"t":"sample_ended",'
local PASSING = {rate = true, transient = true, timeout = true, outage = true}

-- Drops the calls that are to be made again. Returns whether the journal is to be dropped for one of them, and how
-- many of them are sub-calls, and how many in flight.
local function drop_calls(exhausted)
  local states, passing, sub_calls, pending = call('HGETALL', CALLS), false, 0, 0
  for index = 1, #states, 2 do
    local call_id, settled, record = states[index], settled_state(states[index + 1]), open_state(states[index + 1])
    local answered, of_root = settled and not settled.failed, call('HEXISTS', REQUESTS, call_id) == 0
    if not answered or of_root and exhausted then
      local failure = (call('HGET', RESULTS, call_id) or ''):match('"kind":%s*"(%a+)"')
      passing = passing or not of_root and PASSING[failure]
      for _, key in ipairs({CALLS, RESULTS, REQUESTS}) do call('HDEL', key, call_id) end
      sub_calls = sub_calls + (of_root and 0 or 1)
      pending = pending + (record and in_flight(record) or 0)
    end
  end
  return passing, sub_calls, pending
end

-- Keeps all that is stored for a job that has ended, as it is to be used again.
local function keep_stored()
  local id = call('HGET', JOB, 'id')
  for _, key in ipairs(OWN) do call('PERSIST', key) end
  for _, blob in ipairs(call('SMEMBERS', BLOBS)) do
    call('SADD', blob .. ':jobs', id)
    call('ZREM', blob .. ':users', id)
    call('PERSIST', blob)
  end
end

-- Returns whether a job below this one has no answer; each of these is queued again when it is asked for.
local function unanswered_below()
  local unanswered = false
  as_children(true, function()
    keep_stored()
    if call('HGET', JOB, 'state') ~= 'succeeded' then
      call('HSET', JOB, 'again', 1)
      unanswered = true
    end
  end)
  return unanswered
end

local function drop_journal(reason)
  local entries = reason == 'NoMajority' and {} or call('LRANGE', JOURNAL, 0, -1)
  call('DEL', JOURNAL)
  for _, entry in ipairs(entries) do if entry:find(SAMPLE, 1, true) == 1 then call('RPUSH', JOURNAL, entry) end end
end

local function retry(state, above, batch)
  local fields = get(JOB, 'diverged', 'live_children', 'reason')
  local passing, sub_calls, pending = drop_calls(state == 'exhausted')
  local unanswered = fields[2] and unanswered_below()
  if state == 'exhausted' or fields[1] or passing or unanswered then drop_journal(fields[3]) end
  add_to_all(ledgers_of(above), {sub_calls = 0 - sub_calls})
  add_to_all(ledgers_of(above, batch), {pending_calls = 0 - pending})
  call('DEL', DONE)
  call('HDEL', JOB, 'outcome', 'ended_ms', 'started_ms', 'isolation', 'cancel', 'recoveries', 'lease_ms',
    'ended_entry', 'diverged', 'since_ms', 'ran_ms', 'turns', 'reason', 'again')
  keep_stored()
end
