-- Sets ceilings of a scope for all workers, or takes them back; the others stay as they are.
-- KEYS: 1 ceilings of all scopes that were set (rlm:ceilings; see prelude_limits_ceilings.lua)
-- ARGV: 1 scope id, 2 url, 3 model, 4 in flight, 5 requests a minute, 6 tokens a minute: each a number, '-' to take it
--       back, or '' to leave it
-- Returns what is set now: '<in flight> <requests> <tokens>', each a number or '-'.
-- Atomic: two operators who set two ceilings at once must not undo each other's.
local before, now = (redis.call('HGET', KEYS[1], ARGV[1]) or '- - -'):gmatch('%S+'), {}
for index = 4, 6 do
  local was = before()
  now[#now + 1] = ARGV[index] == '' and was or ARGV[index]
end
local text = table.concat(now, ' ')
if text == '- - -' then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], table.concat({text, ARGV[2], ARGV[3]}, ' '))
end
return text
