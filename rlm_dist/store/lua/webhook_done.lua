-- Records the result of an attempt to send a webhook, and when it is due again.
-- KEYS: 1 list of due webhooks (rlm:webhooks)
-- ARGV: 1 batch key, 2 end of the lease, 3 result of the attempt, 4 in how many ms it is due again, or ''
-- Returns 1, or 0 if the lease has lapsed and another sender has it.
-- Atomic: a sender that was too slow must neither delay nor end another sender's delivery.
if redis.call('ZSCORE', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
local time = redis.call('TIME')
if ARGV[4] == '' then
  redis.call('ZREM', KEYS[1], ARGV[1])
else
  local due_ms = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[4]
  redis.call('ZADD', KEYS[1], string.format('%.0f', due_ms), ARGV[1])
end
if redis.call('EXISTS', ARGV[1]) == 1 then redis.call('HSET', ARGV[1], 'webhook_state', ARGV[3]) end
return 1
