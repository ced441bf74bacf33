-- Takes a process's report of its calls to a place, and gives it its share of what may be called now.
-- KEYS: 1 place, 2 its holders, 3 places that are away, 4 all places by their last report
-- ARGV: 1 place, 2 url, 3 model, 4 holder, 5 lease_ms, 6 most in flight or '', 7 requests a minute or '',
--       8 tokens a minute or '', then the report (store/limits.py): 9 number, 10 in flight, 11 wanted, 12 waiting,
--       13 epoch, 14 started, 15 refused, 16 answered, 17 late, 18 retry_after in ms, 19 ended, 20 blocked in ms,
--       21 heard (0/1), 22 failing in ms, 23 extra tokens, then the tokens of each waiting call
-- Returns {in flight allowed, epoch, ms blocked, calls that may start (-1: any), ms until more may,
--          ms that the place has been away, ms until the next try}.
-- Atomic: two processes that look at what is left before either takes would both take it. A report that is
-- repeated after a lost reply changes nothing twice.
local place, url, model, holder = unpack(ARGV, 1, 4)
local n = {}
for index = 5, 23 do n[index] = tonumber(ARGV[index]) end
local lease_ms, most, per_minute = n[5], n[6], {requests = n[7], tokens = n[8]}
local seen = {epoch = n[13], started = n[14], refused = n[15], answered = n[16], late = n[17], retry_ms = n[18]}
local at, live = read_place(), read_holders()
local me = live[holder] or {name = holder, allowed = 0, starts = 0}
local again, granted = me.report == n[9], me.allowed
me.report, me.in_flight, me.wanted, me.waiting = n[9], n[10], n[11], n[12]
live[holder] = me

local wants, used, wanted, served = {}, 0, 0, me.in_flight
for _, one in pairs(live) do
  if one.wanted > 0 then wants[#wants + 1] = one end
  wanted = wanted + one.wanted
  if one ~= me then
    used = used + math.max(one.allowed, one.in_flight)
    served = served + math.min(one.wanted, math.max(one.allowed, one.in_flight))
  end
end
if not again then
  at.blocked_ms = math.max(at.blocked_ms, now_ms + n[20])
  circuit(at, n[21] == 1, n[22], place)
  observe(at, seen, served, wanted)
  count_minute(at, n[19], seen.refused + seen.late)
end

local cap = math.min(at.cap, most or at.cap)
me.allowed = me.wanted > 0 and math.max(0, math.min(share(cap, wants, me), cap - used)) or 0
if in_episode(at) then me.allowed = math.min(me.allowed, me.in_flight) end
if at.away_ms > 0 then me.allowed = again and granted or me.wanted > 0 and may_try(at) and 1 or 0 end
local wait_ms = 0
if not again then
  spend(at, 'tokens', per_minute.tokens, n[23])
  me.starts, wait_ms = admit(at, per_minute, me.allowed - me.in_flight, 24)
end

if not stored.url then call('HSET', PLACE, 'url', url, 'model', model) end
write_place(at)
if at.away_ms > 0 then note_away(place, url) end
list_place(place)
write_holder(me, lease_ms)
return {me.allowed, at.epoch, math.max(0, at.blocked_ms - now_ms), me.starts, wait_ms,
  at.away_ms > 0 and math.max(1, now_ms - at.away_ms) or 0, math.max(0, at.next_ms - now_ms)}
