-- BAR: sessions that there are now are not given back to their clients any more.
--
-- KEYS  for each user or socket, a key that CLAIM looks at
-- ARGV[1] time to live, milliseconds: as long as a session that is closed now can be claimed
--
-- Returns 'OK'. Each key holds the time: sessions created up to then are refused.
-- Those that are open are not touched; whoever calls this has their nodes end them.
local time = integer(now())
for _, key in ipairs(KEYS) do redis.call('SET', key, time, 'PX', ARGV[1]) end
return 'OK'
