-- Reads the next entries of parts of lists, each after the entry at which a reader stopped (see prelude_lists.lua).
-- KEYS: for each part, its list
-- ARGV: 1 maximum number of entries of each part, 2 '1' if the highest come first,
--       then for each part: first score, score before which it ends, and of the last entry that was read: its id and
--       score, both '' at the beginning
-- Returns, for each part, its entries as {id, score, id, score, ...}, in the order of the list.
-- Atomic: ranks hold for one moment only; a job that ends a moment later moves the entries of other states.
local call = redis.call
local limit, descending = tonumber(ARGV[1]), ARGV[2] == '1'

local function below(key, score) return call('ZCOUNT', key, '-inf', '(' .. score) end

-- The ranks of the next entries: from the first value to before the second. If the last entry has moved, those that
-- follow its old place come next.
local function range(key, first_score, end_score, last_id, last_score)
  local first, last = below(key, first_score), below(key, end_score)
  if last_id ~= '' then
    local score = call('ZSCORE', key, last_id)
    local is_there = score and tonumber(score) == tonumber(last_score)
    local rank = is_there and call('ZRANK', key, last_id) or below(key, last_score)
    if descending then last = math.min(last, rank)
    else first = math.max(first, is_there and rank + 1 or rank) end
  end
  if descending then return math.max(first, last - limit), last end
  return first, math.min(last, first + limit)
end

local replies = {}
for n, key in ipairs(KEYS) do
  local at = 3 + (n - 1) * 4
  local first, last = range(key, ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3])
  replies[n] = last > first and call('ZRANGE', key, first, last - 1, 'WITHSCORES') or {}
end
return replies
