-- ASSERT: incarnation I holds members in the presence set S, which may have lost
-- them: the outcome of a HOLD is unknown, Redis went back in time, or somebody
-- else removed them. KEYS, ARGV, refusal and result as in hold.lua.
--
-- As HOLD, but what I holds already is put back into S, too, should S lack it:
-- those are the members put back. They count as joined, for nobody who reads S
-- or its events can tell them from others.
if now() >= tonumber(ARGV[2]) then return -1 end
local joined, back = {}, 0
for i = 6, #ARGV do
  local new = redis.call('HSETNX', KEYS[2], ARGV[i], '1')
  if redis.call('SADD', KEYS[1], ARGV[i]) == 1 then
    joined[#joined + 1] = ARGV[i]
    back = back + 1 - new
  end
end
redis.call('SADD', KEYS[3], ARGV[1])
local epoch, seq = publish(KEYS[1], KEYS[4], ARGV[3], ARGV[4], ARGV[5], joined, {})
return {#joined, back, epoch, seq}
