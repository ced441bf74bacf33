-- Put before limits_share.lua, after prelude_limits.lua: how what may be called is dealt out to processes.
-- A minute's limit flows in over FLOW_S, with a second's worth at once: no minute sees more than the limit.
local TURN_MS, SPARE, FLOW_S = 2000, 4, 61

-- The part of `cap` for one of the processes that want some: no one gets more than it wants while another
-- wants more than it gets. What does not divide goes round. Of what is left each gets some to spare, not all: what a
-- process holds is lost to the others for a lease's length if it dies.
local function share(cap, wants, me)
  table.sort(wants, function(a, b)
    return a.wanted < b.wanted or a.wanted == b.wanted and a.name < b.name
  end)
  local left, met = cap, false
  for index, one in ipairs(wants) do
    local sharers = #wants - index + 1
    local fair = math.floor(left / sharers)
    if one.wanted > fair then
      if met then return me.wanted end
      local place = index
      while wants[place] ~= me do place = place + 1 end
      local turn = (place - index + math.floor(now_ms / TURN_MS)) % sharers
      return fair + (turn < left % sharers and 1 or 0)
    end
    left, met = left - one.wanted, met or one == me
  end
  return me.wanted + math.min(math.floor(left / #wants), math.ceil(me.wanted / 2) + SPARE)
end

-- What is left of a minute's limit: it flows in all the time, up to a second's worth, and may be overdrawn.
local function level(at, bucket, per_minute)
  local size = math.max(1, per_minute / FLOW_S)
  local flown = (now_ms - (at[bucket .. '_ms'] or 0)) * per_minute / FLOW_S / 1000
  return math.min(size, (at[bucket] or size) + flown), size
end

local function spend(at, bucket, per_minute, n)
  if not per_minute then return end
  at[bucket], at[bucket .. '_ms'] = level(at, bucket, per_minute) - n, now_ms
end

-- How many of the waiting calls, whose tokens stand from ARGV[first] on, may start by these limits, and how
-- long until the next may. A call that wants more than there ever is starts when all there is is there.
local function admit(at, limits, room, first)
  if not (limits.requests or limits.tokens) then return -1, 0 end
  for index = first, #ARGV do
    local wait_ms = 0
    for bucket, per_minute in pairs(limits) do
      local left, size = level(at, bucket, per_minute)
      local cost = bucket == 'requests' and 1 or tonumber(ARGV[index])
      local lacks = math.min(cost, size) - left
      wait_ms = math.max(wait_ms, math.ceil(lacks * FLOW_S * 1000 / per_minute))
    end
    if wait_ms > 0 or index - first >= room then return index - first, wait_ms end
    spend(at, 'requests', limits.requests, 1)
    spend(at, 'tokens', limits.tokens, tonumber(ARGV[index]))
  end
  return math.max(0, #ARGV - first + 1), 0
end

-- The attempts of this minute and of the one before, for people.
local function count_minute(at, ended, refused)
  local minute = math.floor(now_ms / 60000)
  if at.minute ~= minute then
    local next_to = at.minute == minute - 1
    at.before, at.before_refused = next_to and at.ended or 0, next_to and at.ended_refused or 0
    at.minute, at.ended, at.ended_refused = minute, 0, 0
  end
  at.ended, at.ended_refused = at.ended + ended, at.ended_refused + refused
end

-- Once a minute is enough: a place is listed for an hour.
local function list_place(place)
  if (tonumber(call('ZSCORE', PLACES, place)) or 0) > now_ms - 60000 then return end
  call('ZADD', PLACES, int(now_ms), place)
  call('ZREMRANGEBYSCORE', PLACES, '-inf', int(now_ms - PLACE_MS))
  call('PEXPIRE', PLACES, PLACE_MS)
end

local function write_holder(me, lease_ms)
  if me.wanted > 0 then
    call('HSET', HOLDERS, me.name, table.concat({int(me.report), int(now_ms + lease_ms), me.in_flight, me.wanted,
      int(me.allowed), me.starts, me.waiting}, ' '))
    call('PEXPIRE', HOLDERS, math.max(lease_ms, call('PTTL', HOLDERS)))
  else
    call('HDEL', HOLDERS, me.name)
  end
end
