-- HOLD: incarnation I begins to hold members in the presence set S.
--
-- KEYS[1] S            Set, public: the union of what all incarnations hold
-- KEYS[2] {S}:i:<I>    Hash member → 1: what I holds
-- KEYS[3] {S}:n        Set of the incarnations that hold anything in S
-- KEYS[4] {S}:m        Hash e, s, r: epoch and sequence of S's events, see prelude.lua
-- ARGV[1] I   ARGV[2] until: the end of I's lease, milliseconds of Redis's clock
-- ARGV[3] event channel or ''   ARGV[4] epoch to begin if need be   ARGV[5] run
-- ARGV[6…] members, at least one
--
-- Refuses with -1, and changes nothing, once the lease is over: whoever reaps I
-- may rely on it. Else returns {members that were not in S before, members put
-- back, epoch, seq}; none are put back. Idempotent: what I holds already is left
-- alone (see assert.lua).
if now() >= tonumber(ARGV[2]) then return -1 end
local joined = {}
for i = 6, #ARGV do
  if redis.call('HSETNX', KEYS[2], ARGV[i], '1') == 1 and redis.call('SADD', KEYS[1], ARGV[i]) == 1 then
    joined[#joined + 1] = ARGV[i]
  end
end
redis.call('SADD', KEYS[3], ARGV[1])
local epoch, seq = publish(KEYS[1], KEYS[4], ARGV[3], ARGV[4], ARGV[5], joined, {})
return {#joined, 0, epoch, seq}
