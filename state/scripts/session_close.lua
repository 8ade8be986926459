-- CLOSE: the conn of a session ended, and its client may come back.
--
-- KEYS[1] session
-- ARGV[1] owner   ARGV[2] generation   ARGV[3] window: for how long, milliseconds
-- ARGV[4] alive: no later than when the conn ended   ARGV[5] lag: after so long all
-- that was sent on a conn has been received, or it has ended
--
-- Returns 'GONE', and changes nothing, if the session is not there or has another
-- owner or generation; else 'OK'. Where it is not proved yet that the client had
-- caught up with what it missed before, b stays: it must not become younger by
-- another conn that ended early.
local at = redis.call('HMGET', KEYS[1], 'o', 'g', 'c', 'b', 'u')
if at[1] ~= ARGV[1] or at[2] ~= ARGV[2] then return 'GONE' end
if at[3] then return 'OK' end
local time, lag = now(), tonumber(ARGV[5])
local alive = math.min(time, tonumber(ARGV[4]))
if caughtUp(at[5], alive, lag) then redis.call('HDEL', KEYS[1], 'b', 'u') end
redis.call('HSET', KEYS[1], 'c', integer(time), 's', integer(alive - lag))
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 'OK'
