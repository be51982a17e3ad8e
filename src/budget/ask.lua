-- Spends one call of a scope's quota, or says when there will be one. Times are microseconds of this server's clock.
-- KEYS[1]  the scope's hash:
--            all, share        when the next call would be due at the full rate (GCRA), of all lanes and of the share
--            rest, share_rest  until when nobody, or no background lane, may call
--            pop               until when the background lanes stand aside for a call pop
-- ARGV     1: '1' for a background lane   2, 3: interval and tolerance of all   4, 5: of the share
--          6: how long the caller would wait, -1 for however long   7: how long a call pop may be late
-- Returns  granted (0 or 1), wait for a cell of all, of the share, pause of all, pause of the background lanes
local LONGEST_PAUSE = 3600 * 1000000

local background = ARGV[1] == '1'
local interval, tolerance = tonumber(ARGV[2]), tonumber(ARGV[3])
local share_interval, share_tolerance = tonumber(ARGV[4]), tonumber(ARGV[5])
local patience, lateness = tonumber(ARGV[6]), tonumber(ARGV[7])

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local stored = redis.call('HMGET', KEYS[1], 'all', 'share', 'rest', 'share_rest', 'pop')

-- A clock that was set back, or a quota that was raised, must leave no wait longer than this quota can explain.
local function read(field, longest)
  return math.min(math.max(tonumber(stored[field] or now), now), now + longest)
end
local all = read(1, tolerance + interval)
local share = read(2, share_tolerance + share_interval)
local rest = read(3, LONGEST_PAUSE)
local share_rest = read(4, LONGEST_PAUSE)
local pop = read(5, LONGEST_PAUSE + tolerance + interval)

local function wait_of_share()
  local wait = share - share_tolerance - now
  if pop > now then wait = math.max(wait, pop - now) end
  return wait
end

local wait = math.max(all - tolerance, rest) - now
if background then
  wait = math.max(wait, wait_of_share(), share_rest - now)
end

local granted = wait <= 0
if granted then
  all = all + interval
  if background then share = share + share_interval else pop = now end
elseif not background and (patience < 0 or wait <= patience) then
  pop = math.max(pop, now + wait + lateness)
end

local function text(number) return string.format('%.0f', number) end
if granted or pop > now then
  redis.call('HSET', KEYS[1], 'all', text(all), 'share', text(share), 'pop', text(pop))
  local last = math.max(all, share, rest, share_rest, pop)
  redis.call('PEXPIRE', KEYS[1], text(math.ceil((last - now) / 1000) + 1000))
end

return { granted and 1 or 0, all - tolerance - now, wait_of_share(), rest - now, share_rest - now }
