-- Put before limits_share.lua: how the calls in flight to one place (an endpoint and model) are limited.
-- KEYS: keys.limit_keys(place), as named here. A time is in Unix milliseconds of this server.
-- PLACE holds
--   cap                   calls in flight that all workers together may have now
--   epoch                 number of cuts so far; a call that starts now belongs to it
--   cut_ms, cut_from      when the last cut was, and from where
--   high                  calls that were in flight, and served, when the last 429 came
--   raised_ms, done       when the cap was raised last, and the calls that have ended since
--   rounds, held, step   rounds and calls since the cap came back to high, and the last step beyond it
--   blocked_ms            until when the endpoint wants no calls
--   <bucket>, <bucket>_ms what is left of a rate limit, and when that was so
-- A holder (a value of HOLDERS, by name of its process) is
--   <number of its last report> <lease_ms> <in flight> <wanted> <allowed> <starts granted>
local PLACE, HOLDERS = KEYS[1], KEYS[2]
local call, time = redis.call, redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
-- Slow start at FIRST, doubling; a cut leaves KEPT of what was served; then half the way back to it each round,
-- HOLD_ROUNDS and HOLD_CALLS there, and steps beyond it that double, up to a quarter.
local FIRST, ROUND_MS, EPISODE_MS, USED, KEPT, HOLD_ROUNDS, HOLD_CALLS = 32, 250, 250, 0.75, 0.9, 5, 150
-- A minute's limit flows in over 61 s, with a second's worth at once: no minute sees more than the limit.
local FLOW_S = 61

local function int(n) return string.format('%.0f', n) end

local function read_place()
  local at = {cap = FIRST, epoch = 0, cut_ms = 0, cut_from = 0, high = 0, raised_ms = now_ms, done = 0, rounds = 0,
    held = 0, step = 0, blocked_ms = 0}
  local known = call('HGETALL', PLACE)
  for index = 1, #known, 2 do at[known[index]] = tonumber(known[index + 1]) end
  return at
end

-- The holders whose lease lasts, by name; the others are forgotten, and their permits are free again.
local function read_holders()
  local live, known = {}, call('HGETALL', HOLDERS)
  for index = 1, #known, 2 do
    local report, lease_ms, in_flight, wanted, allowed, starts =
      known[index + 1]:match('^(%d+) (%d+) (%d+) (%d+) (%d+) (%-?%d+)$')
    if tonumber(lease_ms) > now_ms then
      live[known[index]] = {name = known[index], report = report, in_flight = tonumber(in_flight),
        wanted = tonumber(wanted), allowed = tonumber(allowed), starts = tonumber(starts)}
    else
      call('HDEL', HOLDERS, known[index])
    end
  end
  return live
end

-- One 429 episode cuts once: a refusal of a call that started before the cut says nothing new, but while the
-- refusals of one burst come in, what is left in flight shows better and better how much the endpoint serves.
local function cut(at, epoch, served, used)
  if epoch >= at.epoch then
    at.epoch, at.cut_ms, at.cut_from = at.epoch + 1, now_ms, math.min(at.cap, used)
  elseif now_ms - at.cut_ms > EPISODE_MS then
    return
  end
  local least = math.max(1, math.floor(at.cut_from / 2))
  at.high = math.max(least, math.min(at.cut_from, served))
  at.cap = math.max(least, math.floor(at.high * KEPT))
  at.raised_ms, at.done, at.rounds, at.held, at.step = now_ms, 0, 0, 0, 0
end

-- A cap is raised that is used. A round is over when every permit has been used once, or, before the first cut,
-- after its time alone. After the first cut it must also be wanted; before, there is to be some for each process
-- that comes to want more, while others hold some to spare.
local function raise(at, wanted, flying)
  if flying < at.cap * USED or now_ms - at.raised_ms < ROUND_MS then return end
  if at.epoch > 0 and (wanted <= at.cap or at.done < at.cap) then return end
  local step = at.cap
  if at.cap < at.high then
    step = math.ceil((at.high - at.cap) / 2)
  elseif at.epoch > 0 then
    at.rounds, at.held = at.rounds + 1, at.held + at.done
    if at.rounds > HOLD_ROUNDS and at.held >= HOLD_CALLS then
      at.step = math.max(1, math.min(math.floor(at.cap / 4), at.step * 2))
    end
    step = at.step
  end
  at.cap, at.raised_ms, at.done = at.cap + step, now_ms, 0
end
