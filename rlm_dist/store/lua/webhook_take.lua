-- Takes one webhook that is due, for one sender alone until its lease lapses.
-- KEYS: 1 list of due webhooks (rlm:webhooks)
-- ARGV: 1 lease_ms, 2… hosts whose webhooks are passed over
-- Returns {batch key, end of the lease, number of this attempt, url, ended_ms, host}, or false if none is due.
-- Atomic: of many senders only one may have it. The webhook of a batch that is gone, or runs again, is dropped.
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local passed_over = {}
for n = 2, #ARGV do passed_over[ARGV[n]] = true end

-- The host of a URL, so that equal hosts are equal texts, whatever their port.
local function host_of(url)
  local host = string.lower(url:match('^%a+://([^/?#]*)') or '')
  return (host:gsub(':%d*$', ''):gsub('%.+$', ''))
end

local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now_ms))
for _, batch in ipairs(due) do
  local fields = redis.call('HMGET', batch, 'webhook', 'ended_ms')
  if fields[1] and fields[2] then
    local host = host_of(fields[1])
    if not passed_over[host] then
      local until_ms = string.format('%.0f', now_ms + ARGV[1])
      redis.call('ZADD', KEYS[1], until_ms, batch)
      return {batch, until_ms, redis.call('HINCRBY', batch, 'webhook_tries', 1), fields[1], fields[2], host}
    end
  else
    redis.call('ZREM', KEYS[1], batch)
  end
end
return false
