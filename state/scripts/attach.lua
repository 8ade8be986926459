-- ATTACH: sockets of users are open, each owned by incarnation I.
--
-- Per socket, three keys:
-- KEYS user:<u>:socket      String, public: the user's active socket
--      {user:<u>:socket}:z  Sorted set socket → when it was superseded: the others
--      {user:<u>:socket}:o  Hash socket → owner, of all of them
-- ARGV[1] I   ARGV[2] until: the end of I's lease, milliseconds of Redis's clock
-- then per socket three arguments: the socket, its generation (how often it has
-- moved to another node), and 'attach', or 'assert' for a socket that was
-- attached before and may have been lost
--
-- Refuses with -1, and changes nothing, once the lease is over. Else returns how
-- many became active. An owner is "<incarnation>.<generation>" and is
-- overwritten unless its generation is higher: then the socket has moved on,
-- and nothing changes for it. Idempotent. 'assert' takes the place of no active
-- socket but a foreign one: one without an owner, of which nobody here can tell
-- whether it is open. The users are independent of each other: where their keys
-- live in different places, call it for each.
if now() >= tonumber(ARGV[2]) then return -1 end
local time = redis.call('TIME')
local microseconds = time[1] * 1000000 + time[2]

local function attach(key, others, owners, socket, generation, mode, at)
  local owner = redis.call('HGET', owners, socket)
  if owner and tonumber(string.match(owner, '%.(%d+)$')) > tonumber(generation) then return 0 end
  redis.call('HSET', owners, socket, ARGV[1] .. '.' .. generation)
  local active = redis.call('GET', key)
  if active == socket then return 0 end
  local owned = active and redis.call('HEXISTS', owners, active) == 1
  if owned and redis.call('ZSCORE', others, socket) then return 0 end
  if owned and mode == 'assert' then
    redis.call('ZADD', others, at, socket)
    return 0
  end
  if owned then redis.call('ZADD', others, at, active) end
  redis.call('ZREM', others, socket)
  redis.call('SET', key, socket)
  return 1
end

local activated = 0
for i = 1, #KEYS, 3 do
  activated = activated + attach(KEYS[i], KEYS[i + 1], KEYS[i + 2], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4],
    integer(microseconds + i)) -- + i: in the order of the arguments
end
return activated
