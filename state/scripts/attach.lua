-- ATTACH: a socket of a user is open, owned by one incarnation.
--
-- KEYS[1] user:<u>:socket      String, public: the user's active (newest) socket
-- KEYS[2] {user:<u>:socket}:z  Sorted set socket → when it was superseded: the others
-- KEYS[3] {user:<u>:socket}:o  Hash socket → owner, of all of them
-- ARGV[1] socket   ARGV[2] owner   ARGV[3] 'attach', or 'assert' for a socket that
-- was attached before and may have been lost
--
-- Returns 1 when the socket became the active one, else 0. The owner is
-- overwritten. Idempotent; 'assert' never takes the place of an active socket.
redis.call('HSET', KEYS[3], ARGV[1], ARGV[2])
local active = redis.call('GET', KEYS[1])
if active == ARGV[1] then return 0 end
if active and redis.call('ZSCORE', KEYS[2], ARGV[1]) then return 0 end
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000000 + time[2])
if active and ARGV[3] == 'assert' then
  redis.call('ZADD', KEYS[2], now, ARGV[1])
  return 0
end
-- A foreign socket, one without an owner, is not remembered.
if active and redis.call('HEXISTS', KEYS[3], active) == 1 then
  redis.call('ZADD', KEYS[2], now, active)
end
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('SET', KEYS[1], ARGV[1])
return 1
