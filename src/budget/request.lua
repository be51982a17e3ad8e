-- Spends a call of a scope's quota, or says when there will be room. Times are microseconds of the clock in
-- clock.lua.
-- KEYS[1]  the scope's hash:
--            all, share        when the next call is due at an even pace (GCRA), of all lanes and of the share
--            rest, share_rest  until when all lanes, or the background lanes, are paused (the names must not change:
--                              replicas of other versions share this hash)
--            pop               until when the background lanes are stopped for a call pop
--            kept              until when one call of each window is reserved for verified credentials
--            allowed, allowed_until  how many calls the CRM allows if fewer than documented, and how long that holds
--            unknown           until when nobody may call, because the count was lost
--            whole_until       until when KEYS[2] has a member without a name, unless its calls were lost
-- KEYS[2], KEYS[3]  the calls held, of all lanes and of the background lanes: a name each, and until when; in KEYS[2] also
--                   a member without a name, which shows that no call was lost
-- KEYS[4]  the scope's totals over all kinds of calls:
--            pop     until when the background lanes are stopped for a call pop that waits for a place on the wire
--            dN, sN  calls of the part N of a day, of all lanes and of the background lanes
-- KEYS[5], KEYS[6]  the calls on the wire, of all lanes and of the background lanes: a name each, and until when
-- KEYS[7], KEYS[8]  two keys of the log: a hash with the data token after the last loss, and a sorted set with the
--                   last poll of each replica; not in a cluster
-- ARGV     1: '1' for a background lane   2, 3: interval and tolerance of all   4, 5: of the share
--          6: how long the caller would wait, -1 for however long   7: how long a call pop may be late
--          8, 9: calls that a window may hold, of all and of the share   10: the length of a window
--          11: how long a call without a known end is held   12: the name of the call
--          13: the name of a call that must be held, or nothing
--          14: how long after a verified call one is reserved for verified ones   15: '1' if this one is verified
--          16: '1' for a probe, which goes although the scope is paused   17: '1' if the call is made already
--          18: how many calls a forecast knows   19: tolerance of all for the background lanes
--          20: how long nobody may call after the count was lost   21: how much longer to hold the call of 13
--          22: '1' if the scope must be known here, '2' if a loss of all data was just waited for
--          23: for how long after a call it must be known
--          24: calls of a window that are left to replicas that cannot reach this server
--          25, 26: calls that may be on the wire, of all and of the background lanes, 0 if the CRM does not limit them
--          27, 28: calls of a day, likewise   29: how long a call may be on the wire
--          30: how soon a call without a place asks again   31: how much later a call pop may do so
--          32: the length of a part of a day   33: of a day   34, 35: calls of a day that the caller has made itself
--          36: '1' if nothing is granted, because somebody only looks   37: the data token after the last loss, as far as
--          the replica knows, or nothing   38: its name in the log   39: when it has polled last, in milliseconds
--          40 to 42: as in clock.lua
-- Returns  granted (0 or 1), wait for the pace of all, of the share, pause of all, pause of the background lanes (both
--          -1 if they are not known), calls held by all, when they are free, calls held by the share, when they are free,
--          1 if a call is reserved for verified credentials, the limits of all and of the share,
--          the totals: calls on the wire of all and of the background lanes; calls of a day and when the first is
--          free, of both; how long the background lanes are stopped for a place
local LONGEST_PAUSE = 3600 * 1000000

local background = ARGV[1] == '1'
local interval, tolerance = tonumber(ARGV[2]), tonumber(ARGV[3])
local share_interval, share_tolerance = tonumber(ARGV[4]), tonumber(ARGV[5])
local patience, lateness = tonumber(ARGV[6]), tonumber(ARGV[7])
local limit, share_limit, per, hold = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11])
local keeps, verified, probe, made = tonumber(ARGV[14]), ARGV[15] == '1', ARGV[16] == '1', ARGV[17] == '1'
local looks = ARGV[36] == '1'
local foreseen, even_tolerance, unknown_for = tonumber(ARGV[18]), tonumber(ARGV[19]), tonumber(ARGV[20])

local function text(number) return string.format('%.0f', number) end

-- If Redis has lost its data, or has older data, it does not hold what the replica has seen.
local function has_seen_data()
  if not KEYS[7] or ARGV[37] == '' then return true end
  local polled = redis.call('ZSCORE', KEYS[8], ARGV[38])
  return redis.call('HGET', KEYS[7], 'loss') == ARGV[37] and tonumber(polled or 0) >= tonumber(ARGV[39])
end

local now = steady_now()
-- The clock of Redis was set, or it has other data. Nobody may call before the replica has noticed.
if not now or not made and not has_seen_data() then
  local again = 100000
  return { 0, again, again, -1, -1, 0, {}, 0, {}, 0, { limit, share_limit }, { 0, 0, 0, 0, 0, 0, 0 } }
end
local stored = redis.call('HMGET', KEYS[1], 'all', 'share', 'rest', 'share_rest', 'pop', 'kept', 'unknown',
  'allowed', 'allowed_until', 'whole_until')

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
-- A call that need not wait for lost calls ignores the mark, and leaves it to those that must.
local unknown = unknown_for > 0 and read(7, unknown_for) or now
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

local function slide(key, hold)
  redis.call('ZREMRANGEBYSCORE', key, '-inf', text(now))
  for _, name in ipairs(redis.call('ZRANGE', key, '(' .. text(now + hold), '+inf', 'BYSCORE')) do
    if name ~= '' then redis.call('ZADD', key, text(now + hold), name) end
  end
  return redis.call('ZCARD', key)
end

-- Microseconds until each of the first calls is free. One that is under way may be free a window from now.
local function frees(key)
  local times, scored = {}, redis.call('ZRANGE', key, 0, foreseen, 'WITHSCORES')
  for n = 2, #scored, 2 do
    if scored[n - 1] ~= '' and #times < foreseen then times[#times + 1] = math.min(tonumber(scored[n]) - now, per) end
  end
  return times
end

local function room(held, most, times)
  if held < most then return 0 end
  return times[held - most + 1] or times[#times] or per
end

local places, share_places, day, share_day = tonumber(ARGV[25]), tonumber(ARGV[26]), tonumber(ARGV[27]), tonumber(ARGV[28])
local call_time, look_again, place_lateness = tonumber(ARGV[29]), tonumber(ARGV[30]), tonumber(ARGV[31])
local part_length, day_length = tonumber(ARGV[32]), tonumber(ARGV[33])
local part = math.floor((now + call_time) / part_length)

-- The calls of a day, and when the first are free. A call is counted in the part in which it may arrive at
-- the latest, until a day after the end of that part. If the clock was set back, calls of later parts move to the part
-- in which a call of now would be counted.
local function calls_of_day()
  local calls, first = { d = tonumber(ARGV[34]), s = tonumber(ARGV[35]) }, { d = part, s = part }
  local counted = { d = 0, s = 0 }
  local fields = redis.call('HGETALL', KEYS[4])
  for n = 1, #fields, 2 do
    local lanes, its = string.match(fields[n], '^([ds])(%d+)$')
    its = tonumber(its)
    if lanes and (its + 1) * part_length + day_length <= now then
      redis.call('HDEL', KEYS[4], fields[n])
    elseif lanes then
      if its > part then
        redis.call('HDEL', KEYS[4], fields[n])
        redis.call('HINCRBY', KEYS[4], lanes .. text(part), fields[n + 1])
      elseif fields[n + 1] ~= '0' then
        first[lanes] = math.min(first[lanes], its)
      end
      counted[lanes] = counted[lanes] + tonumber(fields[n + 1])
    end
  end
  local function held(lanes)
    return math.max(calls[lanes], counted[lanes]), (first[lanes] + 1) * part_length + day_length - now
  end
  local all, all_free = held('d')
  local background_calls, background_free = held('s')
  return all, all_free, background_calls, background_free
end

local wire, share_wire, place_pop = 0, 0, now

-- The held calls that have not ended. They have a place even if the places were lost.
local function not_ended(key)
  local mark = tonumber(redis.call('ZSCORE', key, '') or 0)
  return redis.call('ZCOUNT', key, '(' .. text(now + per), '+inf') - (mark > now + per and 1 or 0)
end

if places > 0 then
  wire, share_wire = slide(KEYS[5], call_time), slide(KEYS[6], call_time)
  wire, share_wire = math.max(wire, not_ended(KEYS[2])), math.max(share_wire, not_ended(KEYS[3]))
  place_pop = tonumber(redis.call('HGET', KEYS[4], 'pop') or now)
  place_pop = math.min(math.max(place_pop, now), now + look_again + place_lateness)
end
local of_day, day_free, share_of_day, share_day_free = 0, 0, 0, 0
if day > 0 then of_day, day_free, share_of_day, share_day_free = calls_of_day() end

local function wait_for_totals()
  local reserved = not verified and kept > now
  local function full(held, most)
    if reserved and most > 1 then most = most - 1 end
    return most > 0 and held >= most
  end
  local wait = 0
  if full(wire, places) or background and full(share_wire, share_places) then wait = look_again end
  if background and place_pop > now then wait = math.max(wait, place_pop - now) end
  if full(of_day, day) then wait = math.max(wait, day_free) end
  if background and full(share_of_day, share_day) then wait = math.max(wait, share_day_free) end
  return wait
end

local function count_in_totals()
  if places > 0 then
    redis.call('ZADD', KEYS[5], text(now + call_time), ARGV[12])
    wire = wire + 1
    if background then
      redis.call('ZADD', KEYS[6], text(now + call_time), ARGV[12])
      share_wire = share_wire + 1
    elseif not made then
      redis.call('HDEL', KEYS[4], 'pop')
      place_pop = now
    end
  end
  if day > 0 then
    redis.call('HINCRBY', KEYS[4], 'd' .. text(part), 1)
    of_day = of_day + 1
    if background then
      redis.call('HINCRBY', KEYS[4], 's' .. text(part), 1)
      share_of_day = share_of_day + 1
    end
  end
end

local function keep_totals()
  for _, key in ipairs({ KEYS[5], KEYS[6] }) do
    redis.call('PEXPIRE', key, text(math.ceil(call_time / 1000) + 1000))
  end
  local keep = look_again + place_lateness
  if day > 0 then keep = call_time + 2 * part_length + day_length end
  keep = math.ceil(keep / 1000) + 1000
  if redis.call('PTTL', KEYS[4]) < keep then redis.call('PEXPIRE', KEYS[4], text(keep)) end
end

local function wait_of_share()
  local wait = math.max(share - share_tolerance, all - even_tolerance) - now
  if pop > now then wait = math.max(wait, pop - now) end
  return wait
end

local held, share_held = slide(KEYS[2], hold), slide(KEYS[3], hold)
local is_whole = redis.call('ZSCORE', KEYS[2], '')
local is_known = stored[1] or ARGV[22] == '2' or ARGV[22] == '0' and held == 0
local is_lost = not is_whole and (tonumber(stored[10] or 0) > now or not is_known)
if is_whole then held, stored[10] = held - 1, is_whole end

if unknown_for > 0 and not looks then
  local last_is_gone = ARGV[13] ~= '' and not redis.call('ZSCORE', KEYS[2], ARGV[13])
  if is_lost or last_is_gone then
    unknown, is_lost = now + unknown_for, false
    stored[10] = nil
  end
  -- It is held again, so that its loss is noticed only once.
  if last_is_gone then redis.call('ZADD', KEYS[2], text(now + tonumber(ARGV[21])), ARGV[13]) end
end
local wait = math.max(math.max(all - tolerance, unknown) - now, wait_for_totals())
if held >= limit then wait = math.max(wait, room(held, limit, frees(KEYS[2]))) end
if not probe then wait = math.max(wait, rest - now) end
if background then
  wait = math.max(wait, wait_of_share(), share_rest - now)
  if share_held >= share_limit then wait = math.max(wait, room(share_held, share_limit, frees(KEYS[3]))) end
end

local granted = made or wait <= 0 and not looks
if granted then
  count_in_totals()
  all = all + interval
  redis.call('ZADD', KEYS[2], text(now + hold), ARGV[12])
  -- A call that is granted while others still wait for lost calls must not hide the loss.
  local others_wait = math.max(unknown, tonumber(stored[7] or 0)) > now
  if is_lost or not others_wait then stored[10] = text(now + hold) end
  if not is_lost and not others_wait then redis.call('ZADD', KEYS[2], stored[10], '') end
  held = held + 1
  if background then
    share = share + share_interval
    redis.call('ZADD', KEYS[3], text(now + hold), ARGV[12])
    share_held = share_held + 1
  elseif not made then
    pop = now
  end
  if verified and keeps > 0 then kept = now + keeps end
elseif not background and not looks and (patience < 0 or wait <= patience) then
  pop = math.max(pop, now + wait + lateness)
  if places > 0 and wire >= places then
    place_pop = now + look_again + place_lateness
    redis.call('HSET', KEYS[4], 'pop', text(place_pop))
  end
end
if granted and (places > 0 or day > 0) or place_pop > now then keep_totals() end

if granted or not looks and (pop > now or unknown > now) then
  local fields = { 'all', text(all), 'share', text(share), 'pop', text(pop), 'whole_until', stored[10] or 0,
    'unknown', unknown_for > 0 and text(unknown) or stored[7] or 0 }
  if kept > now then fields[11], fields[12] = 'kept', text(kept) end
  redis.call('HSET', KEYS[1], unpack(fields))
  local last = math.max(all, share, rest, share_rest, pop, kept, unknown, tonumber(stored[9] or 0))
  last = math.max(last, now + tonumber(ARGV[23]), now + hold)
  redis.call('PEXPIRE', KEYS[1], text(math.ceil((last - now) / 1000) + 1000))
  for _, key in ipairs({ KEYS[2], KEYS[3] }) do
    redis.call('PEXPIRE', key, text(math.ceil(hold / 1000) + 1000))
  end
end

return {
  granted and 1 or 0, math.max(all - burst_tolerance, unknown) - now, wait_of_share(), rest - now, share_rest - now,
  held, frees(KEYS[2]), share_held, frees(KEYS[3]), kept > now and 1 or 0, { most, share_limit },
  { wire, share_wire, of_day, day_free, share_of_day, share_day_free, place_pop - now },
}
