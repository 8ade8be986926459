-- SNAPSHOT: a room's users as of one event. Read-only.
--
-- KEYS[1] S, as in hold.lua   ARGV[1] list the users up to this many
-- ARGV[2] run, see prelude.lua
--
-- Returns {epoch, seq, count, user…}: the set as it was after event seq of the
-- epoch and before the next. No users if there are more than ARGV[1]. Where the
-- last event was in another run of Redis the epoch is one of its own, which the
-- next event ends.
local at = redis.call('HMGET', '{' .. KEYS[1] .. '}:m', 'e', 's', 'r')
if at[1] and at[3] ~= ARGV[2] then at[1] = at[1] .. '~' .. string.sub(ARGV[2], 1, 8) end
local count = redis.call('SCARD', KEYS[1])
local users = {}
if count <= tonumber(ARGV[1]) then users = redis.call('SMEMBERS', KEYS[1]) end
local result = {at[1] or '', tonumber(at[2] or 0), count}
for i, user in ipairs(users) do result[i + 3] = user end
return result
