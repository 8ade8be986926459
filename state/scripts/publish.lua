-- PUBLISH: batch n of a node, all of it once and in order, however often it is sent.
--
-- KEYS[1] journal   Hash: epoch, …
-- KEYS[2] nodes     Hash: <incarnation> → number of the last batch, and behind it the messages that failed
-- KEYS[3] journals  Set of all streams
-- KEYS[4…]          streams
-- ARGV[1] incarnation   ARGV[2] n
-- ARGV[3] epoch         in which the batch is to be appended, '' if nothing of it is journalled
-- ARGV[4…]  for each message: stream (1 is KEYS[4]; 0: not journalled), channel, payload, once, digest
--
-- A journalled payload ends with nil, which its position <epoch>.<id> takes the
-- place of on the channel: EVALSHA runs alone, so that ids and Pub/Sub have one
-- order. once, if it is not '', is a key that marks the message as published; it
-- holds the digest.
--
-- Returns
--   {'EPOCH'}           it is another epoch, nothing was done
--   {'ORDER', number}   number is the last batch and n not the next, nothing was done
--   {'REFUSED', error}  Redis takes no writes, nothing was done
--   {'OK', failed, error}  done, now or by the same batch before; failed are the
--                       indexes of messages that Redis refused, from 0, each with
--                       a space before it, and error says why, if it was now; with c
--                       behind it those whose key was there with another digest
local incarnation, n, epoch = ARGV[1], ARGV[2], ARGV[3]
if epoch ~= '' and redis.call('HGET', KEYS[1], 'epoch') ~= epoch then return {'EPOCH'} end
local stored = redis.call('HGET', KEYS[2], incarnation)
if stored then
  local number, failed = string.match(stored, '^(%d+)(.*)$')
  if number == n then return {'OK', failed, ''} end
  if tonumber(number) ~= tonumber(n) - 1 then return {'ORDER', number} end
end

-- The number first: what a script did before an error stays done.
local told = redis.pcall('HSET', KEYS[2], incarnation, n)
if type(told) == 'table' and told.err then return {'REFUSED', told.err} end
for i = 4, #KEYS do redis.pcall('SADD', KEYS[3], KEYS[i]) end

local function index(at) return string.format(' %d', (at - 4) / 5) end

local failed, why = '', ''
for at = 4, #ARGV, 5 do
  local stream, channel, payload, once, digest = tonumber(ARGV[at]), ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
  local fresh, refused = true, nil
  if once ~= '' then
    fresh = redis.pcall('SET', once, digest, 'NX', 'EX', 300)
    if type(fresh) == 'table' and fresh.err then refused = fresh.err end
    if not fresh and digest ~= '' and redis.call('GET', once) ~= digest then failed = failed .. index(at) .. 'c' end
  end
  if fresh and not refused then
    if stream > 0 then
      local id = redis.pcall('XADD', KEYS[3 + stream], '*', 'm', payload)
      if type(id) == 'table' then
        refused = id.err
        if once ~= '' then redis.pcall('DEL', once) end
      else
        local entry = epoch .. '.' .. id -- at most 31 bytes beyond all clocks: MessagePack's fixstr
        payload = string.sub(payload, 1, -2) .. string.char(0xa0 + #entry) .. entry
      end
    end
    if not refused then redis.call('PUBLISH', channel, payload) end
  end
  if refused then
    failed, why = failed .. index(at), refused
  end
end
if failed ~= '' then redis.call('HSET', KEYS[2], incarnation, n .. failed) end
return {'OK', failed, why}
