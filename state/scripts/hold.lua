-- HOLD: incarnation I holds members in the presence set S.
--
-- KEYS[1] S            Set, public: the union of what all incarnations hold
-- KEYS[2] {S}:i:<I>    Hash member → 1: what I holds
-- KEYS[3] {S}:x        Hash member → holders − 1, for members with several holders; a hint
-- KEYS[4] {S}:n        Set of the incarnations that hold anything in S
-- KEYS[5] {S}:m        Hash e, s: epoch and sequence of S's events
-- ARGV[1] I   ARGV[2] event channel or ''   ARGV[3] epoch to begin if there is none
-- ARGV[4…] members, at least one
--
-- Returns the number of members that were not in S before. Idempotent: a member
-- that I holds already is only put back into S, should S have lost it.
local joined = {}
for i = 4, #ARGV do
  local member = ARGV[i]
  local new = redis.call('HSETNX', KEYS[2], member, '1') == 1
  if redis.call('SADD', KEYS[1], member) == 1 then
    joined[#joined + 1] = member
  elseif new then
    redis.call('HINCRBY', KEYS[3], member, 1)
  end
end
redis.call('SADD', KEYS[4], ARGV[1])
publish(KEYS[1], KEYS[5], ARGV[2], ARGV[3], joined, {})
return #joined
