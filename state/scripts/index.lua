-- INDEX: incarnation I writes down rooms before it holds anybody in them, for
-- whoever has to reap it.
--
-- KEYS[1] {edge:<I>}:rooms   Set of rooms
-- ARGV[1] until: the end of I's lease, milliseconds of Redis's clock
-- ARGV[2] seconds after which the set goes unless it is renewed   ARGV[3…] rooms
--
-- Refuses with -1, and changes nothing, once the lease is over: the set may have
-- been read and deleted. Else returns how many are new. Idempotent.
if now() >= tonumber(ARGV[1]) then return -1 end
local added = redis.call('SADD', KEYS[1], unpack(ARGV, 3))
redis.call('EXPIRE', KEYS[1], ARGV[2])
return added
