-- DETACH: sockets of users are closed. KEYS as in attach.lua.
-- ARGV per socket: the socket, and its owner "<incarnation>.<generation>"
--
-- Returns how many were attached by their owner, in that generation or one
-- before; for others nothing changes: a socket that another node has taken over
-- keeps its id. Needs no lease and is idempotent.
local detached = 0
for i = 1, #KEYS, 3 do
  local argument = (i - 1) / 3 * 2 + 1
  local socket, owner = ARGV[argument], redis.call('HGET', KEYS[i + 2], ARGV[argument])
  if owner then
    local recorded, reached = apart(owner)
    local incarnation, generation = apart(ARGV[argument + 1])
    if recorded == incarnation and reached <= generation then
      redis.call('HDEL', KEYS[i + 2], socket)
      redis.call('ZREM', KEYS[i + 1], socket)
      settle(KEYS[i], KEYS[i + 1], KEYS[i + 2])
      detached = detached + 1
    end
  end
end
return detached
