-- MOVE: an open conn goes to another node, and its session with it: the cut.
--
-- KEYS[1] session   KEYS[2] KEY-journal   KEYS[3] KEY-nodes   KEYS[4] the namespace's stream
-- ARGV[1] the new owner   ARGV[2] nonce of this move   ARGV[3] nsp   ARGV[4] sid
-- ARGV[5] incarnation of the owner before   ARGV[6] generation it has there
-- ARGV[7] lag, as in CLOSE   ARGV[8] time to live   both milliseconds
-- ARGV[9] and ARGV[10] control channels of the node that gives it away and of the new owner's
--
-- Returns {generation, epoch, id}: the session's generation now, and the id of the
-- stream's last entry. Or why not, having changed nothing:
--   'GONE'   it is not there, closed, or not that node's under that generation
--   'EPOCH'  the journal has another epoch than the session
--   'VOID'   its owner missed messages and has no sign any more
--   'AGAIN'  it was carried out before, and the answer was lost: where the cut is, is not known
--
-- Publishes to both nodes, as one: "cut <generation> <sid> <epoch> <id> <nsp>". What
-- was published before is for the one, what comes after for the other.
--
-- What the new owner sends on another connection proves nothing yet, so that b is
-- what was proved at the node before, as in CLAIM; and that all was sent counts from
-- now. A client that was catching up still is: the new owner says when it has.
local at = redis.call('HMGET', KEYS[1], 'o', 'g', 'c', 'e', 'sid', 'nsp', 'start', 'b', 'u', 'n')
local owner, b, u = at[1], at[8], at[9]
if not owner then return 'GONE' end
local nonce = string.match(at[10] or '', '^(%S+) ')
if nonce == ARGV[2] then return 'AGAIN' end
if at[3] or at[2] ~= ARGV[6] or at[5] ~= ARGV[4] or at[6] ~= ARGV[3] then return 'GONE' end
if string.match(owner, '^[^.]*') ~= ARGV[5] then return 'GONE' end
if redis.call('HGET', KEYS[2], 'epoch') ~= at[4] then return 'EPOCH' end
local sign = redis.call('HGET', KEYS[3], '@' .. owner)
if not sign then return 'VOID' end

local time, limit = string.match(sign, '^(%d+) ?(%d*)$')
local alive, lag = tonumber(limit) or tonumber(time), tonumber(ARGV[7])
local catching = b and not u
if not b or caughtUp(u, alive, lag) then
  local proved = at[7]
  if alive - lag > parts(proved) then proved = integer(alive - lag) .. '-0' end
  if not b or after(proved, b) then b = proved end
end

local generation, id = integer(tonumber(at[2]) + 1), tail(KEYS[4])
redis.call('HSET', KEYS[1], 'o', ARGV[1], 'g', generation, 'n', ARGV[2] .. ' ' .. b .. ' ' .. owner, 'x', nonce or '', 'b', b)
if not catching then redis.call('HSET', KEYS[1], 'u', integer(now())) end
redis.call('PEXPIRE', KEYS[1], ARGV[8])
local cut = 'cut ' .. generation .. ' ' .. ARGV[4] .. ' ' .. at[4] .. ' ' .. id .. ' ' .. ARGV[3]
redis.call('PUBLISH', ARGV[9], cut)
if ARGV[10] ~= ARGV[9] then redis.call('PUBLISH', ARGV[10], cut) end
return {generation, at[4], id}
