-- Prelude, after prelude_ledger.lua, of calls_settle.lua: whether settlements can be booked,
-- and under which names.
-- Lua's numbers are exact up to 2^53, which the sums of one script must not exceed.
local MOST_TOKENS, MOST_NANOUSD, MOST_CHARGES = 1e9, 4e15, 1000
local MOST_MODELS, MOST_OF_BATCH, OTHER = 32, 256, '(other)'

local function is_count(text, most) return text and text:match('^%d+$') and tonumber(text) <= most end

-- Whether one of the ledgers cannot take more money: HINCRBY fails beyond 2^63.
local function full(ledgers)
  for _, ledger in ipairs(ledgers) do
    if number(call('HGET', ledger, 'spent_nanousd')) > 9e18 then return true end
  end
end

local function is_charge(first)
  local label, nanousd, fits = ARGV[first], ARGV[first + 6], nil
  fits = label and label:match('^%a+') and ARGV[first + 1] and (nanousd == '' or is_count(nanousd, MOST_NANOUSD))
  for index = first + 2, first + 5 do fits = fits and is_count(ARGV[index], MOST_TOKENS) end
  for n in (fits and label or ''):gmatch('=([^,]*)') do fits = fits and is_count(n, MOST_TOKENS) end
  return fits
end

-- Whether all settlements can be booked. A script that fails is not rolled back, so this is to be known before
-- anything is written.
local function bookable(ledgers)
  local at, no_more = 2, full(ledgers)
  while at <= #ARGV do
    if not is_count(ARGV[at + 4], MOST_CHARGES) then return false end
    for first = at + 5, at + 4 + ARGV[at + 4] * 7, 7 do
      if no_more or not is_charge(first) then return false end
    end
    at = at + 5 + ARGV[at + 4] * 7
  end
  return true
end

local function know(names, name)
  if not names.known[name] then names.known[name], names.count = true, names.count + 1 end
end

local function names_in(ledger)
  local names = {known = {}, count = 0}
  for _, field in ipairs(call('HKEYS', ledger)) do
    local name = field:match('^line:%a+:calls[^:]*:(.*)$')
    if name then know(names, name) end
  end
  return names
end

-- Returns a function that tells the name under which a model is booked in all of these ledgers, so that their sums
-- agree; the first is the job's. Names come from replies and, in jobs of earlier versions, from model-written code.
-- Those beyond the first MOST_MODELS of a job, or MOST_OF_BATCH of the batch, share a line. The ledgers but the first
-- are read for names new to the job.
local function booked_names(ledgers, batch)
  local mine, others = names_in(ledgers[1]), nil
  return function(name)
    if mine.known[name] then return name end
    if mine.count >= MOST_MODELS then return OTHER end
    if not others then
      others = {}
      for index = 2, #ledgers do others[index - 1] = names_in(ledgers[index]) end
    end
    for index, names in ipairs(others) do
      local most = batch and index == #others and MOST_OF_BATCH or MOST_MODELS
      if not names.known[name] and names.count >= most then return OTHER end
    end
    know(mine, name)
    for _, names in ipairs(others) do know(names, name) end
    return name
  end
end
