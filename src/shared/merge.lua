-- Joins cells into one record: the only way in which this client changes a record in Redis.
--
-- KEYS[1]  the record, a hash of cells `<stamp><value>`; no other key is touched
-- ARGV[1]  `all`: apply every cell, but only if each is above what is stored and above the tombstone
--          `each`: apply those that are above, drop the rest
-- ARGV[2]  how long a tombstone is kept, in milliseconds; a record that can expire is kept at least as long
-- ARGV[3]  first_revealed_at, 12 hexadecimal digits, or empty
-- ARGV[4]  last_updated_at, likewise
-- ARGV[5]..  field, cell, field, cell, ...
--
-- Answers {1, field, cell, ...} with what the sender does not know: the deadline that was set, the tombstone of a record
-- that has expired; and if anything won over a cell sent, the whole record: of an upsert that won in one cell, the sender
-- must not keep half. In mode `all` {0, stamp} with the largest stamp in the way, and nothing changed.
--
-- The cell `e` says until when the record lives: `1` for ever, `2` and the deadline by this server's clock in 12
-- hexadecimal digits. It comes like that, or as `+` and the time to live left, in milliseconds. A record past its
-- deadline is removed, by a tombstone at the stamp of that cell, which is the largest of the record.
--
-- Stamps are fixed-width lowercase hexadecimal, so they compare as text. Values are opaque bytes.
local STAMP = 32
local key, mode = KEYS[1], ARGV[1]

local stored = {}
local flat = redis.call('HGETALL', key)
for i = 1, #flat, 2 do
  stored[flat[i]] = flat[i + 1]
end

local function stamp_of(cell)
  return string.sub(cell, 1, STAMP)
end

local function is_cell(field)
  return field ~= 'd' and field ~= 'f' and field ~= 'l'
end

-- By bytes: `<` on values would follow the server's collation, and the tiers would disagree.
local function is_above(a, b)
  for i = 1, math.min(#a, #b) do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then
      return x > y
    end
  end
  return #a > #b
end

local clock
local function now_ms()
  if not clock then
    local time = redis.call('TIME')
    clock = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
  end
  return clock
end

-- Milliseconds of this server's clock; nil if the record lives for ever.
local function deadline_ms(existence)
  if string.sub(existence, STAMP + 1, STAMP + 1) == '2' then
    return tonumber(string.sub(existence, STAMP + 2), 16)
  end
end

local tombstone = stored['d'] and stamp_of(stored['d']) or ''
local set, dead = {}, {}

-- Puts a tombstone, and drops all that it covers.
local function bury(cell)
  tombstone = stamp_of(cell)
  set['d'], stored['d'] = cell, cell
  for name, held in pairs(stored) do
    if is_cell(name) and stamp_of(held) <= tombstone then
      dead[#dead + 1] = name
      stored[name], set[name] = nil, nil
    end
  end
end

local function bury_if_expired()
  local existence = stored['e']
  local deadline = existence and deadline_ms(existence)
  if deadline and deadline <= now_ms() then
    bury(stamp_of(existence))
    return true
  end
  return false
end

local buried = bury_if_expired()

if mode == 'all' then
  local in_the_way = ''
  local function check(against, stamp)
    if against >= stamp and against > in_the_way then
      in_the_way = against
    end
  end
  for i = 5, #ARGV, 2 do
    local field, stamp = ARGV[i], stamp_of(ARGV[i + 1])
    check(tombstone, stamp)
    if field == 'd' then
      -- A removal must be above every cell, or it would leave some of the record alive.
      for name, cell in pairs(stored) do
        if is_cell(name) then
          check(stamp_of(cell), stamp)
        end
      end
    elseif stored[field] then
      check(stamp_of(stored[field]), stamp)
    end
  end
  if in_the_way ~= '' then
    return {0, in_the_way}
  end
end

local answer, told, outdone = {1}, {}, false

local function tell(field)
  if not told[field] then
    told[field] = true
    answer[#answer + 1] = field
    answer[#answer + 1] = stored[field]
  end
end

-- unpack is limited by Lua's stack, so a large record goes in pieces; scripts are atomic all the same.
local function in_pieces(command, arguments)
  for i = 1, #arguments, 1000 do
    redis.call(command, key, unpack(arguments, i, math.min(i + 999, #arguments)))
  end
end

-- The tombstone first: it decides which of the other cells are dead on arrival.
for i = 5, #ARGV, 2 do
  if ARGV[i] == 'd' then
    local stamp = stamp_of(ARGV[i + 1])
    if stamp > tombstone then
      bury(ARGV[i + 1])
    elseif stamp < tombstone then
      outdone = true
    end
  end
end

for i = 5, #ARGV, 2 do
  local field, cell = ARGV[i], ARGV[i + 1]
  if field ~= 'd' then
    local stamp, held = stamp_of(cell), stored[field]
    if stamp <= tombstone then
      outdone = true
    elseif field == 'e' and string.sub(cell, STAMP + 1, STAMP + 1) == '+' then
      -- Under one stamp the first deadline stands: it may have been told.
      if held == nil or stamp > stamp_of(held) then
        cell = stamp .. '2' .. string.format('%012x', now_ms() + tonumber(string.sub(cell, STAMP + 2)))
        set[field], stored[field] = cell, cell
      elseif stamp < stamp_of(held) then
        outdone = true
      end
      tell(field)
    elseif held == nil or stamp > stamp_of(held) or (stamp == stamp_of(held) and is_above(cell, held)) then
      set[field] = cell
      stored[field] = cell
    elseif cell ~= held then
      outdone = true
    end
  end
end

buried = bury_if_expired() or buried
if buried then
  tell('d')
end

if ARGV[3] ~= '' and (not stored['f'] or ARGV[3] < stored['f']) then
  set['f'] = ARGV[3]
end
if ARGV[4] ~= '' and (not stored['l'] or ARGV[4] > stored['l']) then
  set['l'] = ARGV[4]
end

in_pieces('HDEL', dead)
local arguments = {}
for field, cell in pairs(set) do
  arguments[#arguments + 1] = field
  arguments[#arguments + 1] = cell
end
in_pieces('HSET', arguments)

local deadline = stored['e'] and deadline_ms(stored['e'])
if deadline then
  -- As long as a tombstone would be: a write older than the deadline must still find it.
  deadline = math.max(deadline, now_ms() + tonumber(ARGV[2]))
  redis.call('PEXPIREAT', key, string.format('%.0f', deadline))
elseif stored['e'] then
  redis.call('PERSIST', key)
else
  redis.call('PEXPIRE', key, ARGV[2])
end
if outdone then
  answer = redis.call('HGETALL', key)
  table.insert(answer, 1, 1)
end
return answer
