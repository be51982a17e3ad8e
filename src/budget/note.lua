-- Applies an update of a scope: a pause of at least this length, or the end of all pauses; the reservation of a call of
-- each window; a lower limit of the CRM, or a higher one again. Times are microseconds of the clock in clock.lua.
-- KEYS[1]  the scope's hash, as in request.lua
-- ARGV     1: pause of all lanes, -1 to end all pauses   2: pause of the background lanes
--          3: how long a call is reserved for verified credentials
--          4: how many calls the CRM allows, 0 if unchanged   5: how long that holds   6: how many before
--          7 to 9: as in clock.lua
local now = steady_now()
if not now then return 0 end

local function text(number) return string.format('%.0f', number) end
local function stored(field) return tonumber(redis.call('HGET', KEYS[1], field) or 0) end

if tonumber(ARGV[1]) < 0 and redis.call('HGET', KEYS[1], 'rest') then
  redis.call('HSET', KEYS[1], 'rest', 0, 'share_rest', 0)
end

local longest = 0
local times = { rest = tonumber(ARGV[1]), share_rest = tonumber(ARGV[2]), kept = tonumber(ARGV[3]) }
for field, wanted in pairs(times) do
  if wanted > 0 and now + wanted > stored(field) then
    redis.call('HSET', KEYS[1], field, text(now + wanted))
    longest = math.max(longest, wanted)
  end
end

local limit, lasts, before = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local others = stored('allowed_until') > now and stored('allowed') or limit
-- If several replicas were refused calls, the lowest limit holds, and only its replica raises it.
if limit > 0 and (limit < others or others == limit or others >= before) then
  redis.call('HSET', KEYS[1], 'allowed', text(limit), 'allowed_until', text(now + lasts))
  longest = math.max(longest, lasts)
end

local keep = math.ceil(longest / 1000) + 1000
if longest > 0 and redis.call('PTTL', KEYS[1]) < keep then
  redis.call('PEXPIRE', KEYS[1], text(keep))
end
return 0
