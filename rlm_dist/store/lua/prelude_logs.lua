-- Prelude, after prelude.lua, of the scripts that append to the logs of a job: job_events.lua, job_journal.lua,
-- calls_open.lua and job_finish.lua.
local SHORT_BYTES = 2048

-- Appends the events ARGV[first] to ARGV[last] to the trace. One that the job has no room for is left out, unless it
-- is short: the trace shows how the job ended.
local function append_events(first, last)
  for index = first, last do
    if not no_room(#ARGV[index]) or #ARGV[index] <= SHORT_BYTES then call('XADD', TRACE, '*', 'e', ARGV[index]) end
  end
  live_as(JOB, TRACE)
end

-- Appends to the journal. ARGV[at] is the number of turns begun, ARGV[at + 1] that of the entries, which follow.
-- Entries equal to the last ones are the repeat of a write whose reply was lost, since each holds its turn and block.
-- Returns why the job has no room for one, if so.
local function append_to_journal(at)
  local count, is_new = tonumber(ARGV[at + 1]), false
  if count == 0 then return end
  local last = call('LRANGE', JOURNAL, 0 - count, -1)
  for index = 1, count do is_new = is_new or last[index] ~= ARGV[at + 1 + index] end
  for index = at + 2, is_new and at + 1 + count or 0 do
    local refused = no_room(#ARGV[index])
    if refused then return refused end
    call('RPUSH', JOURNAL, ARGV[index])
  end
  call('HSET', JOB, 'turns', ARGV[at])
end
