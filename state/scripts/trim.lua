-- TRIM: forget what is older than the journal's retention, and nodes that are gone.
--
-- KEYS[1] journal   KEYS[2] journals   KEYS[3] nodes
-- ARGV[1] retention in milliseconds   ARGV[2] entries a stream may have at most
-- ARGV[3] entries to remove at most per stream and call   ARGV[4] 1: look for nodes that are gone, too
--
-- In the journal's hash, for each stream something was removed of:
--   gone:<stream>  id: every entry behind it is still there
--   cut:<stream>   ms: every entry whose ms is not below it is still there
-- Both only ever grow. They are exact where age removes (the newest entry that is
-- too old is known before it goes), so that a node which has that one knows that
-- it misses nothing; where length removes they are on the safe side. What they
-- count as gone may still be there for a while: Redis removes whole blocks.
--
-- If Redis is too full to write that down, the epoch ends: better than a journal
-- that cannot be trimmed.
--
-- All keys go by themselves when no node was there for a day: the hash first,
-- which ends the epoch.
--
-- Returns how many entries were removed.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function integer(n) return string.format('%.0f', n) end
local minid = integer(math.max(0, now - tonumber(ARGV[1])))
local most, limit, removed = tonumber(ARGV[2]), ARGV[3], 0

local function note(stream, gone, cut)
  local told = redis.pcall('HSET', KEYS[1], 'gone:' .. stream, gone, 'cut:' .. stream, cut)
  if type(told) == 'table' and told.err then redis.call('HDEL', KEYS[1], 'epoch') end
end

-- mark notes gone and cut, unless more is known to be gone.
local function mark(stream, gone, cut)
  local before = redis.call('HMGET', KEYS[1], 'cut:' .. stream, 'gone:' .. stream)
  local was, now = tonumber(before[1] or -1), tonumber(cut)
  if was > now then return end
  if was == now then -- the later one of the same millisecond
    local oldMs, oldSeq = string.match(before[2], '^(%d+)-(%d+)$')
    local ms, seq = string.match(gone, '^(%d+)-(%d+)$')
    if tonumber(oldMs) > tonumber(ms) or oldMs == ms and tonumber(oldSeq) >= tonumber(seq) then return end
  end
  note(stream, gone, cut)
end

for _, stream in ipairs(redis.call('SMEMBERS', KEYS[2])) do
  if redis.call('EXISTS', stream) == 1 then
    local old = redis.call('XREVRANGE', stream, '(' .. minid .. '-0', '-', 'COUNT', '1')[1]
    if old then
      local ms = string.match(old[1], '^(%d+)-')
      mark(stream, old[1], integer(tonumber(ms) + 1))
      removed = removed + redis.call('XTRIM', stream, 'MINID', '~', minid, 'LIMIT', limit)
    end
    if redis.call('XLEN', stream) > most then
      local n = redis.call('XTRIM', stream, 'MAXLEN', '~', ARGV[2], 'LIMIT', limit)
      local first = redis.call('XRANGE', stream, '-', '+', 'COUNT', '1')[1]
      if n > 0 and first then
        local ms, seq = string.match(first[1], '^(%d+)-(%d+)$')
        if seq == '0' then
          mark(stream, integer(tonumber(ms) - 1) .. '-18446744073709551615', ms)
        else
          mark(stream, ms .. '-' .. integer(tonumber(seq) - 1), integer(tonumber(ms) + 1))
        end
      end
      removed = removed + n
    end
    redis.call('EXPIRE', stream, 90000)
  end
end
redis.call('EXPIRE', KEYS[1], 86400)
redis.call('EXPIRE', KEYS[2], 90000)
redis.call('EXPIRE', KEYS[3], 90000)

if ARGV[4] == '1' then
  local all, seen = redis.call('HGETALL', KEYS[3]), {}
  for i = 1, #all, 2 do
    if string.sub(all[i], 1, 1) == '^' then seen[string.sub(all[i], 2)] = tonumber(all[i + 1]) end
  end
  for i = 1, #all, 2 do
    local incarnation = string.match(all[i], '^[@^]?([^.]*)')
    if not seen[incarnation] then
      seen[incarnation] = now
      redis.pcall('HSET', KEYS[3], '^' .. incarnation, integer(now)) -- from here on
    elseif now - seen[incarnation] > 3600000 then
      redis.call('HDEL', KEYS[3], all[i])
    end
  end
end
return removed
