-- Creates children of a running job, unless they exist. One that ended without an answer before a job above it was
-- retried is queued again.
-- ARGV: 1 epoch, then for each child: id, spec (JSON), blob key of its context, depth, the job's name for it,
--       max_nanousd, max_tokens, max_sub_calls ('' if it has no such limit of its own)
-- Returns for each its state, or 'refused <kind> <used> <limit> 0'; or NOT_FOUND, CANCELLED, SUPERSEDED, PAUSED.
-- Atomic: two callers that both check a limit before either creates would both pass, and a child that is created
-- after its parent's end would run for nobody.
local job = get(JOB, 'state', 'epoch', 'cancel', 'batch', 'max_sub_calls', 'parent')
if not job[1] then return NOT_FOUND end
local parent, batch, above = JOB, job[4], jobs_above(job[6])
if job[1] == 'cancelled' or job[3] or to_stop(above) then return CANCELLED end
if job[1] ~= 'running' or job[2] ~= ARGV[1] then return SUPERSEDED end
if batch and call('HEXISTS', batch, 'paused') == 1 then return PAUSED end
local limits, created = call_limits(job[5], above), 0

local function queue(id)
  call('HSET', JOB, 'state', 'queued')
  call('ZADD', QUEUED, int(now_ms), id)
  call('HINCRBY', parent, 'live_children', 1)
end

local function create(at)
  local id, blob = ARGV[at], ARGV[at + 2]
  local fields = {'id', id, 'spec', ARGV[at + 1], 'epoch', 0, 'queued_ms', int(now_ms), 'parent', parent,
    'depth', ARGV[at + 3], 'name', ARGV[at + 4]}
  for index, field in ipairs({'max_nanousd', 'max_tokens', 'max_sub_calls'}) do
    local limit = ARGV[at + 4 + index]
    if limit ~= '' then fields[#fields + 1], fields[#fields + 2] = field, limit end
  end
  call('HSET', JOB, unpack(fields))
  if batch then call('HSET', JOB, 'batch', batch) end
  call('SADD', BLOBS, blob)
  call('SADD', blob .. ':jobs', id)
  call('PERSIST', blob)
  queue(id)
end

local function open(at)
  local key, id = PREFIX .. ARGV[at], ARGV[at]
  local child = get(key, 'state', 'again')
  if child[1] and FINAL[child[1]] and child[2] then
    as_job(key, function()
      retry(child[1], jobs_above(parent), batch)
      queue(id)
    end)
  elseif not child[1] then
    local refused = too_many(limits, created) or no_room(#ARGV[at + 1])
    if refused then return refused end
    as_job(key, create, at)
    call('ZADD', CHILDREN, call('ZCARD', CHILDREN), id)
    created = created + 1
  end
  return call('HGET', key, 'state')
end

local states = {}
for at = 2, #ARGV, 8 do states[#states + 1] = open(at) end
add_to_all(ledgers_of(above), {children = created})
return states
