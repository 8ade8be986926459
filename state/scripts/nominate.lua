-- NOMINATE: an incarnation that Redis does not know may have left something
-- behind: whoever reaps looks for it. KEYS as in heartbeat.lua.
-- ARGV[1] the incarnation   ARGV[2] the earliest time for it, milliseconds of
-- Redis's clock; 0 for now
--
-- Returns 1 if it will be reaped, 0 if it is registered and so is not dead. An
-- incarnation named before the end of its own last lease may still have
-- something under way to Redis, so that it is not reaped before.
if redis.call('ZSCORE', KEYS[1], ARGV[1]) then return 0 end
local at = now()
redis.call('ZADD', KEYS[2], 'NX', integer(math.max(at, tonumber(ARGV[2]))), ARGV[1])
return 1
