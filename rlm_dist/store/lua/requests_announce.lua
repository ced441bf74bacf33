-- Records how many requests of each job a worker has under way at endpoints.
-- KEYS: 1 requests by worker
-- ARGV: 1 worker, 2 ttl_ms, then for each job: id, number of requests
-- Returns 1.
-- Atomic: the write also removes expired announcements; the key expires with the last one.
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local entries = redis.call('HGETALL', KEYS[1])
for index = 1, #entries, 2 do
  if tonumber(entries[index + 1]:match('^%d+')) <= now_ms then redis.call('HDEL', KEYS[1], entries[index]) end
end
local counts = table.concat(ARGV, ' ', 3)
if counts == '' then return redis.call('HDEL', KEYS[1], ARGV[1]) end
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f ', now_ms + ARGV[2]) .. counts)
redis.call('PEXPIRE', KEYS[1], math.max(ARGV[2], redis.call('PTTL', KEYS[1])))
return 1
