-- RELEASE: incarnation I no longer holds members in the presence set S.
-- KEYS as in hold.lua.
-- ARGV[1] I   ARGV[2] 'grace' if the members may be back in a moment, else ''
-- ARGV[3] event channel or ''   ARGV[4] epoch to begin if need be   ARGV[5] run
-- ARGV[6…] members, at least one and at most 1000
--
-- Returns {members that left S, 0, epoch, seq}. Needs no lease and is
-- idempotent: only what I holds can be released. A member leaves S unless
-- another incarnation holds it, which is looked up and not counted: no write of
-- anybody else can make it wrong.
local released = {}
for i = 6, #ARGV do
  if redis.call('HDEL', KEYS[2], ARGV[i]) == 1 then released[#released + 1] = ARGV[i] end
end
local held = {}
if #released > 0 then
  for _, other in ipairs(redis.call('SMEMBERS', KEYS[3])) do
    if other ~= ARGV[1] then
      local found = redis.call('HMGET', holder(KEYS[1], other), unpack(released))
      for i = 1, #released do held[i] = held[i] or found[i] end
    end
  end
end
local left = {}
for i, member in ipairs(released) do
  if not held[i] and redis.call('SREM', KEYS[1], member) == 1 then left[#left + 1] = member end
end
if redis.call('EXISTS', KEYS[2]) == 0 then redis.call('SREM', KEYS[3], ARGV[1]) end
local epoch, seq = publish(KEYS[1], KEYS[4], ARGV[3], ARGV[4], ARGV[5], {}, left, ARGV[2] == 'grace')
return {#left, 0, epoch, seq}
