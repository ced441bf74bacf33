-- Takes a process's report of its calls to a place, and gives it its share of what may be called now.
-- KEYS: 1 place, 2 its holders
-- ARGV: 1 holder, 2 number of this report, 3 lease_ms, 4 in flight, 5 wanted (the most at once, in flight or
--       waiting, since the last report), 6 calls ended, 7 newest epoch of a call that was refused or '',
--       8 how long the endpoint wants no calls, in ms, 9 most in flight or '', 10 requests a minute or '',
--       11 tokens a minute or '', 12 tokens used beyond the estimates, then the tokens of each waiting call
-- Returns {in flight allowed, epoch, ms blocked, calls that may start (-1: any), ms until more may}.
-- Atomic: two processes that look at what is left before either takes would both take it. A report that is
-- repeated after a lost reply changes nothing twice.
local at, live = read_place(), read_holders()
local me = live[ARGV[1]] or {name = ARGV[1], allowed = 0, starts = 0}
local again = me.report == ARGV[2]
me.in_flight, me.wanted = tonumber(ARGV[4]), tonumber(ARGV[5])
live[ARGV[1]] = me

local wants, used, wanted, flying, served = {}, 0, 0, 0, me.in_flight
for _, one in pairs(live) do
  if one.wanted > 0 then wants[#wants + 1] = one end
  wanted, flying = wanted + one.wanted, flying + one.in_flight
  if one ~= me then
    used = used + math.max(one.allowed, one.in_flight)
    served = served + math.min(one.wanted, math.max(one.allowed, one.in_flight))
  end
end
if not again then
  at.done = at.done + ARGV[6]
  at.blocked_ms = math.max(at.blocked_ms, now_ms + ARGV[8])
  if ARGV[7] ~= '' then cut(at, tonumber(ARGV[7]), served, wanted) else raise(at, wanted, flying) end
end

local cap = math.min(at.cap, tonumber(ARGV[9]) or at.cap)
me.allowed = me.wanted > 0 and math.max(0, math.min(share(cap, wants, me), cap - used)) or 0
local wait_ms = 0
if not again then
  spend(at, 'tokens', tonumber(ARGV[11]), tonumber(ARGV[12]))
  me.starts, wait_ms = admit(at, {requests = tonumber(ARGV[10]), tokens = tonumber(ARGV[11])},
    me.allowed - me.in_flight, 13)
end

local state = {}
for field, value in pairs(at) do
  state[#state + 1] = field
  state[#state + 1] = string.format('%.14g', value)
end
call('HSET', PLACE, unpack(state))
call('PEXPIRE', PLACE, 3600000)
if me.wanted > 0 then
  call('HSET', HOLDERS, me.name, table.concat({ARGV[2], int(now_ms + ARGV[3]), me.in_flight, me.wanted,
    int(me.allowed), me.starts}, ' '))
  call('PEXPIRE', HOLDERS, math.max(ARGV[3], call('PTTL', HOLDERS)))
else
  call('HDEL', HOLDERS, me.name)
end
return {me.allowed, at.epoch, math.max(0, at.blocked_ms - now_ms), me.starts, wait_ms}
