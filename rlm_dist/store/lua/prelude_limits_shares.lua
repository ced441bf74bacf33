-- Prelude of limits_share.lua, after prelude_limits.lua: how permits to call are dealt out to processes.
-- A minute's limit flows in over FLOW_S, with a second's worth at once: no minute sees more than the limit.
local TURN_MS, SPARE, FLOW_S = 2000, 4, 61

-- The part of `cap` for one of the processes that want calls: none gets more than it wants while another wants more
-- than it gets. An indivisible rest goes to each process in turn. If all have what they want, each gets some spare
-- permits, but not all: if a process dies, the others go without its permits until its lease ends.
local function share(cap, wants, me)
  table.sort(wants, function(a, b)
    return a.wanted < b.wanted or a.wanted == b.wanted and a.name < b.name
  end)
  local left, met = cap, false
  for index, process in ipairs(wants) do
    local sharers = #wants - index + 1
    local fair = math.floor(left / sharers)
    if process.wanted > fair then
      if met then return me.wanted end
      local position = index
      while wants[position] ~= me do position = position + 1 end
      local turn = (position - index + math.floor(now_ms / TURN_MS)) % sharers
      return fair + (turn < left % sharers and 1 or 0)
    end
    left, met = left - process.wanted, met or process == me
  end
  return me.wanted + math.min(math.floor(left / #wants), math.ceil(me.wanted / 2) + SPARE)
end

-- What is left of a minute's limit: it flows in continuously, up to a second's worth, and may be overdrawn.
local function level(scope, bucket, per_minute)
  local size = math.max(1, per_minute / FLOW_S)
  local flown = (now_ms - (scope[bucket .. '_ms'] or 0)) * per_minute / FLOW_S / 1000
  return math.min(size, (scope[bucket] or size) + flown), size
end

local function spend(scope, bucket, per_minute, n)
  if not per_minute then return end
  scope[bucket], scope[bucket .. '_ms'] = level(scope, bucket, per_minute) - n, now_ms
end

-- How many of the waiting calls may start within these limits, and how long until the next one may. ARGV[first] and
-- those after it are the tokens of each call. A call that needs more than a bucket can hold starts when it is full.
local function admit(scope, limits, room, first)
  if not (limits.requests or limits.tokens) then return -1, 0 end
  for index = first, #ARGV do
    local wait_ms = 0
    for bucket, per_minute in pairs(limits) do
      local left, size = level(scope, bucket, per_minute)
      local cost = bucket == 'requests' and 1 or tonumber(ARGV[index])
      local lacks = math.min(cost, size) - left
      wait_ms = math.max(wait_ms, math.ceil(lacks * FLOW_S * 1000 / per_minute))
    end
    if wait_ms > 0 or index - first >= room then return index - first, wait_ms end
    spend(scope, 'requests', limits.requests, 1)
    spend(scope, 'tokens', limits.tokens, tonumber(ARGV[index]))
  end
  return math.max(0, #ARGV - first + 1), 0
end

-- Lists the scope at most once a minute, which is enough: it stays listed for an hour.
local function list_scope(scope_id)
  if (tonumber(call('ZSCORE', SCOPES, scope_id)) or 0) > now_ms - 60000 then return end
  call('ZADD', SCOPES, int(now_ms), scope_id)
  call('ZREMRANGEBYSCORE', SCOPES, '-inf', int(now_ms - SCOPE_MS))
  call('PEXPIRE', SCOPES, SCOPE_MS)
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
