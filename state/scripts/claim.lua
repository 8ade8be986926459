-- CLAIM: incarnations whose leases ran out are dead. KEYS as in heartbeat.lua.
-- ARGV[1] the claimer's incarnation   ARGV[2] when the claimer's unbroken row of
-- heartbeats began   ARGV[3] when the last of them was answered   ARGV[4] length of a
-- lease   ARGV[5] margin for Redis's clock; all in milliseconds of Redis's clock
--
-- Returns {1 or 0, incarnations registered, of those run out, claimed…} and then
-- '' and the dead that may be reaped now, oldest first. The first is 0 if the
-- claimer must not claim: its own lease is over; or it has not seen Redis work for
-- a lease and a margin, so that others may not have been able to renew; or its
-- last heartbeat was answered half a lease ago or more, so that this CLAIM has
-- waited in a stalled Redis, before the heartbeats of others that wait as well.
-- Where more than half have run out, a stalled Redis is likelier than so many
-- deaths: they are given one more lease.
local at = now()
local lease, margin = tonumber(ARGV[4]), tonumber(ARGV[5])
local all = redis.call('ZCARD', KEYS[1])
local over = redis.call('ZCOUNT', KEYS[1], '-inf', '(' .. integer(at - margin))
local result = {1, all, over}
local own = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not own or tonumber(own) <= at or at - tonumber(ARGV[2]) < lease + margin or at - tonumber(ARGV[3]) >= lease / 2 then
  result[1] = 0
else
  local limit = at - margin
  if over * 2 > all then limit = limit - lease end
  for _, incarnation in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(' .. integer(limit))) do
    redis.call('ZREM', KEYS[1], incarnation)
    redis.call('ZADD', KEYS[2], integer(at), incarnation)
    result[#result + 1] = incarnation
  end
end
result[#result + 1] = ''
for _, incarnation in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', integer(at))) do
  result[#result + 1] = incarnation
end
return result
