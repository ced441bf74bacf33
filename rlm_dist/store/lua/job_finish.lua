-- Ends a running job, after the last of its journal and trace were appended.
-- ARGV: 1 epoch, 2 state, 3 outcome (JSON), 4 retention_ms, 5 turns, 6 why it has no answer, or '',
--       7 '1' to end it only if no call of it is in flight, else '', 8 turns begun so far,
--       9 number of entries of the journal, the entries, then the events
-- Returns {ended_ms, since_ms, its ledger} if this call or the one that it repeats ended the job; the number of calls
--         in flight if it is not ended because of them: no other is begun then; 0 if the job was final or is another
--         worker's; CANCELLED if it has an answer but was to stop; or NOT_FOUND.
-- Atomic: state, batch counts, TTLs, blob uses and the waking of waiters change together or not at all.
local job = get(JOB, 'state', 'epoch', 'outcome', 'cancel', 'parent')
if not job[1] then return NOT_FOUND end
if job[2] ~= ARGV[1] or job[1] ~= 'running' and job[3] ~= ARGV[3] then return 0 end
if job[1] == 'running' then
  if ARGV[2] == 'succeeded' and (job[4] or to_stop(jobs_above(job[5]))) then return CANCELLED end
  local in_flight = ARGV[7] == '1' and number(call('HGET', LEDGER, 'in_flight')) or 0
  if in_flight > 0 then call('HSET', JOB, 'stopping', ARGV[1]) return in_flight end
  append_to_journal(8)
  append_events(10 + ARGV[9], #ARGV)
  if tonumber(ARGV[5]) > number(call('HGET', JOB, 'turns')) then call('HSET', JOB, 'turns', ARGV[5]) end
  end_job(job[1], ARGV[2], ARGV[3], ARGV[4], ARGV[6])
end
return {call('HGET', JOB, 'ended_ms'), call('HGET', JOB, 'since_ms'), call('HGETALL', LEDGER)}
