-- Spends a call of a scope's quota, or says when there will be room. Times are microseconds of this server's clock.
-- KEYS[1]  the scope's hash:
--            all, share        when the next call is due at an even pace (GCRA), of all lanes and of the share
--            rest, share_rest  until when all lanes, or the background lanes, are paused; replicas of other versions use
--                              these names
--            pop               until when the background lanes are stopped for a call pop
--            kept              until when one call of each window is reserved for verified credentials
--            allowed, allowed_until  how many calls the CRM allows if fewer than documented, and how long that holds
--            unknown           until when nobody may call, because the count was lost
-- KEYS[2], KEYS[3]  the calls held, of all lanes and of the background lanes: a name each, and until when
-- ARGV     1: '1' for a background lane   2, 3: interval and tolerance of all   4, 5: of the share
--          6: how long the caller would wait, -1 for however long   7: how long a call pop may be late
--          8, 9: calls that a window may hold, of all and of the share   10: the length of a window
--          11: how long a call without a known end is held   12: the name of the call
--          13: the name of a call that must be held, or nothing
--          14: how long after a verified call one is reserved for verified ones   15: '1' if this one is verified
--          16: '1' for a probe, which goes although the scope is paused   17: '1' if the call is made already
--          18: how many calls a forecast knows   19: tolerance of all for the background lanes
--          20: how long nobody may call after the count was lost   21: how much longer to hold the call of 13
--          22: '1' if the scope must be known here   23: for how long it must be after a call
--          24: calls of a window that are left to replicas that cannot reach this server
-- Returns  granted (0 or 1), wait for the pace of all, of the share, pause of all, pause of the background lanes,
--          calls held by all, when they are free, calls held by the share, when they are free,
--          1 if a call is reserved for verified credentials, the limits of all and of the share
local LONGEST_PAUSE = 3600 * 1000000

local background = ARGV[1] == '1'
local interval, tolerance = tonumber(ARGV[2]), tonumber(ARGV[3])
local share_interval, share_tolerance = tonumber(ARGV[4]), tonumber(ARGV[5])
local patience, lateness = tonumber(ARGV[6]), tonumber(ARGV[7])
local limit, share_limit, per, hold = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11])
local keeps, verified, probe, made = tonumber(ARGV[14]), ARGV[15] == '1', ARGV[16] == '1', ARGV[17] == '1'
local foreseen, even_tolerance, unknown_for = tonumber(ARGV[18]), tonumber(ARGV[19]), tonumber(ARGV[20])

local function text(number) return string.format('%.0f', number) end

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local stored = redis.call('HMGET', KEYS[1], 'all', 'share', 'rest', 'share_rest', 'pop', 'kept', 'unknown',
  'allowed', 'allowed_until')

-- After a clock step or a change of the quota no wait is longer than this quota can cause.
local function read(field, longest)
  return math.min(math.max(tonumber(stored[field] or now), now), now + longest)
end
local all = read(1, tolerance + interval)
local share = read(2, share_tolerance + share_interval)
local rest = read(3, LONGEST_PAUSE)
local share_rest = read(4, LONGEST_PAUSE)
local pop = read(5, LONGEST_PAUSE + tolerance + interval)
local kept = read(6, keeps)
local unknown = read(7, unknown_for)
if tonumber(stored[9] or 0) > now then
  limit = math.min(limit, tonumber(stored[8]))
  share_limit = math.min(share_limit, math.max(limit - 1, 1))
end
limit = math.max(limit - tonumber(ARGV[24]), 1)
share_limit = math.min(share_limit, limit)
local most = limit

-- The only call of a window or a burst cannot be reserved.
local burst_tolerance = tolerance
if not verified and kept > now then
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
  local times, scored = {}, redis.call('ZRANGE', key, 0, foreseen - 1, 'WITHSCORES')
  for n = 2, #scored, 2 do times[n / 2] = math.min(tonumber(scored[n]) - now, per) end
  return times
end

local function room(held, most, times)
  if held < most then return 0 end
  return times[held - most + 1] or times[#times] or per
end

local function wait_of_share()
  local wait = math.max(share - share_tolerance, all - even_tolerance) - now
  if pop > now then wait = math.max(wait, pop - now) end
  return wait
end

local held, share_held = slide(KEYS[2]), slide(KEYS[3])
if unknown_for > 0 and not made then
  local forgotten = ARGV[22] == '1' and not stored[1]
  local last_is_gone = ARGV[13] ~= '' and not redis.call('ZSCORE', KEYS[2], ARGV[13])
  if forgotten or last_is_gone then unknown = now + unknown_for end
  -- It is held again, so that its loss is noticed only once.
  if last_is_gone then redis.call('ZADD', KEYS[2], text(now + tonumber(ARGV[21])), ARGV[13]) end
end
local wait = math.max(all - tolerance, unknown) - now
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
  if verified and keeps > 0 then kept = now + keeps end
elseif not background and (patience < 0 or wait <= patience) then
  pop = math.max(pop, now + wait + lateness)
end

if granted or pop > now or unknown > now then
  local fields = { 'all', text(all), 'share', text(share), 'pop', text(pop), 'unknown', text(unknown) }
  if kept > now then fields[9], fields[10] = 'kept', text(kept) end
  redis.call('HSET', KEYS[1], unpack(fields))
  local last = math.max(all, share, rest, share_rest, pop, kept, unknown, tonumber(stored[9] or 0))
  last = math.max(last, now + tonumber(ARGV[23]))
  redis.call('PEXPIRE', KEYS[1], text(math.ceil((last - now) / 1000) + 1000))
  for _, key in ipairs({ KEYS[2], KEYS[3] }) do
    redis.call('PEXPIRE', key, text(math.ceil(hold / 1000) + 1000))
  end
end

return {
  granted and 1 or 0, math.max(all - burst_tolerance, unknown) - now, wait_of_share(), rest - now, share_rest - now,
  held, frees(KEYS[2]), share_held, frees(KEYS[3]), kept > now and 1 or 0, most, share_limit,
}
