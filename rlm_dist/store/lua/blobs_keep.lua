-- Keeps blobs for a whole retention time from now on; those that a job in progress uses stay without a TTL.
-- KEYS: the blobs
-- ARGV: 1 retention_ms
-- Returns for each blob 1 if it exists, else 0.
-- Atomic: a blob that was reported as existing must not expire before its new TTL is set.
local exist = {}
for index, blob in ipairs(KEYS) do
  redis.call('PEXPIRE', blob, ARGV[1], 'GT')
  exist[index] = redis.call('EXISTS', blob)
end
return exist
