-- Put before limits_share.lua, after prelude_limits_cuts.lua: how the cap grows while refusals are mere noise.
-- A window ends after as many calls as the cap, and not before WINDOW_MS; before the first cut after ROUND_MS. The
-- cap is USED if that part of it was in flight.
local WINDOW_MS, WINDOW_CALLS, ROUND_MS, USED = 100, 8, 250, 0.9
-- After a cut the cap stays for ROUNDS windows and HOLD_CALLS calls, longer after steps that were refused, and only
-- for a window if it is FAR_BELOW what was lately served. Then each window raises it, by steps that double.
local ROUNDS, HOLD_CALLS, HOLD_GROWS, LARGEST_STEP, FAR_BELOW = 4, 100, 1.5, 0.5, 0.5

local function raise(at, wanted)
  at.good = math.max(at.good * 0.9, math.min(at.peak, at.cap))
  at.rounds, at.held = at.rounds + 1, at.held + at.started
  local held = at.rounds >= ROUNDS and at.held >= HOLD_CALLS * HOLD_GROWS ^ at.fails
    or at.fails == 0 and at.cap < at.good * FAR_BELOW
  if wanted <= at.cap or at.step == 0 and not held then return end
  if at.step > 0 then at.fails = 0 end
  at.step = at.step > 0 and math.min(LARGEST_STEP, at.step * 2) or STEP
  at.cap = math.ceil(at.cap * (1 + at.step))
end

-- The end of a window without overload. Before the first cut the cap doubles in time, so that there is room for a
-- process that comes while others hold some to spare; afterwards it is raised only if it is used and wanted.
local function quiet(at, flying, wanted)
  if at.epoch == 0 then
    at.good = math.max(at.good, math.min(flying, at.cap))
    if flying >= USED * at.cap and now_ms - at.began_ms >= ROUND_MS then at.cap = at.cap * 2
    elseif at.started < 2 * math.max(at.cap, FIRST) then return end
  else
    if at.started < math.max(WINDOW_CALLS, at.cap) or now_ms - at.began_ms < WINDOW_MS then return end
    if at.peak >= USED * at.cap then raise(at, wanted) end
  end
  begin_window(at)
end

-- Learns from one report: calls started, refused and answered since the cut of `epoch`, refusals of older calls.
local function observe(at, seen, flying, wanted)
  local old = seen.epoch < at.epoch
  local late = seen.late + (old and seen.refused or 0)
  if late > 0 and in_episode(at) then continue_burst(at, late, flying) end
  if old then return end
  at.started, at.refused, at.peak = at.started + seen.started, at.refused + seen.refused, math.max(at.peak, flying)
  at.fresh, at.fresh_refused = at.fresh + seen.started, at.fresh_refused + seen.refused
  at.fresh_ok = at.fresh_ok + seen.answered
  if seen.retry_ms > 0 then at.retry_at_ms = math.max(at.retry_at_ms, now_ms + seen.retry_ms) end
  if seen.refused > 0 and at.retry_at_ms > now_ms and refuses_all(at) then
    block(at, flying)
  elseif seen.refused > 0 and overloaded(at) then
    cut(at, flying)
  else
    quiet(at, flying, wanted)
  end
end
