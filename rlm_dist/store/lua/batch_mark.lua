-- Sets or removes one of the marks of a batch: sealed, paused, cancelled.
-- KEYS: 1 batch, 2 ledger, 3 jobs, 4 ended, 5 list of batches, 6 list of due webhooks
-- ARGV: 1 mark, 2 'set' or 'clear'
-- Returns 1, 0 if the batch has ended and cannot be changed any more, or NOT_FOUND.
-- Atomic: a batch that completes in between must not be marked as paused or cancelled afterwards.
local batch = redis.call('HMGET', KEYS[1], 'digest', 'sealed', 'cancelled', 'n:queued', 'n:running', 'webhook')
if not batch[1] then return 'NOT_FOUND' end
local open = tonumber(batch[4] or 0) + tonumber(batch[5] or 0)
if ARGV[1] ~= 'sealed' and (batch[3] or batch[2] and open == 0) then return 0 end
if ARGV[2] == 'set' then
  redis.call('HSET', KEYS[1], ARGV[1], 1)
  local now_ms = redis.call('TIME')[1] .. '000'
  if ARGV[1] ~= 'paused' and open == 0 and batch[6] and redis.call('HSETNX', KEYS[1], 'ended_ms', now_ms) == 1 then
    redis.call('ZADD', KEYS[6], now_ms, KEYS[1])
  end
else
  redis.call('HDEL', KEYS[1], ARGV[1])
  if ARGV[1] == 'paused' then redis.call('HDEL', KEYS[1], 'pause_reason') end
end
return 1
