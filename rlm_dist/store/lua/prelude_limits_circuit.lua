-- Put before limits_share.lua, after prelude_limits.lua: what happens while nothing is heard of a place.
-- The circuit opens when a process has seen several failures in a row and no other has heard anything since the
-- first of them, or for SILENT_MS. Then one call tries at a time, after pauses that grow; whatever answers it closes the circuit.
local SILENT_MS, FIRST_PAUSE_MS, PAUSE_GROWS, LONGEST_PAUSE_MS = 5000, 1000, 1.5, 60000

local function pause(at)
  at.next_ms = now_ms + math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * PAUSE_GROWS ^ at.tries)
end

-- heard: whether anything answered since the report before; failing_ms: how long nothing has, 0 if that is not so.
local function circuit(at, heard, failing_ms, place)
  if heard then
    at.alive_ms = now_ms
    if at.away_ms > 0 then
      at.away_ms, at.tries = 0, 0
      call('HDEL', AWAY, place)
    end
  elseif failing_ms > 0 and at.away_ms == 0 and at.alive_ms < now_ms - math.min(failing_ms, SILENT_MS) then
    at.away_ms, at.tries = math.max(at.alive_ms, now_ms - failing_ms), 0
    pause(at)
  end
end

-- Whether this process may try now.
local function may_try(at)
  if now_ms < at.next_ms then return false end
  at.tries = at.tries + 1
  pause(at)
  return true
end

local function note_away(place, url)
  call('HSET', AWAY, place, url)
  call('PEXPIRE', AWAY, PLACE_MS)
end
