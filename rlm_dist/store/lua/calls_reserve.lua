-- Raises what is reserved for a call under way, if all budgets that it has to fit into have room for that.
-- ARGV: 1 call id, 2 owner, 3 reserve_nanousd, '' if the price is unknown
-- Returns 1 if the call may cost that much, else 0: also if somebody else has it, or it has ended.
-- Atomic: two callers that both check a budget before either reserves would both pass.
local job = get(JOB, 'state', 'batch', 'max_nanousd', 'parent')
local record = open_state(call('HGET', CALLS, ARGV[1]))
if FINAL[job[1] or 'failed'] or not record or record.kind ~= 'c' or record.owner ~= ARGV[2] then return 0 end

local batch, above = job[2], jobs_above(job[4])
local wanted = tonumber(ARGV[3])
local more = wanted and math.max(0, wanted - record.money)
for _, pair in ipairs(budgets_of(above, batch, job[3], nil)) do
  if overrun(pair, {more, 0}, {0, 0}) then return 0 end
end
if more and more > 0 then
  record.money = int(record.money + more)
  write_claimed(ARGV[1], record.at_ms, record, record.token, record.owner)
  add_to_all(ledgers_of(above, batch), {reserved_nanousd = more})
end
return 1
