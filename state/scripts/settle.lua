-- Prepended to detach.lua and reap_user.lua.

-- apart splits an owner into incarnation and generation.
local function apart(owner)
  local incarnation, generation = string.match(owner, '^(.*)%.(%d+)$')
  return incarnation, tonumber(generation)
end

-- settle(key, others, owners) puts a user's active socket right after sockets
-- were removed from owners and others: the most recently superseded one takes
-- the place of one that is gone, or any other that has an owner. With the last
-- of those goes the key, whatever a foreign writer made of it.
local function settle(key, others, owners)
  local active = redis.call('GET', key)
  if active and redis.call('HEXISTS', owners, active) == 1 then return end
  local following = redis.call('ZREVRANGE', others, 0, 0)[1] or redis.call('HKEYS', owners)[1]
  if following then
    redis.call('ZREM', others, following)
    redis.call('SET', key, following)
  else
    redis.call('DEL', key)
  end
end
