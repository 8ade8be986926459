-- BARRED: which of a node's open sessions are of users or sockets that were sent away
-- since they were created: the node may not have heard of it.
--
-- KEYS  sessions   ARGV[1] begins the keys that BAR sets
--
-- Returns nsp, sid, nsp, sid … of those.
local out = {}
for _, key in ipairs(KEYS) do
  local at = redis.call('HMGET', key, 'user', 'sid', 'nsp', 't')
  if at[2] and barred(ARGV[1], at[1], at[2], at[4] or 0) then
    out[#out + 1] = at[3]
    out[#out + 1] = at[2]
  end
end
return out
