-- Opens a batch, unless it exists. It expires if it stays empty.
-- KEYS: 1 batch, 2 ledger, 3 jobs, 4 ended, 5 list of batches, 6 list of due webhooks
-- ARGV: 1 batch id, 2 digest, 3 total or '', 4 max_nanousd or '', 5 max_tokens or '', 6 retention_ms,
--       7 webhook or '', 8 tags (JSON) or ''
-- Returns 1 if it was created, 0 if it exists with this digest, -1 if it exists with another.
-- Atomic: two submitters of one name must not both believe that it is theirs.
local digest = redis.call('HGET', KEYS[1], 'digest')
if digest then return digest == ARGV[2] and 0 or -1 end
local time = redis.call('TIME')
local now_ms = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
redis.call('HSET', KEYS[1], 'digest', ARGV[2], 'created_ms', now_ms)
for index, field in ipairs({'total', 'max_nanousd', 'max_tokens'}) do
  if ARGV[2 + index] ~= '' then redis.call('HSET', KEYS[1], field, ARGV[2 + index]) end
end
if ARGV[7] ~= '' then redis.call('HSET', KEYS[1], 'webhook', ARGV[7], 'webhooks', KEYS[6]) end
if ARGV[8] ~= '' then redis.call('HSET', KEYS[1], 'tags', ARGV[8]) end
redis.call('PEXPIRE', KEYS[1], ARGV[6])
redis.call('ZADD', KEYS[5], now_ms, ARGV[1])
for _, old in ipairs(redis.call('ZRANGE', KEYS[5], 0, 1)) do
  if redis.call('EXISTS', KEYS[1]:sub(1, -#ARGV[1] - 1) .. old) == 0 then redis.call('ZREM', KEYS[5], old) end
end
return 1
