-- Queues again a job that ended without an answer; what it paid for stays: ledger, answered calls, journal.
-- ARGV: none, or to raise its limits: 1 spec (JSON), 2 max_nanousd, 3 max_tokens, 4 max_sub_calls; what is '' stays
-- Returns 1, 0 if the job has not ended or has its answer, or NOT_FOUND.
-- Atomic: a job reset by halves would be missing from its batch, or expire in the middle of its second run.
local job = get(JOB, 'state', 'id', 'batch', 'ended_entry')
local state, id, batch = job[1], job[2], job[3]
if not state then return NOT_FOUND end
if not FINAL[state] or state == 'succeeded' then return 0 end
if batch and call('EXISTS', batch) == 0 then return NOT_FOUND end
if ARGV[1] then call('HSET', JOB, 'spec', ARGV[1]) end
for index, field in ipairs({'max_nanousd', 'max_tokens', 'max_sub_calls'}) do
  if (ARGV[1 + index] or '') ~= '' then call('HSET', JOB, field, ARGV[1 + index]) end
end
retry(state, {}, batch)
if batch then
  call('HDEL', batch, 'cancelled', 'ended_ms', 'webhook_tries', 'webhook_state')
  if job[4] then call('XDEL', batch .. ':ended', job[4]) end
  unlist_end(batch, id)
  for_batch(batch, 'PERSIST')
end
set_state(batch, state, 'queued')
call('ZADD', QUEUED, int(now_ms), id)
return 1
