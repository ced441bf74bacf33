-- Prelude of limits_share.lua, after prelude_limits.lua: what happened in each of the last minutes, for people.
-- HISTORY, by minute since 1970: <limit> <most in flight> <ended> <refused> <errors>, and <bucket>:<n> for each bucket
-- of latencies that has any (schema/limits.py). limit is how many calls could be in flight at the end of the minute.
local MINUTES = 60

local function add_latencies(counts, text)
  for bucket, n in text:gmatch('(%d+):(%d+)') do counts[bucket] = (counts[bucket] or 0) + n end
end

local function prune(minute)
  for _, old in ipairs(call('HKEYS', HISTORY)) do
    if tonumber(old) <= minute - MINUTES then call('HDEL', HISTORY, old) end
  end
end

-- Adds one report to the present minute. Writes nothing if nothing has changed.
local function note_minute(limit, in_flight, ended, refused, errors, latencies)
  local minute, counts = math.floor(now_ms / 60000), {}
  local before, old = call('HGET', HISTORY, int(minute)), {}
  local sums = (before or '0 0 0 0 0'):match('^%d+ %d+ %d+ %d+ %d+')
  for number in sums:gmatch('%d+') do old[#old + 1] = tonumber(number) end
  local news = ended > 0 or refused > 0 or errors > 0 or limit ~= old[1] or in_flight > old[2]
  if before and not news then return end
  add_latencies(counts, before or '')
  add_latencies(counts, latencies)
  local words = {int(limit), int(math.max(in_flight, old[2])), int(old[3] + ended), int(old[4] + refused),
    int(old[5] + errors)}
  for bucket, n in pairs(counts) do words[#words + 1] = bucket .. ':' .. int(n) end
  call('HSET', HISTORY, int(minute), table.concat(words, ' '))
  if before then return end
  prune(minute)
  call('PEXPIRE', HISTORY, SCOPE_MS)
end
