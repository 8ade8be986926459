-- Prepended to hold.lua and release.lua.
--
-- publish(set, meta, channel, epoch, joined, left) tells the room's listeners
-- which users really came or went: PUBLISH channel
--   {"epoch":"…","seq":7,"joined":["u1"],"left":[],"count":3}
-- once per script call with transitions. seq counts them within an epoch; both
-- live in the hash meta (fields e and s), which is given a day once the room is
-- empty. channel '' (presence:online has no listeners) publishes nothing.
-- Arrays are put together by hand because cjson writes an empty table as {}.
local function quote(ids)
  local out = {}
  for i, id in ipairs(ids) do out[i] = cjson.encode(id) end
  return '[' .. table.concat(out, ',') .. ']'
end

local function publish(set, meta, channel, epoch, joined, left)
  if channel == '' or (#joined == 0 and #left == 0) then return end
  redis.call('HSETNX', meta, 'e', epoch)
  local seq = redis.call('HINCRBY', meta, 's', 1)
  local count = redis.call('SCARD', set)
  if count == 0 then
    redis.call('EXPIRE', meta, 86400)
  else
    redis.call('PERSIST', meta)
  end
  redis.call('PUBLISH', channel, '{"epoch":' .. cjson.encode(redis.call('HGET', meta, 'e'))
    .. ',"seq":' .. string.format('%.0f', seq) .. ',"joined":' .. quote(joined)
    .. ',"left":' .. quote(left) .. ',"count":' .. string.format('%.0f', count) .. '}')
end
