-- Creates one job, unless it is there.
-- ARGV: 1 job id, 2 spec (JSON), 3 batch key or '', 4 line number, 5 blob key of the context,
--       6 max_nanousd or '', 7 max_tokens or '', 8 max_sub_calls or '', 9 cancelled outcome (JSON),
--       10 retention_ms
-- Returns 1 where created, 0 where it was there, NOT_FOUND where its batch is not there.
-- Atomic: a job that is half registered would be missing from its batch, or lose its context.
local id, batch, retention_ms = ARGV[1], ARGV[3], ARGV[10]
if call('EXISTS', JOB) == 1 then return 0 end
if batch ~= '' and call('EXISTS', batch) == 0 then return NOT_FOUND end

call('HSET', JOB, 'id', id, 'spec', ARGV[2], 'epoch', 0, 'queued_ms', int(now_ms))
for index, field in ipairs({'max_nanousd', 'max_tokens', 'max_sub_calls'}) do
  if ARGV[5 + index] ~= '' then call('HSET', JOB, field, ARGV[5 + index]) end
end
call('ZADD', JOBS, int(now_ms), id)
call('ZADD', QUEUED, int(now_ms), id)
call('SADD', BLOBS, ARGV[5])
call('SADD', ARGV[5] .. ':jobs', id)
call('PERSIST', ARGV[5])
if batch ~= '' then
  call('HSET', JOB, 'batch', batch)
  call('ZADD', batch .. ':jobs', ARGV[4], id)
  for _, suffix in ipairs({'', ':ledger', ':jobs', ':ended'}) do call('PERSIST', batch .. suffix) end
end
set_state(batch ~= '' and batch, nil, 'queued')
if batch ~= '' and call('HEXISTS', batch, 'cancelled') == 1 then
  end_job('queued', 'cancelled', ARGV[9], retention_ms)
end

-- The list of jobs sheds the oldest names whose job has expired, a few at each creation.
for _, old in ipairs(call('ZRANGE', JOBS, 0, 1)) do
  if call('EXISTS', JOB:sub(1, -#id - 1) .. old) == 0 then call('ZREM', JOBS, old) end
end
return 1
