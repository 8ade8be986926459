-- SNAPSHOT: a room's users as of one event. Read-only.
--
-- KEYS[1] S, as in hold.lua   ARGV[1] list the users up to this many
-- ARGV[2] run, see prelude.lua
--
-- Returns {epoch, seq, count, user…}: the set as it was after event seq of the
-- epoch and before the next. No users if there are more than ARGV[1].
local at = redis.call('HMGET', '{' .. KEYS[1] .. '}:m', 'e', 's', 'r')
local count = redis.call('SCARD', KEYS[1])
local users = {}
if count <= tonumber(ARGV[1]) then users = redis.call('SMEMBERS', KEYS[1]) end
local result = {present(at, ARGV[2]), tonumber(at[2] or 0), count}
for i, user in ipairs(users) do result[i + 3] = user end
return result
