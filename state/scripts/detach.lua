-- DETACH: sockets of users are closed. KEYS and ARGV as in attach.lua.
--
-- Returns how many were attached by their owner; for others nothing changes: a
-- socket that another incarnation has taken over keeps its id. When an active
-- socket goes, the most recently superseded one takes its place.
local function detach(key, others, owners, socket, owner)
  if redis.call('HGET', owners, socket) ~= owner then return 0 end
  redis.call('HDEL', owners, socket)
  if redis.call('GET', key) ~= socket then
    redis.call('ZREM', others, socket)
    return 1
  end
  local following = redis.call('ZREVRANGE', others, 0, 0)[1]
  if following then
    redis.call('ZREM', others, following)
    redis.call('SET', key, following)
  else
    redis.call('DEL', key)
  end
  return 1
end

local detached = 0
for i = 1, #KEYS, 3 do
  detached = detached + detach(KEYS[i], KEYS[i + 1], KEYS[i + 2], ARGV[i], ARGV[i + 1])
end
return detached
