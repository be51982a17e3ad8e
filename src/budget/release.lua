-- Holds a call for this long from now and no longer. A call that is free already stays free. Times are microseconds.
-- KEYS[1], KEYS[2]  the calls held, as in request.lua
-- ARGV     1: the name of the call   2: how long it is held from now
local time = redis.call('TIME')
local free = string.format('%.0f', time[1] * 1000000 + time[2] + tonumber(ARGV[2]))
for _, key in ipairs(KEYS) do
  redis.call('ZADD', key, 'XX', free, ARGV[1])
end
return 0
