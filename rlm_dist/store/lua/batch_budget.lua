-- Sets budgets of a batch anew; calls that are refused from now on are measured by them.
-- KEYS: 1 batch, 2 ledger, 3 jobs, 4 ended, 5 list of batches
-- ARGV: 1 max_nanousd or '', 2 max_tokens or ''; what is '' stays as it is
-- Returns 1, or NOT_FOUND.
-- Atomic: a write after the batch expired would leave a key that stays for ever.
if redis.call('EXISTS', KEYS[1]) == 0 then return 'NOT_FOUND' end
for index, field in ipairs({'max_nanousd', 'max_tokens'}) do
  if ARGV[index] ~= '' then redis.call('HSET', KEYS[1], field, ARGV[index]) end
end
return 1
