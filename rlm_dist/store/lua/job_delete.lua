-- Removes a job that has ended and the jobs below it, with everything that is stored for them.
-- ARGV: 1 batch key if the whole batch is being removed, else ''
-- Returns {1, the keys of the blobs that no other job uses}; {0, state} if it has not ended; {2, batch key} if it
--         belongs to a batch that is not being removed; {3, parent's key} if it is a child; or NOT_FOUND.
-- Atomic: the job may be queued again between the check and the removal, or another job begin to use a blob.
local job = get(JOB, 'state', 'batch', 'parent')
if not job[1] then return NOT_FOUND end
if job[3] and call('EXISTS', job[3]) == 1 then return {3, job[3]} end
if not FINAL[job[1]] then return {0, job[1]} end
if job[2] and job[2] ~= ARGV[1] and call('EXISTS', job[2]) == 1 then return {2, job[2]} end
local unused = {1}

local function remove()
  local id = call('HGET', JOB, 'id')
  for _, blob in ipairs(call('SMEMBERS', BLOBS)) do
    if id then call('ZREM', blob .. ':users', id) end
    if in_use(blob) == 0 then
      call('UNLINK', blob)
      unused[#unused + 1] = blob
    end
  end
  if id then call('ZREM', JOBS, id) end
  for _, key in ipairs(OWN) do call('UNLINK', key) end
end

as_children(true, remove)
remove()
return unused
