-- Prepended to the other scripts: what several of them need. A script uses part
-- of it; Redis compiles a script once.

-- now is Redis's clock in milliseconds: the only clock that leases know.
local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- integer writes a whole number without an exponent.
local function integer(n) return string.format('%.0f', n) end

-- holder is the hash of what an incarnation holds in a set; it is in the set's slot.
local function holder(set, incarnation) return '{' .. set .. '}:i:' .. incarnation end

-- publish(set, meta, channel, epoch, run, joined, left, grace) tells the room's
-- listeners which users really came or went, once per script call with
-- transitions:
--   PUBLISH channel {"epoch":"…","seq":7,"joined":["u1"],"left":[],"count":3}
-- and with grace also "grace":true: those who left may be back in a moment, so
-- that clients need not be told yet. The keys never wait.
-- seq counts the calls with transitions within an epoch; both live in the hash
-- meta (fields e and s), which is given a day once the room is empty. Whoever
-- reads the set together with them (snapshot.lua) has all changes up to seq and
-- none after. A Redis that was restarted or has taken over (field r: another run,
-- its run_id) may have gone back in time and would give numbers a second time,
-- so that another epoch begins. channel '' (presence:online has no listeners)
-- publishes nothing. Arrays are put together by hand because cjson writes an
-- empty table as {}.
--
-- Returns epoch and seq as they are now, as snapshot.lua does: '' and 0 without a
-- channel, or before the first transition.
-- present is the epoch of e, s, r as read in a run: where the last event was in
-- another run it is one of its own, which the next event ends.
local function present(at, run)
  if at[1] and at[3] ~= run then return at[1] .. '~' .. string.sub(run, 1, 8) end
  return at[1] or ''
end

local function quote(ids)
  local out = {}
  for i, id in ipairs(ids) do out[i] = cjson.encode(id) end
  return '[' .. table.concat(out, ',') .. ']'
end

local function publish(set, meta, channel, epoch, run, joined, left, grace)
  if channel == '' then return '', 0 end
  local at = redis.call('HMGET', meta, 'e', 's', 'r')
  if #joined == 0 and #left == 0 then return present(at, run), tonumber(at[2] or 0) end
  if at[1] and at[3] == run then
    epoch = at[1]
  else
    redis.call('HSET', meta, 'e', epoch, 'r', run)
  end
  local seq = redis.call('HINCRBY', meta, 's', 1)
  local count = redis.call('SCARD', set)
  if count == 0 then
    redis.call('EXPIRE', meta, 86400)
  else
    redis.call('PERSIST', meta)
  end
  redis.call('PUBLISH', channel, '{"epoch":' .. cjson.encode(epoch)
    .. ',"seq":' .. integer(seq) .. ',"joined":' .. quote(joined)
    .. ',"left":' .. quote(left) .. ',"count":' .. integer(count)
    .. (grace and ',"grace":true' or '') .. '}')
  return epoch, seq
end
