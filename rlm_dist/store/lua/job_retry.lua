-- Queues again a job that ended without an answer; what it paid for stays: ledger, answered calls, journal.
-- ARGV: none, or to raise its limits: 1 spec (JSON), 2 max_nanousd, 3 max_tokens, 4 max_sub_calls; what is '' stays
-- Returns 1, 0 if the job has not ended or has its answer, or NOT_FOUND.
-- Atomic: a job reset by halves would be missing from its batch, or expire in the middle of its second run.
-- Calls that failed or were not answered are made again. The replies of its root model led an exhausted job to its
-- end, so its root calls are made again too. (Root calls have no request, as no other worker runs them.)
-- The journal is dropped if the job was exhausted, if its replay diverged, or if it holds sub-calls that failed for a
-- reason that may have passed. Replies that were paid for are still found by their call ids.
-- Samples that have an answer keep it, unless their answers were too different: then all are run again.
local job = get(JOB, 'state', 'id', 'batch', 'ended_entry', 'diverged', 'reason')
local state, id, batch = job[1], job[2], job[3]
if not state then return NOT_FOUND end
if not FINAL[state] or state == 'succeeded' then return 0 end
if batch and call('EXISTS', batch) == 0 then return NOT_FOUND end
if ARGV[1] then call('HSET', JOB, 'spec', ARGV[1]) end
for index, field in ipairs({'max_nanousd', 'max_tokens', 'max_sub_calls'}) do
  if (ARGV[1 + index] or '') ~= '' then call('HSET', JOB, field, ARGV[1 + index]) end
end
local SAMPLE = '{"v":1,"t":"sample_ended",'
local PASSING = {rate = true, transient = true, timeout = true, outage = true}
local states, drops_journal = call('HGETALL', CALLS), state == 'exhausted' or job[5]
for index = 1, #states, 2 do
  local call_id, settled = states[index], settled_state(states[index + 1])
  local answered = settled and not settled.failed
  local of_root = call('HEXISTS', REQUESTS, call_id) == 0
  if not answered or of_root and state == 'exhausted' then
    local failure = (call('HGET', RESULTS, call_id) or ''):match('"kind":%s*"(%a+)"')
    drops_journal = drops_journal or not of_root and PASSING[failure]
    call('HDEL', CALLS, call_id)
    call('HDEL', RESULTS, call_id)
    call('HDEL', REQUESTS, call_id)
    if not of_root then call('HINCRBY', LEDGER, 'sub_calls', -1) end
  end
end
if drops_journal then
  local entries = job[6] == 'NoMajority' and {} or call('LRANGE', JOURNAL, 0, -1)
  call('DEL', JOURNAL)
  for _, entry in ipairs(entries) do if entry:find(SAMPLE, 1, true) == 1 then call('RPUSH', JOURNAL, entry) end end
end
local pending = number(call('HGET', LEDGER, 'pending_calls'))
call('HDEL', LEDGER, 'pending_calls')
call('DEL', DONE)
call('HDEL', JOB, 'outcome', 'ended_ms', 'started_ms', 'isolation', 'cancel', 'recoveries', 'lease_ms',
  'ended_entry', 'diverged', 'since_ms', 'ran_ms', 'turns', 'reason')
for index = 1, OWN_KEYS do call('PERSIST', KEYS[index]) end
for _, blob in ipairs(call('SMEMBERS', BLOBS)) do
  call('SADD', blob .. ':jobs', id)
  call('ZREM', blob .. ':users', id)
  call('PERSIST', blob)
end
if batch then
  call('HDEL', batch, 'cancelled', 'ended_ms', 'webhook_tries', 'webhook_state')
  call('HINCRBY', batch .. ':ledger', 'pending_calls', 0 - pending)
  if job[4] then call('XDEL', batch .. ':ended', job[4]) end
  unlist_end(batch, id)
  for_batch(batch, 'PERSIST')
end
set_state(batch, state, 'queued')
call('ZADD', QUEUED, int(now_ms), id)
return 1
