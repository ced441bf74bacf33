-- Prelude of limits_share.lua, after prelude_limits.lua: what happens while an endpoint does not answer.
-- The circuit opens when a process has seen several failures in a row and no other process has had an answer since
-- the first of them, or for SILENT_MS. Then one call tries at a time, after pauses that grow; any answer closes it.
local SILENT_MS, FIRST_PAUSE_MS, PAUSE_GROWS, LONGEST_PAUSE_MS = 5000, 1000, 1.5, 60000
-- Jobs stop their clocks while their endpoint is in AWAY. A scope in which calls wait is reported every few seconds.
local AWAY_MS = 300000

local function pause(scope)
  scope.next_ms = now_ms + math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * PAUSE_GROWS ^ scope.tries)
end

-- heard: whether anything answered since the last report; failing_ms: for how long nothing has answered, else 0.
local function circuit(scope, heard, failing_ms, scope_id)
  if heard then
    scope.alive_ms = now_ms
    if scope.away_ms > 0 then
      scope.away_ms, scope.tries = 0, 0
      call('HDEL', AWAY, scope_id)
    end
  elseif failing_ms > 0 and scope.away_ms == 0
    and scope.alive_ms < now_ms - math.min(failing_ms, SILENT_MS) then
    scope.away_ms, scope.tries = math.max(scope.alive_ms, now_ms - failing_ms), 0
    pause(scope)
  end
end

-- Whether this process may try now.
local function may_try(scope)
  if now_ms < scope.next_ms then return false end
  scope.tries = scope.tries + 1
  pause(scope)
  return true
end

local function note_away(scope_id, url)
  call('HSET', AWAY, scope_id, url)
  call('PEXPIRE', AWAY, AWAY_MS)
end
