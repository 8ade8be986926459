-- Before the scripts of sessions: what several of them need.
--
-- A session is a hash, KEY-session#<pid>:
--   o          its owner, "<incarnation>.<stint>"     g   its generation, counts the owners from 1
--   e          epoch of the journal                   sid, nsp, user, data
--   t          when it was created
--   start      id of the entry after which messages are for it
--   @<room>    id of the entry after which messages of the room are for it
--   c          when its conn ended; absent while it is open
--   s          with c: everything for it that is older was received
--   b          everything up to this entry was received; nothing younger is proved. Present while its
--              client catches up, or has moved, and until it is proved that it has caught up
--   u          when everything that was missed had been sent, or it moved; only with b
--   n          "<nonce> <after> <owner before>": the last claim or move, and what it was answered
--   x          nonce of the one before that
-- Times are milliseconds of Redis's clock.

-- parts are the two numbers of an entry's id.
local function parts(id)
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(seq)
end

-- after reports whether id a is behind b.
local function after(a, b)
  local ms, seq = parts(a)
  local msB, seqB = parts(b)
  return ms > msB or ms == msB and seq > seqB
end

-- caughtUp reports whether what was sent until u has been received by a client
-- that was still there at alive.
local function caughtUp(u, alive, lag) return u and alive - tonumber(u) >= lag end

-- barred reports whether the user or the socket of a session was sent away since it
-- was created; prefix begins the keys that BAR sets.
local function barred(prefix, user, sid, created)
  if user == '' then user = sid end
  local bars = redis.call('MGET', prefix .. 'user#' .. user, prefix .. 'socket#' .. sid)
  created = tonumber(created or 0)
  return bars[1] and created <= tonumber(bars[1]) or bars[2] and created <= tonumber(bars[2])
end
