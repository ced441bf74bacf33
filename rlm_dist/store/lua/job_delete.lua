-- Removes a job that has ended, with everything that is stored for it.
-- ARGV: 1 batch key if the whole batch is being removed, else ''
-- Returns {1, the keys of the blobs that no other job uses}; {0, state} if it has not ended; {2, batch key} if it
--         belongs to a batch that is not being removed; or NOT_FOUND.
-- Atomic: the job may be queued again between the check and the removal, or another job begin to use a blob.
local job = get(JOB, 'state', 'id', 'batch')
if not job[1] then return NOT_FOUND end
if not FINAL[job[1]] then return {0, job[1]} end
if job[3] and job[3] ~= ARGV[1] and call('EXISTS', job[3]) == 1 then return {2, job[3]} end
local unused = {1}
for _, blob in ipairs(call('SMEMBERS', BLOBS)) do
  call('ZREM', blob .. ':users', job[2])
  if in_use(blob) == 0 then
    call('UNLINK', blob)
    unused[#unused + 1] = blob
  end
end
call('ZREM', JOBS, job[2])
for index = 1, OWN_KEYS do call('UNLINK', KEYS[index]) end
return unused
