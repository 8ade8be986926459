-- CREATE: a session that its client was not told of yet.
--
-- KEYS[1] session   KEYS[2] KEY-journal   KEYS[3] the namespace's stream
-- ARGV[1] owner   ARGV[2] epoch   ARGV[3] time to live, milliseconds
-- ARGV[4] sid   ARGV[5] nsp   ARGV[6] user   ARGV[7] data or ''   then its rooms
--
-- Refuses with 'EPOCH' and does nothing if the epoch is another one. Else returns
-- the id of the stream's last entry: the session starts there. What a lost answer
-- left is written over.
if redis.call('HGET', KEYS[2], 'epoch') ~= ARGV[2] then return 'EPOCH' end
local start = tail(KEYS[3])
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'o', ARGV[1], 'g', '1', 'e', ARGV[2], 'sid', ARGV[4], 'nsp', ARGV[5], 'user', ARGV[6], 'start', start, 't', integer(now()))
if ARGV[7] ~= '' then redis.call('HSET', KEYS[1], 'data', ARGV[7]) end
for i = 8, #ARGV do redis.call('HSET', KEYS[1], '@' .. ARGV[i], start) end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return start
