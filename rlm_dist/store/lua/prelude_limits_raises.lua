-- Prelude of limits_share.lua, after prelude_limits_cuts.lua: how the cap grows while refusals are mere noise.
-- A window ends after as many calls as the cap, but not before WINDOW_MS; before the first cut it ends after
-- ROUND_MS. The cap counts as used if the fraction USED of it was in flight.
local WINDOW_MS, WINDOW_CALLS, ROUND_MS, USED = 100, 8, 250, 0.9
-- After a cut the cap stays for ROUNDS windows and HOLD_CALLS calls: longer if steps up were refused, and only for
-- one window if it is FAR_BELOW what was lately served. Then each window raises it, by steps that double.
local ROUNDS, HOLD_CALLS, HOLD_GROWS, LARGEST_STEP, FAR_BELOW = 4, 100, 1.5, 0.5, 0.5

local function raise(scope, wanted)
  scope.good = math.max(scope.good * 0.9, math.min(scope.peak, scope.cap))
  scope.rounds, scope.held = scope.rounds + 1, scope.held + scope.started
  local hold_over = scope.rounds >= ROUNDS and scope.held >= HOLD_CALLS * HOLD_GROWS ^ scope.fails
    or scope.fails == 0 and scope.cap < scope.good * FAR_BELOW
  if wanted <= scope.cap or scope.step == 0 and not hold_over then return end
  if scope.step > 0 then scope.fails = 0 end
  scope.step = scope.step > 0 and math.min(LARGEST_STEP, scope.step * 2) or STEP
  scope.cap = math.ceil(scope.cap * (1 + scope.step))
end

-- Ends a window without overload, if it is due. Before the first cut the cap doubles early, so that there is room
-- for a new process while others hold spare permits. Afterwards the cap is raised only if it is used and wanted.
local function quiet(scope, in_flight, wanted)
  if scope.epoch == 0 then
    scope.good = math.max(scope.good, math.min(in_flight, scope.cap))
    if in_flight >= USED * scope.cap and now_ms - scope.began_ms >= ROUND_MS then scope.cap = scope.cap * 2
    elseif scope.started < 2 * math.max(scope.cap, FIRST) then return end
  else
    if scope.started < math.max(WINDOW_CALLS, scope.cap) or now_ms - scope.began_ms < WINDOW_MS then return end
    if scope.peak >= USED * scope.cap then raise(scope, wanted) end
  end
  begin_window(scope)
end

-- Learns from one report: calls started, refused and answered since the cut of its `epoch`, and late refusals (of
-- older calls).
local function observe(scope, report, in_flight, wanted)
  local old = report.epoch < scope.epoch
  local late = report.late + (old and report.refused or 0)
  if late > 0 and in_episode(scope) then continue_burst(scope, late, in_flight) end
  if old then return end
  scope.started, scope.refused = scope.started + report.started, scope.refused + report.refused
  scope.peak = math.max(scope.peak, in_flight)
  scope.fresh, scope.fresh_refused = scope.fresh + report.started, scope.fresh_refused + report.refused
  scope.fresh_ok = scope.fresh_ok + report.answered
  if report.retry_ms > 0 then scope.retry_at_ms = math.max(scope.retry_at_ms, now_ms + report.retry_ms) end
  if report.refused > 0 and scope.retry_at_ms > now_ms and refuses_all(scope) then
    block(scope, in_flight)
  elseif report.refused > 0 and overloaded(scope) then
    cut(scope, in_flight)
  else
    quiet(scope, in_flight, wanted)
  end
end
