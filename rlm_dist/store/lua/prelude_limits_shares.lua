-- Put before limits_share.lua, after prelude_limits.lua: how what may be called is dealt out to processes.
local TURN_MS, SPARE = 2000, 4

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
