-- Holds a call for this long from now and no longer, and takes it from the wire. A call that is free already stays free.
-- A call that was not made counts nowhere from now on. Times are microseconds.
-- KEYS[1] to KEYS[5]  the calls held, the totals, and the calls on the wire: KEYS[2] to KEYS[6] of request.lua
-- ARGV     1: the name of the call   2: how long it is held from now, -1 if it was not made
--          for a call that was not made, as in request.lua: 3: how long a call without a known end is held
--          4: how long a call may be on the wire   5: the length of a part of a day
--          the last three: as in clock.lua
for _, key in ipairs({ KEYS[4], KEYS[5] }) do redis.call('ZREM', key, ARGV[1]) end

if tonumber(ARGV[2]) >= 0 then
  local now = steady_now()
  if not now then return 0 end
  local free = string.format('%.0f', now + tonumber(ARGV[2]))
  for _, key in ipairs({ KEYS[1], KEYS[2] }) do
    redis.call('ZADD', key, 'XX', free, ARGV[1])
  end
  return 0
end

-- The end of its time in the window says when it was granted, and so in which part of a day it counts.
for n, lanes in ipairs({ 'd', 's' }) do
  local held_until = redis.call('ZSCORE', KEYS[n], ARGV[1])
  if held_until then
    local granted = tonumber(held_until) - tonumber(ARGV[3])
    local field = lanes .. string.format('%.0f', math.floor((granted + tonumber(ARGV[4])) / tonumber(ARGV[5])))
    if tonumber(redis.call('HGET', KEYS[3], field) or 0) > 0 then redis.call('HINCRBY', KEYS[3], field, -1) end
    redis.call('ZREM', KEYS[n], ARGV[1])
  end
end
return 0
