-- RELEASE: incarnation I no longer holds members in the presence set S.
-- KEYS and ARGV as in hold.lua.
--
-- Returns the number of members that left S. Idempotent: only what I holds can
-- be released. {S}:x is a hint that a foreign SADD or SREM can make wrong, so
-- where it speaks the holders are counted.
local left = {}
for i = 4, #ARGV do
  local member = ARGV[i]
  if redis.call('HDEL', KEYS[2], member) == 1 then
    local holders = 0
    if redis.call('HEXISTS', KEYS[3], member) == 1 then
      for _, other in ipairs(redis.call('SMEMBERS', KEYS[4])) do
        holders = holders + redis.call('HEXISTS', '{' .. KEYS[1] .. '}:i:' .. other, member)
      end
      if holders > 1 then
        redis.call('HSET', KEYS[3], member, string.format('%.0f', holders - 1))
      else
        redis.call('HDEL', KEYS[3], member)
      end
    end
    if holders == 0 and redis.call('SREM', KEYS[1], member) == 1 then
      left[#left + 1] = member
    end
  end
end
if redis.call('EXISTS', KEYS[2]) == 0 then
  redis.call('SREM', KEYS[4], ARGV[1])
end
publish(KEYS[1], KEYS[5], ARGV[2], ARGV[3], {}, left)
return #left
