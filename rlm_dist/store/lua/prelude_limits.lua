-- Prelude of limits_share.lua: what is stored about one scope (an endpoint and model), and about its holders.
-- KEYS: keys.limit_keys(scope id), as named here. All times are in Unix milliseconds of this server.
-- SCOPE holds url and model, for people, and these numbers:
--   cap, epoch             calls in flight that all workers together may have now; number of cuts so far
--   began_ms, peak         when the window of outcomes began, and the most calls in flight in it
--   started, refused       calls that started in the window, and how many of them a 429 refused
--   fresh, fresh_refused   the same since the cut after which none was answered, or since the last cut; and
--   fresh_ok               how many of them were answered
--   retry_at_ms            when the last of those refusals may be tried again
--   cut_ms, cut_from, low, burst  when the last cut was, the cap before it, the least cap that it may leave, and
--                          its refusals
--   good                   calls in flight that were lately served without trouble
--   rounds, held, step     quiet windows and calls since the last cut, and the last step up (0: none since)
--   fails                  how many first steps up in a row were refused
--   blocked_ms             until when the endpoint accepts no calls
--   alive_ms               when the endpoint last answered anything
--   away_ms, next_ms, tries  since when it has not answered (0: it does), when to try next, number of tries
--   settings_in_flight, settings_requests, settings_tokens  the ceilings of the workers' settings (0: none)
--   <bucket>, <bucket>_ms  what is left of a rate limit, and at what time
-- It also holds `set`: the ceilings that an operator had set when the last report came.
-- A holder (a value of HOLDERS, by the name of its process) is
--   <number of its last report> <lease_ms> <in flight> <wanted> <allowed> <starts granted> <waiting>
local SCOPE, HOLDERS, AWAY, SCOPES, CEILINGS, HISTORY = unpack(KEYS)
local call, time = redis.call, redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local FIRST, SCOPE_MS = 32, 3600000
local NUMBERS = {'epoch', 'peak', 'started', 'refused', 'fresh', 'fresh_refused', 'fresh_ok', 'retry_at_ms', 'cut_ms',
  'cut_from', 'low', 'burst', 'good', 'rounds', 'held', 'step', 'fails', 'blocked_ms', 'alive_ms', 'away_ms',
  'next_ms', 'tries'}
local stored = {}

local function int(n) return string.format('%.0f', n) end

local function read_scope()
  local scope, fields = {cap = FIRST, began_ms = now_ms}, call('HGETALL', SCOPE)
  for _, name in ipairs(NUMBERS) do scope[name] = 0 end
  for index = 1, #fields, 2 do
    stored[fields[index]] = fields[index + 1]
    scope[fields[index]] = tonumber(fields[index + 1])
  end
  return scope
end

-- Writes only the fields that have changed.
local function write_scope(scope)
  local changed = {}
  for field, value in pairs(scope) do
    local text = string.format('%.14g', value)
    if stored[field] ~= text then changed[#changed + 1], changed[#changed + 2] = field, text end
  end
  if #changed > 0 then call('HSET', SCOPE, unpack(changed)) end
  call('PEXPIRE', SCOPE, SCOPE_MS)
end

-- The holders with a live lease, by name; the others are removed, which frees their permits.
local function read_holders()
  local live, entries = {}, call('HGETALL', HOLDERS)
  for index = 1, #entries, 2 do
    local name, numbers = entries[index], {}
    for number in entries[index + 1]:gmatch('%S+') do numbers[#numbers + 1] = tonumber(number) end
    if numbers[2] > now_ms then
      live[name] = {name = name, report = numbers[1], in_flight = numbers[3], wanted = numbers[4],
        allowed = numbers[5], starts = numbers[6]}
    else
      call('HDEL', HOLDERS, name)
    end
  end
  return live
end
