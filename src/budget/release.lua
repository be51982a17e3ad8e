-- Holds a call for this long from now and no longer, and takes it from the wire. It is held also if the calls were lost
-- meanwhile. A call that was not made counts nowhere from now on. Times are microseconds.
-- KEYS[1] to KEYS[6]  as in request.lua
-- ARGV     1: the name of the call   2: how long it is held from now, -1 if it was not made
--          3: '1' for a background lane
--          for a call that was not made, as in request.lua: 4: how long a call without a known end is held
--          5: how long a call may be on the wire   6: the length of a part of a day
--          the last three: as in clock.lua
for _, key in ipairs({ KEYS[5], KEYS[6] }) do redis.call('ZREM', key, ARGV[1]) end
local after = tonumber(ARGV[2])

if after >= 0 then
  local now = steady_now()
  if not now then return 0 end
  local free, keep = string.format('%.0f', now + after), math.ceil(after / 1000) + 1000
  for _, key in ipairs({ KEYS[2], ARGV[3] == '1' and KEYS[3] or nil }) do
    redis.call('ZADD', key, free, ARGV[1])
    if redis.call('PTTL', key) < keep then redis.call('PEXPIRE', key, keep) end
  end
  return 0
end

-- The end of its time in the window says when it was granted, and so in which part of a day it counts.
for n, lanes in ipairs({ 'd', 's' }) do
  local held_until = redis.call('ZSCORE', KEYS[n + 1], ARGV[1])
  if held_until then
    local granted = tonumber(held_until) - tonumber(ARGV[4])
    local field = lanes .. string.format('%.0f', math.floor((granted + tonumber(ARGV[5])) / tonumber(ARGV[6])))
    if tonumber(redis.call('HGET', KEYS[4], field) or 0) > 0 then redis.call('HINCRBY', KEYS[4], field, -1) end
    redis.call('ZREM', KEYS[n + 1], ARGV[1])
  end
end
return 0
