-- Changes the state of a pool, if the caller knows its newest version; else returns what is newer.
-- Adds to the sums of ledgers in any case.
--
-- A replica that was too late has the next turn: until it has committed, for 250 ms at most, the
-- others are refused. Otherwise a slow one would be too late every time.
--
-- KEYS 1 head (epoch, version, since, turn, turn_until)  2 fields of the state  3 the version that changed each field
--      4 members (process -> when its leases expire)  5... ledgers
-- ARGV 1 process  2 life of its leases in ms; 0: it leaves  3 known epoch, empty: none
--      4 known version, -1: read only  5 epoch of a new state
--      6 known number of members: they are returned if it has changed
--      7 a batch for each ledger  8... field, value, field, value ...
-- Returns status, epoch, version, since and now in microseconds, newer fields, members, sums.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local process, life = ARGV[1], tonumber(ARGV[2])
local known_epoch, known_version = ARGV[3], tonumber(ARGV[4])
local head = redis.call('HMGET', KEYS[1], 'epoch', 'version', 'since', 'turn', 'turn_until')
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

-- A ledger has a field with its head {epoch, process -> {number of its last batch, when}}, a field
-- for each row of sums {day, restored, added, month, restored, added}, and one for what is reserved
-- {process -> {amount, until}}. Sums that Redis has lost are restored to the highest one known.
-- A batch is {number, known epoch, new epoch, rows}, and a row
-- {name, day, month, added to day, added to month, reserved, known of day, known of month}.
local function unpacked(text)
  return text and cmsgpack.unpack(text) or {}
end

local function add_to_ledger(key, batch)
  local head = unpacked(redis.call('HGET', key, 'head'))
  local epoch, processes = head[1] or batch[3], head[2] or {}
  -- A command may arrive after a later one, if a connection was replaced in between.
  local last = processes[process] and processes[process][1] or 0
  local is_new, is_late = last < batch[1], last > batch[1]
  processes[process] = {math.max(last, batch[1]), now}
  local replicas, rank = 0, 0
  for other, seen in pairs(processes) do
    if now - seen[2] > 600e6 then
      processes[other] = nil
    elseif now - seen[2] <= life * 1000 then
      replicas = replicas + 1
      if other < process then rank = rank + 1 end
    end
  end
  if life == 0 then processes[process] = nil end
  redis.call('HSET', key, 'head', cmsgpack.pack({epoch, processes}))
  local sums = {}
  for index, row in ipairs(batch[4]) do
    local sum_field, reserved_field = 's' .. row[1], 'r' .. row[1]
    local stored = redis.call('HMGET', key, sum_field, reserved_field)
    local sum, holders = unpacked(stored[1]), unpacked(stored[2])
    local result = {}
    for part = 0, 1 do -- the day and the month
      local at, period, known = part * 3, row[2 + part], row[7 + part]
      if (sum[at + 1] or 0) <= period then
        if sum[at + 1] ~= period then
          sum[at + 1], sum[at + 2], sum[at + 3] = period, 0, 0
        end
        if epoch ~= batch[2] then sum[at + 2] = math.max(sum[at + 2], known) end
        if is_new then sum[at + 3] = sum[at + 3] + row[4 + part] end
      end
      result[1 + part] = sum[at + 1]
      result[3 + part] = math.min(sum[at + 2] + sum[at + 3], 2 ^ 53)
    end
    redis.call('HSET', key, sum_field, cmsgpack.pack(sum))
    local others = 0
    for holder, one in pairs(holders) do
      if one[2] < now or (holder == process and not is_late) then
        holders[holder] = nil
      else
        others = others + one[1]
      end
    end
    if row[6] > 0 and life > 0 and not is_late then holders[process] = {row[6], now + life * 1000} end
    if next(holders) then
      redis.call('HSET', key, reserved_field, cmsgpack.pack(holders))
    elseif stored[2] then
      redis.call('HDEL', key, reserved_field)
    end
    result[5] = others
    sums[index] = result
  end
  return {epoch, replicas, rank, sums}
end

local sums = {}
if ARGV[7] ~= '' then
  for index, batch in ipairs(cmsgpack.unpack(ARGV[7])) do
    sums[index] = add_to_ledger(KEYS[4 + index], batch)
  end
end

if known_version < 0 then
  return {'READ', epoch or '', version, since, now, newer(-1), members, sums}
end
if not epoch and known_epoch == '' and ARGV[5] ~= '' then
  epoch, version, since = ARGV[5], 0, now
  redis.call('DEL', KEYS[2], KEYS[3])
  redis.call('HSET', KEYS[1], 'epoch', epoch, 'since', since)
elseif (epoch or '') ~= known_epoch then
  return {'LOST', epoch or '', version, since, now, {}, members, sums}
elseif has_expired and life > 0 and ARGV[5] == '' then
  return {'EXPIRED', epoch, version, since, now, {}, members, sums}
end
local turn = head[4] and now < tonumber(head[5]) and head[4]
if turn and turn ~= process then
  return {'BUSY', epoch, version, since, now, newer(known_version), members, sums}
elseif version ~= known_version then
  redis.call('HSET', KEYS[1], 'turn', process, 'turn_until', now + 250000)
  return {'NEWER', epoch, version, since, now, newer(known_version), members, sums}
elseif turn then
  redis.call('HDEL', KEYS[1], 'turn')
end
if #ARGV > 7 then
  version = version + 1
  redis.call('HSET', KEYS[1], 'version', version)
  redis.call('HSET', KEYS[2], unpack(ARGV, 8))
  for i = 8, #ARGV, 2 do
    redis.call('ZADD', KEYS[3], version, ARGV[i])
  end
end
return {'OK', epoch, version, since, now, {}, members, sums}
