-- Spends a call of a scope's quota, or says when there will be room. Times are microseconds of this server's clock.
-- KEYS[1]  the scope's hash:
--            all, share        when the next call is due at an even pace (GCRA), of all lanes and of the share
--            rest, share_rest  until when nobody, or no background lane, may call
--            pop               until when the background lanes stand aside for a call pop
--            kept              until when a call of each window is kept for credentials that are proven
-- KEYS[2], KEYS[3]  the calls held, of all lanes and of the background lanes: a name each, and until when
-- ARGV     1: '1' for a background lane   2, 3: interval and tolerance of all   4, 5: of the share
--          6: how long the caller would wait, -1 for however long   7: how long a call pop may be late
--          8, 9: calls that a window may hold, of all and of the share   10: the length of a window
--          11: how long a call is held of which nothing is heard any more   12: the name of the call
--          13: for how long a call is kept for proven credentials, because this one is; -1 if this one is not
--          14: '1' for a probe, which goes although the scope rests   15: '1' if the call is made already
--          16: how many calls a forecast foresees   17: tolerance of all for the background lanes
-- Returns  granted (0 or 1), wait for the pace of all, of the share, pause of all, pause of the background lanes,
--          calls held by all, when they are free, calls held by the share, when they are free,
--          1 if a call is kept for credentials that are proven
local LONGEST_PAUSE = 3600 * 1000000

local background = ARGV[1] == '1'
local interval, tolerance = tonumber(ARGV[2]), tonumber(ARGV[3])
local share_interval, share_tolerance = tonumber(ARGV[4]), tonumber(ARGV[5])
local patience, lateness = tonumber(ARGV[6]), tonumber(ARGV[7])
local limit, share_limit, per, hold = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11])
local keeps, probe, made = tonumber(ARGV[13]), ARGV[14] == '1', ARGV[15] == '1'

local function text(number) return string.format('%.0f', number) end

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local stored = redis.call('HMGET', KEYS[1], 'all', 'share', 'rest', 'share_rest', 'pop', 'kept')

-- After a clock step or a change of the quota no wait is longer than this quota can cause.
local function read(field, longest)
  return math.min(math.max(tonumber(stored[field] or now), now), now + longest)
end
local all = read(1, tolerance + interval)
local share = read(2, share_tolerance + share_interval)
local rest = read(3, LONGEST_PAUSE)
local share_rest = read(4, LONGEST_PAUSE)
local pop = read(5, LONGEST_PAUSE + tolerance + interval)
local kept = tonumber(stored[6] or now)

-- The only call of a window or a burst cannot be kept.
local burst_tolerance = tolerance
if keeps < 0 and kept > now then
  if limit > 1 then limit = limit - 1 end
  if tolerance >= interval then tolerance = tolerance - interval end
end

local function slide(key)
  redis.call('ZREMRANGEBYSCORE', key, '-inf', text(now))
  for _, name in ipairs(redis.call('ZRANGE', key, '(' .. text(now + hold), '+inf', 'BYSCORE')) do
    redis.call('ZADD', key, text(now + hold), name)
  end
  return redis.call('ZCARD', key)
end

-- Microseconds until each of the first calls is free. One that is under way may be free a window from now.
local function frees(key)
  local times, scored = {}, redis.call('ZRANGE', key, 0, tonumber(ARGV[16]) - 1, 'WITHSCORES')
  for n = 2, #scored, 2 do times[n / 2] = math.min(tonumber(scored[n]) - now, per) end
  return times
end

local function room(held, most, times)
  if held < most then return 0 end
  return times[held - most + 1] or times[#times] or per
end

local function wait_of_share()
  local wait = math.max(share - share_tolerance, all - tonumber(ARGV[17])) - now
  if pop > now then wait = math.max(wait, pop - now) end
  return wait
end

local held, share_held = slide(KEYS[2]), slide(KEYS[3])
local wait = all - tolerance - now
if held >= limit then wait = math.max(wait, room(held, limit, frees(KEYS[2]))) end
if not probe then wait = math.max(wait, rest - now) end
if background then
  wait = math.max(wait, wait_of_share(), share_rest - now)
  if share_held >= share_limit then wait = math.max(wait, room(share_held, share_limit, frees(KEYS[3]))) end
end

local granted = made or wait <= 0
if granted then
  all = all + interval
  redis.call('ZADD', KEYS[2], text(now + hold), ARGV[12])
  held = held + 1
  if background then
    share = share + share_interval
    redis.call('ZADD', KEYS[3], text(now + hold), ARGV[12])
    share_held = share_held + 1
  elseif not made then
    pop = now
  end
  if keeps > 0 then kept = now + keeps end
elseif not background and (patience < 0 or wait <= patience) then
  pop = math.max(pop, now + wait + lateness)
end

if granted or pop > now then
  local fields = { 'all', text(all), 'share', text(share), 'pop', text(pop) }
  if kept > now then fields[7], fields[8] = 'kept', text(kept) end
  redis.call('HSET', KEYS[1], unpack(fields))
  local last = math.max(all, share, rest, share_rest, pop, kept)
  redis.call('PEXPIRE', KEYS[1], text(math.ceil((last - now) / 1000) + 1000))
  for _, key in ipairs({ KEYS[2], KEYS[3] }) do
    redis.call('PEXPIRE', key, text(math.ceil(hold / 1000) + 1000))
  end
end

return {
  granted and 1 or 0, all - burst_tolerance - now, wait_of_share(), rest - now, share_rest - now,
  held, frees(KEYS[2]), share_held, frees(KEYS[3]), kept > now and 1 or 0,
}
