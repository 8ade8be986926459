-- BIND: which epoch of the journal it is, and how far its streams are.
--
-- KEYS[1] journal    Hash: epoch, run, and for each stream cut: and gone: (see trim.lua)
-- KEYS[2] journals   Set of all streams
-- KEYS[3] nodes      Hash of the nodes: see publish.lua and probe.lua
-- KEYS[4…]           the streams of the caller's namespaces
-- ARGV[1] run        Redis's run_id, '' if it does not tell
-- ARGV[2] fresh      the epoch that begins if another run of Redis began the present one, or if there is none
--
-- A Redis that was restarted, or has taken over, may have lost the tail of the
-- streams and give ids a second time; one that was emptied has lost everything.
-- A new epoch begins with nothing: no streams, and no numbers of batches, for
-- those may have gone back in time, too.
--
-- Returns {epoch, tail…}: the last id each stream of KEYS[4…] has given, 0-0 if none.
local epoch = redis.call('HGET', KEYS[1], 'epoch')
if not epoch or redis.call('HGET', KEYS[1], 'run') ~= ARGV[1] then
  for _, stream in ipairs(redis.call('SMEMBERS', KEYS[2])) do redis.call('UNLINK', stream) end
  for i = 4, #KEYS do redis.call('UNLINK', KEYS[i]) end
  redis.call('DEL', KEYS[1], KEYS[2], KEYS[3])
  epoch = ARGV[2]
  redis.call('HSET', KEYS[1], 'epoch', epoch, 'run', ARGV[1])
  redis.call('EXPIRE', KEYS[1], 86400)
end
local reply = {epoch}
for i = 4, #KEYS do
  redis.call('SADD', KEYS[2], KEYS[i])
  reply[i - 2] = tail(KEYS[i])
end
return reply
