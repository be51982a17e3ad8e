-- This server's clock, as the other scripts read it. The last three arguments of each script are: the correction of this
-- server's time of day on which the replicas agree; the time of day that the replica expects, 0 if it cannot say; how
-- far that may be off. Times are microseconds.
-- Returns nothing if the clock was set and the calling replica has not noticed yet: by such a clock a call would be
-- counted in the wrong window.
local function steady_now()
  local time = redis.call('TIME')
  local now = time[1] * 1000000 + time[2]
  local step, expected, tolerance = tonumber(ARGV[#ARGV - 2]), tonumber(ARGV[#ARGV - 1]), tonumber(ARGV[#ARGV])
  if expected > 0 and math.abs(now - expected) > tolerance then return nil end
  return now + step
end

