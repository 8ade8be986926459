-- DETACH: a socket of a user is closed. KEYS, ARGV[1] and ARGV[2] as in attach.lua.
--
-- Returns 1 when it was attached by this owner, else 0 and nothing changes: a
-- socket that another incarnation has taken over keeps its id. If it was the
-- active socket the most recently superseded one takes its place.
if redis.call('HGET', KEYS[3], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('HDEL', KEYS[3], ARGV[1])
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  redis.call('ZREM', KEYS[2], ARGV[1])
  return 1
end
local following = redis.call('ZREVRANGE', KEYS[2], 0, 0)[1]
if following then
  redis.call('ZREM', KEYS[2], following)
  redis.call('SET', KEYS[1], following)
else
  redis.call('DEL', KEYS[1])
end
return 1
