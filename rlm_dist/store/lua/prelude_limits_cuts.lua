-- Put before limits_share.lua, after prelude_limits.lua: what refusals say about how many calls a place takes.
-- One refusal in a hundred is noise: it is evidence of load only when refusals come more often than noise does,
-- and the number in flight at that moment is then what the endpoint takes. tests/unit/test_limiter_model.py
-- runs this file against models of endpoints.
-- Noise is up to NOISE of the calls; a ratio is no chance if it is SURE standard deviations above that.
local NOISE, SURE, SURELY_LOAD = 0.04, 2.5, 0.25
-- A cut leaves KEPT of what is in flight, and FLOOR of what was lately served if the refusals may be noise. For
-- EPISODE_MS after it its burst of refusals comes in, and nothing grows.
local KEPT, FLOOR, EPISODE_MS, STEP, MOST_FAILS = 0.97, 0.7, 250, 0.06, 3
-- If nearly all calls that start after a cut are refused, through whatever further cuts down to a single call, it is
-- not their number that the endpoint minds.
local BLOCKED_CALLS, BLOCKED = 12, 0.8

local function begin_window(at) at.began_ms, at.peak, at.started, at.refused = now_ms, 0, 0, 0 end

local function begin_fresh(at) at.fresh, at.fresh_refused, at.fresh_ok, at.retry_at_ms = 0, 0, 0, 0 end

local function in_episode(at) return at.epoch > 0 and now_ms - at.cut_ms < EPISODE_MS end

local function refuses_all(at)
  if at.fresh_refused < BLOCKED_CALLS then return false end
  return at.fresh_refused >= BLOCKED * at.fresh or at.fresh_ok == 0 and at.cap == 1
end

local function overloaded(at)
  local least, noise = at.step > 0 and 2 or 4, NOISE * at.started
  return at.refused >= least and at.refused > noise + SURE * math.sqrt(noise)
end

local function lower(at, flying)
  at.cap = math.max(1, math.min(at.cap, math.max(at.low, math.floor(flying * KEPT + 0.5))))
end

-- Further refusals of the burst that led to a cut: they may show that it was no noise.
local function continue_burst(at, refused, flying)
  at.burst = at.burst + refused
  if at.burst >= at.good * SURELY_LOAD then at.low = 1 end
  lower(at, flying)
end

local function cut(at, flying)
  if at.fresh_ok > 0 then
    at.cut_from = at.cap
    begin_fresh(at)
  end
  at.fails = at.step == STEP and math.min(at.fails + 1, MOST_FAILS) or 0
  at.low = at.refused < at.started * SURELY_LOAD and math.floor(at.good * FLOOR) or 1
  at.epoch, at.cut_ms, at.burst = at.epoch + 1, now_ms, at.refused
  at.rounds, at.held, at.step = 0, 0, 0
  lower(at, flying)
  begin_window(at)
end

-- Everybody waits as long as the endpoint said. If it took nothing at all, the cap was not the reason.
local function block(at, flying)
  at.blocked_ms = math.max(at.blocked_ms, at.retry_at_ms)
  if at.fresh_ok == 0 and at.epoch > 0 then at.cap = math.max(at.cap, at.cut_from)
  elseif at.fresh > at.fresh_refused then cut(at, flying) end
  begin_window(at)
  begin_fresh(at)
end
