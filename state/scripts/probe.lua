-- PROBE: the node lives; and a message to itself that says how far the streams
-- are. Whoever receives it has received everything before it, because Pub/Sub
-- keeps the order on one connection.
--
-- KEYS[1] journal   KEYS[2] nodes   KEYS[3…] streams
-- ARGV[1] incarnation   ARGV[2] control channel of the node   ARGV[3] number of the probe
--
-- Publishes "probe <number> <epoch> <id>,<id>,…": the tails of the streams in the
-- order of KEYS, "-" for no epoch. Field ^<incarnation> of nodes is when the node
-- was last seen, milliseconds. Returns {epoch ('' if none), milliseconds of Redis's clock}.
local time = redis.call('TIME')
local at = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
redis.pcall('HSET', KEYS[2], '^' .. ARGV[1], at) -- a Redis that is full shall still be probed
local epoch = redis.call('HGET', KEYS[1], 'epoch') or ''
local tails = {}
for i = 3, #KEYS do tails[i - 2] = tail(KEYS[i]) end
redis.call('PUBLISH', ARGV[2], 'probe ' .. ARGV[3] .. ' ' .. (epoch == '' and '-' or epoch) .. ' ' .. table.concat(tails, ','))
return {epoch, at}
