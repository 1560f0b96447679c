-- Changes the state of a pool, if the caller knows its newest version; else returns what is newer.
--
-- KEYS 1 head (epoch, version, since)  2 fields of the state  3 the version that changed each field
--      4 members (process -> when its leases expire)
-- ARGV 1 process  2 life of its leases in ms; 0: it leaves  3 known epoch, empty: none
--      4 known version, -1: read only  5 epoch of a new state
--      6 known number of members: they are returned if it has changed
--      7... field, value, field, value ...
-- Returns status, epoch, version, since and now in microseconds, newer fields, members.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local process, life = ARGV[1], tonumber(ARGV[2])
local known_epoch, known_version = ARGV[3], tonumber(ARGV[4])
local head = redis.call('HMGET', KEYS[1], 'epoch', 'version', 'since')
local epoch, version, since = head[1], tonumber(head[2] or 0), tonumber(head[3] or 0)

local expires = redis.call('ZSCORE', KEYS[4], process)
local has_expired = not expires or tonumber(expires) < now
if life == 0 then
  redis.call('ZREM', KEYS[4], process)
else
  redis.call('ZADD', KEYS[4], now + life * 1000, process)
end
redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', now)
local members = {}
if redis.call('ZCARD', KEYS[4]) ~= tonumber(ARGV[6]) then
  members = redis.call('ZRANGE', KEYS[4], 0, -1)
end

local function newer(than)
  local fields = redis.call('ZRANGEBYSCORE', KEYS[3], '(' .. than, '+inf')
  local result = {}
  if #fields > 0 then
    local values = redis.call('HMGET', KEYS[2], unpack(fields))
    for i, field in ipairs(fields) do
      result[#result + 1] = field
      result[#result + 1] = values[i]
    end
  end
  return result
end

if known_version < 0 then
  return {'READ', epoch or '', version, since, now, newer(-1), members}
end
if not epoch and known_epoch == '' and ARGV[5] ~= '' then
  epoch, version, since = ARGV[5], 0, now
  redis.call('DEL', KEYS[2], KEYS[3])
  redis.call('HSET', KEYS[1], 'epoch', epoch, 'since', since)
elseif (epoch or '') ~= known_epoch then
  return {'LOST', epoch or '', version, since, now, {}, members}
elseif has_expired and life > 0 and ARGV[5] == '' then
  return {'EXPIRED', epoch, version, since, now, {}, members}
elseif version ~= known_version then
  return {'NEWER', epoch, version, since, now, newer(known_version), members}
end
if #ARGV > 6 then
  version = version + 1
  redis.call('HSET', KEYS[1], 'version', version)
  redis.call('HSET', KEYS[2], unpack(ARGV, 7))
  for i = 7, #ARGV, 2 do
    redis.call('ZADD', KEYS[3], version, ARGV[i])
  end
end
return {'OK', epoch, version, since, now, {}, members}
