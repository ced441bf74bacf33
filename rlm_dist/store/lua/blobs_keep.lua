-- Keeps blobs for a whole retention time from now on; those that a job in progress uses stay without a TTL.
-- KEYS: the blobs
-- ARGV: 1 retention_ms
-- Returns for each blob 1 where it is there, else 0.
-- Atomic: a blob that was seen must not expire before its time starts anew.
local there = {}
for index, blob in ipairs(KEYS) do
  redis.call('PEXPIRE', blob, ARGV[1], 'GT')
  there[index] = redis.call('EXISTS', blob)
end
return there
