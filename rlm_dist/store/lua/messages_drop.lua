-- Removes the messages with a text from one page of a queue's list, counted from its tail, where workers take.
-- KEYS: 1 list
-- ARGV: 1 text, 2 messages before the page, 3 messages in the page
-- Returns how many messages the page had, and how many were removed.
-- Atomic: the positions of messages change as workers take some.
local DROPPED = 'dropped'
local before = tonumber(ARGV[2])
local page = redis.call('LRANGE', KEYS[1], -before - ARGV[3], -before - 1)
local dropped = 0
for index, message in ipairs(page) do
  if message:find(ARGV[1], 1, true) then
    redis.call('LSET', KEYS[1], index - 1 - #page - before, DROPPED)
    dropped = dropped + 1
  end
end
if dropped > 0 then redis.call('LREM', KEYS[1], -dropped, DROPPED) end
return {#page, dropped}
