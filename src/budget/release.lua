-- Holds a call for this long from now and no longer, and takes it from the wire. It is held also if the calls were lost
-- meanwhile. A call that was not made counts nowhere from now on. Times are microseconds.
-- KEYS[1] to KEYS[6]  as in request.lua
-- ARGV     1: the name of the call   2: how long it is held from now, -1 if it was not made
--          3: '1' for a background lane
--          for a call that was not made, as in request.lua: 4: how long a call without a known end is held
--          5: how long a call may be on the wire   6: the length of a part of a day
--          the last three: as in clock.lua
for _, key in ipairs({ KEYS[5], KEYS[6] }) do redis.call('ZREM', key, ARGV[1]) end
local now, after = steady_now(), tonumber(ARGV[2])

-- If this was the last call, says which one must be held from now on, and for how long. If the calls are lost, it is one
-- that there is not: so the next request notices the loss.
local function last_is(name, held_for)
  local last, last_until = unpack(redis.call('HMGET', KEYS[1], 'last', 'last_until'))
  if last ~= ARGV[1] then return end
  if not redis.call('ZSCORE', KEYS[2], ARGV[1]) and tonumber(last_until or 0) > now then
    redis.call('HSET', KEYS[1], 'last', '')
  else
    redis.call('HSET', KEYS[1], 'last', name, 'last_until', string.format('%.0f', now + 0.95 * held_for))
  end
end

if after >= 0 then
  if not now then return 0 end
  last_is(ARGV[1], after)
  local free, keep = string.format('%.0f', now + after), math.ceil(after / 1000) + 1000
  for _, key in ipairs({ KEYS[2], ARGV[3] == '1' and KEYS[3] or nil }) do
    redis.call('ZADD', key, free, ARGV[1])
    if redis.call('PTTL', key) < keep then redis.call('PEXPIRE', key, keep) end
  end
  return 0
end

if now then
  local held = redis.call('ZRANGE', KEYS[2], 0, 1, 'REV', 'WITHSCORES')
  local other = held[1] == ARGV[1] and 3 or 1
  last_is(held[other] or '', (held[other + 1] or now) - now)
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
