-- Tries each command that the scripts of this program use, on keys of its own that live for a second.
-- KEYS     a text, a sorted set, a hash, a stream
-- Returns  each refused command, followed by the error
local refused = {}
local function try(command, ...)
    local reply = redis.pcall(command, ...)
    if type(reply) == 'table' and reply.err then
        refused[#refused + 1] = command
        refused[#refused + 1] = reply.err
    end
end
local text, set, hash, stream = KEYS[1], KEYS[2], KEYS[3], KEYS[4]

-- First what needs memory: once a script has written, a full server lets it go on.
try('SET', text, 'x', 'PX', 1000)
try('ZADD', set, 1, 'x')
try('HSETNX', hash, 'n', 0)
try('HINCRBY', hash, 'n', 1)
try('HSET', hash, 'x', 'x')
try('XADD', stream, 'MAXLEN', '~', 10, '*', 'e', 'x')
for _, key in ipairs(KEYS) do try('PEXPIRE', key, 1000) end

try('TIME')
try('INFO', 'server')
try('GET', text)
try('PTTL', text)
try('ZCARD', set)
try('ZRANGE', set, 0, 0)
try('ZRANGE', set, '(1', '+inf', 'BYSCORE')
try('ZCOUNT', set, '-inf', '+inf')
try('ZSCORE', set, 'x')
try('ZREM', set, 'y')
try('ZREMRANGEBYSCORE', set, '-inf', 0)
try('HGET', hash, 'n')
try('HMGET', hash, 'n', 'x')
try('HGETALL', hash)
try('HDEL', hash, 'x')
try('XRANGE', stream, '-', '+', 'COUNT', 1)
try('XREVRANGE', stream, '+', '-', 'COUNT', 1)
try('DEL', text, set, hash, stream)
return refused
