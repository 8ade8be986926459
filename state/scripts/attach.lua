-- ATTACH: sockets of users are open, each owned by one incarnation.
--
-- Per socket, three keys and three arguments:
-- KEYS user:<u>:socket      String, public: the user's active (newest) socket
--      {user:<u>:socket}:z  Sorted set socket → when it was superseded: the others
--      {user:<u>:socket}:o  Hash socket → owner, of all of them
-- ARGV socket, owner, and 'attach', or 'assert' for a socket that was attached
--      before and may have been lost
--
-- Returns how many became the active one. The owner is overwritten. Idempotent;
-- 'assert' never takes the place of an active socket. The users are independent
-- of each other: where their keys live in different places, call it for each.
local time = redis.call('TIME')
local microseconds = time[1] * 1000000 + time[2]

local function attach(key, others, owners, socket, owner, mode, now)
  redis.call('HSET', owners, socket, owner)
  local active = redis.call('GET', key)
  if active == socket then return 0 end
  if active and redis.call('ZSCORE', others, socket) then return 0 end
  if active and mode == 'assert' then
    redis.call('ZADD', others, now, socket)
    return 0
  end
  -- A foreign socket, one without an owner, is not remembered.
  if active and redis.call('HEXISTS', owners, active) == 1 then
    redis.call('ZADD', others, now, active)
  end
  redis.call('ZREM', others, socket)
  redis.call('SET', key, socket)
  return 1
end

local activated = 0
for i = 1, #KEYS, 3 do
  activated = activated + attach(KEYS[i], KEYS[i + 1], KEYS[i + 2], ARGV[i], ARGV[i + 1], ARGV[i + 2],
    string.format('%.0f', microseconds + i)) -- + i: in the order of the arguments
end
return activated
