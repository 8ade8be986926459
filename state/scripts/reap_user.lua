-- REAP_USER: incarnation I is dead; none of its sockets of these users is open.
-- KEYS per user as in attach.lua.   ARGV[1] I
--
-- Returns how many sockets were removed: those whose recorded owner is I, of any
-- generation. A socket that has moved to another node is not among them.
-- Idempotent.
local reaped = 0
for i = 1, #KEYS, 3 do
  local owners, found = redis.call('HGETALL', KEYS[i + 2]), false
  for j = 1, #owners, 2 do
    if apart(owners[j + 1]) == ARGV[1] then
      redis.call('HDEL', KEYS[i + 2], owners[j])
      redis.call('ZREM', KEYS[i + 1], owners[j])
      reaped, found = reaped + 1, true
    end
  end
  if found then settle(KEYS[i], KEYS[i + 1], KEYS[i + 2]) end
end
return reaped
