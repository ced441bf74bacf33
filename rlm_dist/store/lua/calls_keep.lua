-- Keeps a part of the budgets for a job's next root calls, in place of what is kept for them now.
-- ARGV: 1 epoch, 2 nanousd, 3 tokens, 4 '1' to keep as much of it as fits, '' to change nothing unless all fits
-- Returns 'kept', or 'refused <kind> <used> <limit> <needed>'; or NOT_FOUND, SUPERSEDED
-- Atomic: between reading the budgets and keeping a part of them, another job of the batch could use it.
local job = get(JOB, 'state', 'epoch', 'batch', 'max_nanousd', 'max_tokens', 'parent')
if not job[1] then return NOT_FOUND end
if job[1] ~= 'running' or job[2] ~= ARGV[1] then return SUPERSEDED end
local above = jobs_above(job[6])
local budgets, own, wanted = budgets_of(above, job[3], job[4], job[5]), kept(), {0, 0}

for index = 1, 2 do
  for _, pair in ipairs(budgets) do
    if pair[index].limit then wanted[index] = tonumber(ARGV[index + 1]) end
  end
end
for _, pair in ipairs(budgets) do
  local refused = overrun(pair, wanted, own)
  if refused and ARGV[4] == '' then return refused end
  for index, limit in ipairs(pair) do
    local room = limit.limit and limit.limit - limit.used + own[index]
    if room then wanted[index] = math.max(0, math.min(wanted[index], room)) end
  end
end
local more = {reserved_nanousd = wanted[1] - own[1], reserved_tokens = wanted[2] - own[2]}
add_to_all(ledgers_of(above, job[3]), more)
write_kept(wanted)
return 'kept'
