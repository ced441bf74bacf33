-- Queues a job again that ended without an answer; what it paid for stays: ledger, answered calls, journal.
-- ARGV: none
-- Returns 1, 0 where the job has not ended or has its answer, or NOT_FOUND.
-- Atomic: a job half taken back would be missing from its batch, or expire in the middle of its second run.
-- Calls that failed or were not answered are asked anew. A job that was exhausted came to its end by what its
-- root model said: that model is asked anew too (its calls have no request, as no other worker runs them).
-- A journal that did not hold when it was replayed is not replayed again, and neither is one with sub-calls in it
-- that failed for a reason that may be gone: replies that were paid for are found by their ids all the same.
local job = get(JOB, 'state', 'id', 'batch', 'ended_entry', 'diverged')
local state, id, batch = job[1], job[2], job[3]
if not state then return NOT_FOUND end
if not FINAL[state] or state == 'succeeded' then return 0 end
if batch and call('EXISTS', batch) == 0 then return NOT_FOUND end
local PASSING = {rate = true, transient = true, timeout = true, outage = true}
local known, asks_again = call('HGETALL', CALLS), state == 'exhausted' or job[5]
for at = 1, #known, 2 do
  local ended = settled_state(known[at + 1])
  local kept = ended and not ended.failed
  local of_root = call('HEXISTS', REQUESTS, known[at]) == 0
  if not kept or of_root and state == 'exhausted' then
    local failure = (call('HGET', RESULTS, known[at]) or ''):match('"kind":%s*"(%a+)"')
    asks_again = asks_again or not of_root and PASSING[failure]
    call('HDEL', CALLS, known[at])
    call('HDEL', RESULTS, known[at])
    call('HDEL', REQUESTS, known[at])
    if not of_root then call('HINCRBY', LEDGER, 'sub_calls', -1) end
  end
end
if asks_again then call('DEL', JOURNAL) end
call('DEL', DONE)
call('HDEL', JOB, 'outcome', 'ended_ms', 'started_ms', 'isolation', 'cancel', 'recoveries', 'lease_ms',
  'ended_entry', 'diverged', 'since_ms', 'ran_ms')
for index = 1, OWN_KEYS do call('PERSIST', KEYS[index]) end
for _, blob in ipairs(call('SMEMBERS', BLOBS)) do
  call('SADD', blob .. ':jobs', id)
  call('PERSIST', blob)
end
if batch then
  call('HDEL', batch, 'cancelled', 'ended_ms', 'webhook_tries', 'webhook_state')
  if job[4] then call('XDEL', batch .. ':ended', job[4]) end
  for _, suffix in ipairs({'', ':ledger', ':jobs', ':ended'}) do call('PERSIST', batch .. suffix) end
end
set_state(batch, state, 'queued')
call('ZADD', QUEUED, int(now_ms), id)
return 1
