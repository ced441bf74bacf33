-- Records that a job uses a blob, which then does not expire before the job ends.
-- ARGV: 1 blob key, 2 its bytes, 3 TTL in ms of a blob that the job has no room for, unless other jobs use it
-- Returns 1; 0 if the job is final (the blob keeps its TTL); 'refused <kind> <used> <limit> 0' if it has no room for
--         the blob; or NOT_FOUND.
-- Atomic: a use recorded after the job ended would never be released.
local job = get(JOB, 'state', 'id')
if not job[1] then return NOT_FOUND end
if FINAL[job[1]] then return 0 end
local refused = call('SISMEMBER', BLOBS, ARGV[1]) == 0 and no_room(ARGV[2])
if refused then
  if call('EXISTS', ARGV[1] .. ':jobs') == 0 then call('PEXPIRE', ARGV[1], ARGV[3]) end
  return refused
end
call('SADD', BLOBS, ARGV[1])
call('SADD', ARGV[1] .. ':jobs', job[2])
call('PERSIST', ARGV[1])
return 1
