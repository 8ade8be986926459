-- MOVE: the conn of an open session goes to another node, and the session with it.
--
-- KEYS[1] session   KEYS[2] KEY-journal   KEYS[3] KEY-nodes   KEYS[4] the namespace's stream
-- ARGV[1] the new owner   ARGV[2] nonce of this move   ARGV[3] incarnation that has the
-- session   ARGV[4] generation it has there   ARGV[5] nsp   ARGV[6] sid
-- ARGV[7] and ARGV[8] control channels of the one and of the other node
-- ARGV[9] lag, as in CLOSE   ARGV[10] time to live   all milliseconds
--
-- Returns 'GONE', and changes nothing, if the session is not that node's any more,
-- or messages for it were lost; 'AGAIN' if this move was carried out before. Else
-- both channels are told of the cut, and {'OK', epoch, id} is returned: where the
-- stream was. The session counts as caught up from now on: what the client has
-- received is proved by the conn that it had, until the one it has proves more.
local list, s = redis.call('HGETALL', KEYS[1]), {}
for i = 1, #list, 2 do s[list[i]] = list[i + 1] end
local nonce = string.match(s.n or '', '^(%S+)')
if nonce == ARGV[2] and s.o then
  redis.call('HSET', KEYS[1], 'o', ARGV[1])
  return 'AGAIN'
end
if not s.o or s.x == ARGV[2] or s.c or s.g ~= ARGV[4] or s.nsp ~= ARGV[5] or s.sid ~= ARGV[6]
  or string.sub(s.o, 1, #ARGV[3] + 1) ~= ARGV[3] .. '.' then return 'GONE' end
local sign = redis.call('HGET', KEYS[3], '@' .. s.o)
if not sign or redis.call('HGET', KEYS[2], 'epoch') ~= s.e then return 'GONE' end
local time, limit = string.match(sign, '^(%d+) ?(%d*)$')
local alive, lag = tonumber(limit) or tonumber(time), tonumber(ARGV[9])

local behind = s.b
if not behind or caughtUp(s.u, alive, lag) then
  behind = s.start
  if alive - lag > parts(behind) then behind = integer(alive - lag) .. '-0' end
end
local generation, id = integer(tonumber(s.g) + 1), tail(KEYS[4])
redis.call('HSET', KEYS[1], 'o', ARGV[1], 'g', generation, 'n', ARGV[2] .. ' ' .. s.start .. ' ', 'x', nonce or '',
  'b', behind, 'u', integer(now()))
redis.call('PEXPIRE', KEYS[1], ARGV[10])
local cut = 'cut ' .. generation .. ' ' .. ARGV[6] .. ' ' .. s.e .. ' ' .. id .. ' ' .. ARGV[5]
redis.call('PUBLISH', ARGV[7], cut)
redis.call('PUBLISH', ARGV[8], cut)
return {'OK', s.e, id}
