-- Creates one job, unless it exists.
-- ARGV: 1 job id, 2 spec (JSON), 3 batch key or '', 4 line number, 5 blob key of the context,
--       6 max_nanousd or '', 7 max_tokens or '', 8 max_sub_calls or '', 9 cancelled outcome (JSON),
--       10 retention_ms, 11 the user's name for the job, 12 tags (JSON) or '', then the keys of further blobs
-- Returns 1 if it was created, 0 if it exists, NOT_FOUND if its batch does not exist.
-- Atomic: a half-registered job would be missing from its batch, or lose its context.
local id, batch, retention_ms = ARGV[1], ARGV[3], ARGV[10]
if call('EXISTS', JOB) == 1 then return 0 end
local found = batch ~= '' and get(batch, 'digest', 'cancelled')
if found and not found[1] then return NOT_FOUND end

local fields = {'id', id, 'spec', ARGV[2], 'epoch', 0, 'queued_ms', int(now_ms)}
local function add(field, value)
  if value ~= '' then fields[#fields + 1], fields[#fields + 2] = field, value end
end
add('batch', batch)
add('tags', ARGV[12])
for index, field in ipairs({'max_nanousd', 'max_tokens', 'max_sub_calls'}) do add(field, ARGV[5 + index]) end
call('HSET', JOB, unpack(fields))
call('ZADD', JOBS, int(now_ms), id)
call('ZADD', QUEUED, int(now_ms), id)
for _, blob in ipairs({ARGV[5], unpack(ARGV, 13)}) do
  call('SADD', BLOBS, blob)
  call('SADD', blob .. ':jobs', id)
  call('PERSIST', blob)
end
if found then
  call('ZADD', batch .. ':jobs', ARGV[4], id)
  -- The keys of a batch expire together or not at all.
  if call('PERSIST', batch) == 1 then for_batch(batch, 'PERSIST') end
  list_name(batch, id, ARGV[11])
end
set_state(found and batch, nil, 'queued')
if found and found[2] then end_job('queued', 'cancelled', ARGV[9], retention_ms) end

-- Each creation removes from the list of jobs up to two of the oldest ids, if their jobs have expired.
local oldest, prefix = call('ZRANGE', JOBS, 0, 1), JOB:sub(1, -#id - 1)
for _, old in ipairs(oldest) do
  if call('EXISTS', prefix .. old) == 0 then call('ZREM', JOBS, old) end
end
return 1
