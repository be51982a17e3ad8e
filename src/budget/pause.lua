-- Lets a scope rest for at least so long, or rest no more, or keeps a call of each window. Times are microseconds of
-- this server's clock.
-- KEYS[1]  the scope's hash, as in ask.lua
-- ARGV     1: rest of all lanes, -1 for none any more   2: rest of the background lanes
--          3: for how long a call is kept for credentials that are proven
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

if tonumber(ARGV[1]) < 0 and redis.call('HGET', KEYS[1], 'rest') then
  redis.call('HSET', KEYS[1], 'rest', 0, 'share_rest', 0)
end

local longest = 0
local times = { rest = tonumber(ARGV[1]), share_rest = tonumber(ARGV[2]), kept = tonumber(ARGV[3]) }
for field, wanted in pairs(times) do
  local stored = tonumber(redis.call('HGET', KEYS[1], field) or now)
  if wanted > 0 and now + wanted > stored then
    redis.call('HSET', KEYS[1], field, string.format('%.0f', now + wanted))
    longest = math.max(longest, wanted)
  end
end

local keep = math.ceil(longest / 1000) + 1000
if longest > 0 and redis.call('PTTL', KEYS[1]) < keep then
  redis.call('PEXPIRE', KEYS[1], string.format('%.0f', keep))
end
return 0
