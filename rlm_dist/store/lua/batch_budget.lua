-- Changes budgets and tags of a batch; calls are checked against the budgets from now on.
-- KEYS: 1 batch, 2 ledger, 3 jobs, 4 ended, 5 list of batches
-- ARGV: 1 max_nanousd, 2 max_tokens, 3 tags (JSON); what is '' stays as it is
-- Returns 1, or NOT_FOUND.
-- Atomic: a write after the batch expired would leave a key that never expires.
if redis.call('EXISTS', KEYS[1]) == 0 then return 'NOT_FOUND' end
for index, field in ipairs({'max_nanousd', 'max_tokens', 'tags'}) do
  if ARGV[index] ~= '' then redis.call('HSET', KEYS[1], field, ARGV[index]) end
end
return 1
