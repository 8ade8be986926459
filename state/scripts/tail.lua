-- tail is the last id that a stream has given, also when the entry is gone: 0-0
-- before the first. XINFO STREAM answers a list of names and values.
local function tail(stream)
  if redis.call('EXISTS', stream) == 0 then return '0-0' end
  local info = redis.call('XINFO', 'STREAM', stream)
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' and info[i + 1] ~= '' then return info[i + 1] end
  end
  return '0-0'
end

