-- Takes one webhook that is due, for a sender who has it alone until its lease lapses.
-- KEYS: 1 list of due webhooks (rlm:webhooks)
-- ARGV: 1 lease_ms
-- Returns {batch key, end of the lease, number of this try, url, ended_ms}, or false where none is due.
-- Atomic: of many senders one is to have it. A batch that is gone, or runs again, has nothing to tell.
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now_ms))
for _, batch in ipairs(due) do
  local known = redis.call('HMGET', batch, 'webhook', 'ended_ms')
  if known[1] and known[2] then
    local until_ms = string.format('%.0f', now_ms + ARGV[1])
    redis.call('ZADD', KEYS[1], until_ms, batch)
    return {batch, until_ms, redis.call('HINCRBY', batch, 'webhook_tries', 1), known[1], known[2]}
  end
  redis.call('ZREM', KEYS[1], batch)
end
return false
