-- Records that a job uses a blob, which then does not expire before the job ends.
-- ARGV: 1 blob key
-- Returns 1, or 0 if the job is final (the blob keeps its TTL), or NOT_FOUND.
-- Atomic: a use recorded after the job ended would never be released.
local job = get(JOB, 'state', 'id')
if not job[1] then return NOT_FOUND end
if FINAL[job[1]] then return 0 end
call('SADD', BLOBS, ARGV[1])
call('SADD', ARGV[1] .. ':jobs', job[2])
call('PERSIST', ARGV[1])
return 1
