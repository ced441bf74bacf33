-- Prelude of limits_share.lua, after prelude_limits.lua: what refusals say about how many calls an endpoint takes.
-- One refusal in a hundred is noise. Refusals are evidence of load only if they are more frequent than noise; the
-- number of calls in flight at that moment is then what the endpoint takes. tests/unit/llm/test_limiter_model.py runs
-- this file against models of endpoints.
-- Noise is up to NOISE of the calls; a ratio is not chance if it is SURE standard deviations above that.
local NOISE, SURE, SURELY_LOAD = 0.04, 2.5, 0.25
-- A cut leaves KEPT of the calls in flight, and at least FLOOR of what was lately served if the refusals may be
-- noise. For EPISODE_MS after the cut its burst of refusals comes in, and nothing grows.
local KEPT, FLOOR, EPISODE_MS, STEP, MOST_FAILS = 0.97, 0.7, 250, 0.06, 3
-- If nearly all calls that start after a cut are refused, and further cuts down to a single call do not change that,
-- then the endpoint does not refuse them because of their number.
local BLOCKED_CALLS, BLOCKED = 12, 0.8

local function begin_window(scope) scope.began_ms, scope.peak, scope.started, scope.refused = now_ms, 0, 0, 0 end

local function begin_fresh(scope) scope.fresh, scope.fresh_refused, scope.fresh_ok, scope.retry_at_ms = 0, 0, 0, 0 end

local function in_episode(scope) return scope.epoch > 0 and now_ms - scope.cut_ms < EPISODE_MS end

local function refuses_all(scope)
  if scope.fresh_refused < BLOCKED_CALLS then return false end
  return scope.fresh_refused >= BLOCKED * scope.fresh or scope.fresh_ok == 0 and scope.cap == 1
end

local function overloaded(scope)
  local least, noise = scope.step > 0 and 2 or 4, NOISE * scope.started
  return scope.refused >= least and scope.refused > noise + SURE * math.sqrt(noise)
end

local function lower(scope, in_flight)
  scope.cap = math.max(1, math.min(scope.cap, math.max(scope.low, math.floor(in_flight * KEPT + 0.5))))
end

-- Counts further refusals of the burst that led to a cut: they may show that it was not noise.
local function continue_burst(scope, refused, in_flight)
  scope.burst = scope.burst + refused
  if scope.burst >= scope.good * SURELY_LOAD then scope.low = 1 end
  lower(scope, in_flight)
end

local function cut(scope, in_flight)
  if scope.fresh_ok > 0 then
    scope.cut_from = scope.cap
    begin_fresh(scope)
  end
  scope.fails = scope.step == STEP and math.min(scope.fails + 1, MOST_FAILS) or 0
  scope.low = scope.refused < scope.started * SURELY_LOAD and math.floor(scope.good * FLOOR) or 1
  scope.epoch, scope.cut_ms, scope.burst = scope.epoch + 1, now_ms, scope.refused
  scope.rounds, scope.held, scope.step = 0, 0, 0
  lower(scope, in_flight)
  begin_window(scope)
end

-- All processes wait as long as the endpoint said. If it accepted no call at all, the cap was not the reason.
local function block(scope, in_flight)
  scope.blocked_ms = math.max(scope.blocked_ms, scope.retry_at_ms)
  if scope.fresh_ok == 0 and scope.epoch > 0 then scope.cap = math.max(scope.cap, scope.cut_from)
  elseif scope.fresh > scope.fresh_refused then cut(scope, in_flight) end
  begin_window(scope)
  begin_fresh(scope)
end
