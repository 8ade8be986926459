-- CLAIM: a client came back, and its session gets another owner.
--
-- KEYS[1] session   KEYS[2] KEY-journal   KEYS[3] KEY-nodes   KEYS[4] the namespace's stream
-- ARGV[1] the new owner   ARGV[2] nonce of this claim   ARGV[3] nsp   ARGV[4] user
-- ARGV[5] epoch and ARGV[6] id of the last entry the client got, '' if it got none
-- ARGV[7] window   ARGV[8] lag, as in CLOSE   ARGV[9] time to live   all milliseconds
-- ARGV[10] begins the keys that BAR sets
--
-- Returns why not, or {'OK', epoch, after, proved, start, generation, sid, user, data,
-- the owner before or '', then room, id …}: after is the id of the entry up to
-- which the client has everything; everything for it older than proved was
-- received, too. A claim whose answer was lost is answered again.
--
-- The owner's sign, "<time>" or "<time> <limit>" in KEY-nodes, is a time at which
-- the session was open, if it still is, and a time up to which nothing was missed.
local window, lag = tonumber(ARGV[7]), tonumber(ARGV[8])
local list, s = redis.call('HGETALL', KEYS[1]), {}
for i = 1, #list, 2 do s[list[i]] = list[i + 1] end

local function refuse(why)
  redis.call('DEL', KEYS[1])
  return why
end

-- proof returns up to when everything was received, or why that cannot be told.
local function proof()
  local alive, seen = 0, nil
  if s.c then
    if now() - tonumber(s.c) > window then return nil, 'EXPIRED' end
    seen = tonumber(s.s)
  else
    local sign = redis.call('HGET', KEYS[3], '@' .. s.o)
    if not sign then return nil, 'VOID' end
    local time, limit = string.match(sign, '^(%d+) ?(%d*)$')
    if now() - tonumber(time) > window then return nil, 'EXPIRED' end
    alive = tonumber(limit) or tonumber(time)
    seen = alive - lag
  end
  if s.b and not caughtUp(s.u, alive, lag) then seen = parts(s.b) end
  return seen
end

local function answer(proved, generation, from, before)
  local out = {'OK', s.e, from, integer(proved), s.start, generation, s.sid, s.user, s.data or '', before}
  for field, id in pairs(s) do
    if string.sub(field, 1, 1) == '@' then
      out[#out + 1] = string.sub(field, 2)
      out[#out + 1] = id
    end
  end
  return out
end

if not s.o or s.nsp ~= ARGV[3] or s.x == ARGV[2] then return 'UNKNOWN' end
if s.user ~= ARGV[4] then return 'USER' end
if barred(ARGV[10], s.user, s.sid, s.t) then return refuse('BARRED') end
local nonce, from, before = string.match(s.n or '', '^(%S+) (%S+) (%S*)$')
if nonce == ARGV[2] then
  redis.call('HSET', KEYS[1], 'o', ARGV[1])
  return answer(parts(s.b), s.g, from, before)
end
if redis.call('HGET', KEYS[2], 'epoch') ~= s.e then return refuse('EPOCH') end
local seen, why = proof()
if why then return refuse(why) end
from = s.start
if ARGV[6] ~= '' and ARGV[5] == s.e then
  if after(ARGV[6], tail(KEYS[4])) then return 'MALFORMED' end
  if after(ARGV[6], from) then from = ARGV[6] end
end
local at = parts(from)
local proved = math.max(at, seen)
local cut = redis.call('HGET', KEYS[2], 'cut:' .. KEYS[4])
if cut and proved < tonumber(cut) then return refuse('INCOMPLETE') end

local generation = integer(tonumber(s.g) + 1)
before = s.c and '' or s.o
redis.call('HSET', KEYS[1], 'o', ARGV[1], 'g', generation, 'n', ARGV[2] .. ' ' .. from .. ' ' .. before, 'x', nonce or '',
  'b', seen > at and integer(seen) .. '-0' or from)
redis.call('HDEL', KEYS[1], 'c', 's', 'u')
redis.call('PEXPIRE', KEYS[1], ARGV[9])
return answer(proved, generation, from, before)
