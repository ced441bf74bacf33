-- Prelude of limits_share.lua, after prelude_limits.lua: the ceilings that hold for all workers together.
-- CEILINGS, by scope id: <in flight> <requests a minute> <tokens a minute> <url> <model>; '-' is none. An operator has
-- set them while the workers run, and each of them replaces that of the workers' settings.
local NONE_SET = '- - -'

-- The ceilings that hold now, nil for none; and those that are set if they have changed since the last report, else ''.
local function ceilings_now(scope, scope_id, settings)
  local set = (call('HGET', CEILINGS, scope_id) or NONE_SET):match('^%S+ %S+ %S+')
  local holds, changed = {}, set ~= (stored.set or NONE_SET)
  local values = set:gmatch('%S+')
  for _, name in ipairs({'in_flight', 'requests', 'tokens'}) do
    scope['settings_' .. name] = settings[name] or 0
    holds[name] = tonumber(values()) or settings[name]
  end
  if changed then call('HSET', SCOPE, 'set', set) end
  return holds, changed and set or ''
end
