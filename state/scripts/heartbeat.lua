-- HEARTBEAT: incarnation I lives, and renews its lease.
--
-- KEYS[1] {edge}:inst   Sorted set incarnation → end of its lease, milliseconds
-- KEYS[2] {edge}:dead   Sorted set incarnation → when it may be reaped, milliseconds
-- ARGV[1] I   ARGV[2] length of the lease in milliseconds   ARGV[3] 1 for the first one
--
-- Returns {until, now, incarnations}: the new end of the lease, Redis's clock,
-- and how many are registered. until 0 says that I is unknown: it was given up
-- for dead, or Redis lost it. Its holds count no more, and it must not come
-- back: the node goes on as another incarnation. A lease that has run out but
-- was not noticed is renewed; CLAIM and HEARTBEAT exclude each other.
local at = now()
local known = redis.call('ZSCORE', KEYS[1], ARGV[1])
if redis.call('ZSCORE', KEYS[2], ARGV[1]) or not (known or ARGV[3] == '1') then
  return {0, at, redis.call('ZCARD', KEYS[1])}
end
local ends = at + tonumber(ARGV[2])
redis.call('ZADD', KEYS[1], integer(ends), ARGV[1])
return {ends, at, redis.call('ZCARD', KEYS[1])}
