-- Takes a process's report of its calls in a scope, and returns its share of the calls that may be made now.
-- KEYS: keys.limit_keys(scope id), as prelude_limits.lua names them
-- ARGV: 1 scope id, 2 url, 3 model, 4 holder, 5 lease_ms, 6 most in flight or '', 7 requests a minute or '',
--       8 tokens a minute or '', then the report (store/limits.py): 9 number, 10 in flight, 11 wanted, 12 waiting,
--       13 epoch, 14 started, 15 refused, 16 answered, 17 late, 18 retry_after in ms, 19 ended, 20 blocked in ms,
--       21 heard (0/1), 22 failing in ms, 23 extra tokens, 24 errors, 25 latencies (<bucket>:<n> ...), then the
--       tokens of each waiting call
-- Returns {in flight allowed, epoch, ms blocked, calls that may start (-1: any), ms until more may,
--          ms for which the endpoint has not answered (0: it does), ms until the next try,
--          'away' or 'back' if this report opened or closed the circuit or else '',
--          the ceilings that are set if they are new since the last report or else ''}.
-- Atomic: two processes that both read what is left before either takes it would both take it. A report that is
-- repeated after a lost reply is counted once.
local scope_id, url, model, holder = unpack(ARGV, 1, 4)
local n = {}
for index = 5, 24 do n[index] = tonumber(ARGV[index]) end
local report = {epoch = n[13], started = n[14], refused = n[15], answered = n[16], late = n[17], retry_ms = n[18]}
local lease_ms, scope, live = n[5], read_scope(), read_holders()
local holds, set = ceilings_now(scope, scope_id, {in_flight = n[6], requests = n[7], tokens = n[8]})
local per_minute, was_away = {requests = holds.requests, tokens = holds.tokens}, scope.away_ms > 0
local me = live[holder] or {name = holder, allowed = 0, starts = 0}
local again, granted = me.report == n[9], me.allowed
me.report, me.in_flight, me.wanted, me.waiting = n[9], n[10], n[11], n[12]
live[holder] = me

local wants, used, wanted, served, in_flight = {}, 0, 0, me.in_flight, 0
for _, process in pairs(live) do
  if process.wanted > 0 then wants[#wants + 1] = process end
  wanted, in_flight = wanted + process.wanted, in_flight + process.in_flight
  if process ~= me then
    used = used + math.max(process.allowed, process.in_flight)
    served = served + math.min(process.wanted, math.max(process.allowed, process.in_flight))
  end
end
if not again then
  scope.blocked_ms = math.max(scope.blocked_ms, now_ms + n[20])
  circuit(scope, n[21] == 1, n[22], scope_id)
  observe(scope, report, served, wanted)
end

local cap = math.min(scope.cap, holds.in_flight or scope.cap)
me.allowed = me.wanted > 0 and math.max(0, math.min(share(cap, wants, me), cap - used)) or 0
if in_episode(scope) then me.allowed = math.min(me.allowed, me.in_flight) end
local is_away = scope.away_ms > 0
if is_away then me.allowed = again and granted or me.wanted > 0 and may_try(scope) and 1 or 0 end
local wait_ms = 0
if not again then
  spend(scope, 'tokens', per_minute.tokens, n[23])
  me.starts, wait_ms = admit(scope, per_minute, me.allowed - me.in_flight, 26)
  note_minute(cap, in_flight, n[19], report.refused + report.late, n[24], ARGV[25])
end

if not stored.url then call('HSET', SCOPE, 'url', url, 'model', model) end
write_scope(scope)
if is_away then note_away(scope_id, url) end
list_scope(scope_id)
write_holder(me, lease_ms)
return {me.allowed, scope.epoch, math.max(0, scope.blocked_ms - now_ms), me.starts, wait_ms,
  is_away and math.max(1, now_ms - scope.away_ms) or 0, math.max(0, scope.next_ms - now_ms),
  is_away ~= was_away and (is_away and 'away' or 'back') or '', set}
