-- SAVE: one change of an open session.
--
-- KEYS[1] session   KEYS[2] the namespace's stream, for 'join' alone
-- ARGV[1] owner   ARGV[2] generation   ARGV[3] time to live, milliseconds, from now on
-- ARGV[4] what:
--   'join'      ARGV[5] room   ARGV[6] id of the entry it was joined after, '' for the stream's
--               last one   ARGV[7] the epoch of that id
--   'leave'     ARGV[5] room
--   'data'      ARGV[5] data, '' for none
--   'caught up'
--   'keep'      for the time to live
--   'delete'
--
-- Returns 'GONE', and changes nothing, if the session is not there or has another
-- owner or generation. Else 'OK', for 'join' {epoch, id}: a room that was joined
-- before keeps the id it has.
local at = redis.call('HMGET', KEYS[1], 'o', 'g', 'e')
if at[1] ~= ARGV[1] or at[2] ~= ARGV[2] then return 'GONE' end
local what = ARGV[4]
if what == 'delete' then
  redis.call('DEL', KEYS[1])
  return 'OK'
end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
if what == 'join' then
  local field, since = '@' .. ARGV[5], ARGV[6]
  if since == '' or ARGV[7] ~= at[3] then since = tail(KEYS[2]) end
  redis.call('HSETNX', KEYS[1], field, since)
  return {at[3], redis.call('HGET', KEYS[1], field)}
elseif what == 'leave' then
  redis.call('HDEL', KEYS[1], '@' .. ARGV[5])
elseif what == 'data' and ARGV[5] == '' then
  redis.call('HDEL', KEYS[1], 'data')
elseif what == 'data' then
  redis.call('HSET', KEYS[1], 'data', ARGV[5])
elseif what == 'caught up' and redis.call('HEXISTS', KEYS[1], 'b') == 1 then
  redis.call('HSETNX', KEYS[1], 'u', integer(now()))
end
return 'OK'
