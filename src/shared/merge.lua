-- Joins cells into one record: the only way in which this client changes a record in Redis. Version 2.
--
-- KEYS[1]  the record, a hash of cells `<stamp><value>`; no other key is touched
-- ARGV[1]  `all`: apply every cell, but only if each is above what is stored and above the tombstone
--          `each`: apply those that are above, drop the rest
-- ARGV[2]  how long a tombstone is kept, in milliseconds; a record that can expire is kept at least as long
-- ARGV[3]  first_revealed_at, 12 hexadecimal digits, or empty
-- ARGV[4]  last_updated_at, likewise
-- ARGV[5]  when the life of the cells began, by this server's clock, likewise; empty if there are no cells with a life
-- ARGV[6]  when it ends as this server has said before, likewise, `ffffffffffff` for never; or empty
-- ARGV[7]  when it ends as its writers estimate, likewise; or empty
-- ARGV[8]  how long it may last from now on by that estimate, in milliseconds; or empty
-- ARGV[9]..  field, cell, field, cell, ...; whatever has a life comes with the cell `e`, of which only the stamp is sent
--
-- Answers {1, field, cell, ...} if all is in, with what the sender does not know: the life of the record. {3, field, cell,
-- ...} if something of it is not, because a larger stamp or a later life stands: then the whole record follows; of an
-- upsert that won in one cell, the sender must not keep half. In mode `all` {0, stamp} with the largest stamp in the way, or
-- {2, now} if the life of the cells is over already by this server's clock; and nothing changed.
--
-- A life is an interval: `e` holds `<stamp>3<begin><end>` (before version 2: `1` for ever, `2<end>`). Lives that overlap are
-- joined by union, whatever their stamps. One that is over is deleted with its cells and leaves no tombstone: the intervals
-- of what comes later say enough.
--
-- Only the fields that are sent are read, so that a merge costs what it brings; the whole record is read where it is removed or
-- has expired, and where the answer needs it.
--
-- Stamps and times are fixed-width lowercase hexadecimal, so they compare as text. Values are opaque bytes.
local STAMP, NO_END, EVER = 32, 'ffffffffffff', '000000000000'
local FIRST = 9
-- unpack is limited by Lua's stack, so long lists go in pieces; scripts are atomic all the same.
local PIECE = 1000
local key, mode = KEYS[1], ARGV[1]

local function stamp_of(cell)
  return string.sub(cell, 1, STAMP)
end

local function is_cell(field)
  return field ~= 'd' and field ~= 'f' and field ~= 'l'
end

-- By bytes: `<` on values would follow the server's collation, and the tiers would disagree.
local function is_above(a, b)
  -- What both begin with is skipped in pieces: byte by byte a value of 1 MiB takes a tenth of a second.
  local from, piece = 1, 4096
  while from <= #a and string.sub(a, from, from + piece - 1) == string.sub(b, from, from + piece - 1) do
    from = from + piece
  end
  for i = from, math.min(#a, #b) do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then
      return x > y
    end
  end
  return #a > #b
end

-- Asked for only where a life has an end.
local clock_ms
local function now_ms()
  if not clock_ms then
    local time = redis.call('TIME')
    clock_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
  end
  return clock_ms
end

local function now()
  return string.format('%012x', now_ms())
end

-- The moment, or now if that is still to come.
local function at_most_now(moment)
  local latest = now()
  return moment < latest and moment or latest
end

-- Begin and end of the life in an existence cell. One that has an end and begins in the future stems from before this clock
-- was set back.
local function life_of(existence)
  local form = string.sub(existence, STAMP + 1, STAMP + 1)
  if form == '3' then
    local begin, the_end = string.sub(existence, STAMP + 2, STAMP + 13), string.sub(existence, STAMP + 14)
    return the_end == NO_END and begin or at_most_now(begin), the_end
  elseif form == '2' then
    return EVER, string.sub(existence, STAMP + 2)
  end
  return EVER, NO_END
end

local function is_over(the_end)
  return the_end ~= NO_END and the_end <= now()
end

local stored = {}
do
  local fields = {'d', 'e', 'f', 'l'}
  for i = FIRST, #ARGV, 2 do
    if ARGV[i] ~= 'd' and ARGV[i] ~= 'e' then
      fields[#fields + 1] = ARGV[i]
    end
  end
  for i = 1, #fields, PIECE do
    local last = math.min(i + PIECE - 1, #fields)
    local values = redis.call('HMGET', key, unpack(fields, i, last))
    for j = i, last do
      -- A field that is missing is `false` here.
      stored[fields[j]] = values[j - i + 1] or nil
    end
  end
end

local tombstone = stored['d'] and stamp_of(stored['d']) or ''
-- What is to be written at the end, and what is to be deleted.
local set, dead, cleared = {}, {}, false

-- Cells up to a stamp, or all of them. Not by DEL: it would take the tombstone and the times with it, and a right that the
-- client does not need otherwise.
local function drop_cells(stamp)
  if cleared then
    return
  end
  local flat = redis.call('HGETALL', key)
  for i = 1, #flat, 2 do
    if is_cell(flat[i]) and (stamp == nil or stamp_of(flat[i + 1]) <= stamp) then
      dead[#dead + 1] = flat[i]
      stored[flat[i]] = nil
    end
  end
  cleared = stamp == nil
end

-- Puts a tombstone, and drops all that it covers.
local function bury(cell)
  tombstone = stamp_of(cell)
  set['d'], stored['d'] = cell, cell
  drop_cells(tombstone)
end

local life_begin, life_end
if stored['e'] then
  life_begin, life_end = life_of(stored['e'])
  if is_over(life_end) then
    drop_cells()
  end
end

-- The life that is sent, clamped: it did not begin after now, and its writers cannot have asked for more than they did.
local sent_begin, sent_end = ARGV[5], ARGV[7]
if ARGV[8] ~= '' then
  sent_begin = at_most_now(sent_begin)
  local limit = string.format('%012x', now_ms() + tonumber(ARGV[8]))
  if sent_end > limit then
    sent_end = limit
  end
end
if ARGV[6] > sent_end then
  sent_end = ARGV[6]
end

-- A life that is over, or was before the present one began, is not joined any more.
local function comes_too_late()
  if stored['e'] then
    return sent_end <= life_begin
  end
  return is_over(sent_end)
end

if mode == 'all' then
  local in_the_way = ''
  local function check(against, stamp)
    if against >= stamp and against > in_the_way then
      in_the_way = against
    end
  end
  for i = FIRST, #ARGV, 2 do
    local field, stamp = ARGV[i], stamp_of(ARGV[i + 1])
    check(tombstone, stamp)
    if field == 'd' then
      -- A removal must be above every cell, or it would leave some of the record alive: every upsert writes `e`, so its stamp
      -- is the largest.
      if stored['e'] then
        check(stamp_of(stored['e']), stamp)
      end
    elseif stored[field] then
      check(stamp_of(stored[field]), stamp)
    end
  end
  if in_the_way ~= '' then
    return {0, in_the_way}
  end
  if sent_begin ~= '' and comes_too_late() then
    return {2, now()}
  end
end

local answer, lost = {1}, false

-- The tombstone first: it decides which of the other cells are dead on arrival.
for i = FIRST, #ARGV, 2 do
  if ARGV[i] == 'd' then
    local stamp = stamp_of(ARGV[i + 1])
    if stamp > tombstone then
      bury(ARGV[i + 1])
    elseif stamp < tombstone then
      lost = true
    end
  end
end

local lives = false
for i = FIRST, #ARGV, 2 do
  if ARGV[i] ~= 'd' then
    if stamp_of(ARGV[i + 1]) > tombstone then
      lives = true
    else
      lost = true
    end
  end
end
if lives and comes_too_late() then
  lives, lost = false, true
end

if lives then
  for i = FIRST, #ARGV, 2 do
    local field, cell = ARGV[i], ARGV[i + 1]
    local stamp, held = stamp_of(cell), stored[field]
    if is_cell(field) and field ~= 'e' and stamp > tombstone then
      -- What is there already, as in a replay after a reply that was lost, needs no look into it.
      if cell ~= held then
        if held == nil or stamp > stamp_of(held) or (stamp == stamp_of(held) and is_above(cell, held)) then
          set[field], stored[field] = cell, cell
        else
          lost = true
        end
      end
    end
  end
  for i = FIRST, #ARGV, 2 do
    if ARGV[i] == 'e' and stamp_of(ARGV[i + 1]) > tombstone then
      local stamp = stamp_of(ARGV[i + 1])
      if not stored['e'] then
        life_begin, life_end = sent_begin, sent_end
      else
        if stamp_of(stored['e']) > stamp then
          stamp, lost = stamp_of(stored['e']), true
        end
        life_begin = life_begin < sent_begin and life_begin or sent_begin
        life_end = life_end > sent_end and life_end or sent_end
      end
      local cell = stamp .. '3' .. life_begin .. life_end
      set['e'], stored['e'] = cell, cell
      local estimated_end = ARGV[6] > ARGV[7] and ARGV[6] or ARGV[7]
      if life_begin ~= ARGV[5] or life_end ~= estimated_end then
        answer[2], answer[3] = 'e', cell
      end
    end
  end
end

if ARGV[3] ~= '' and (not stored['f'] or ARGV[3] < stored['f']) then
  set['f'] = ARGV[3]
end
if ARGV[4] ~= '' and (not stored['l'] or ARGV[4] > stored['l']) then
  set['l'] = ARGV[4]
end

local function in_pieces(command, arguments)
  for i = 1, #arguments, PIECE do
    redis.call(command, key, unpack(arguments, i, math.min(i + PIECE - 1, #arguments)))
  end
end

in_pieces('HDEL', dead)
local arguments = {}
for field, cell in pairs(set) do
  arguments[#arguments + 1] = field
  arguments[#arguments + 1] = cell
end
in_pieces('HSET', arguments)

if not stored['e'] then
  redis.call('PEXPIRE', key, ARGV[2])
elseif life_end == NO_END then
  redis.call('PERSIST', key)
else
  -- As long as a tombstone would be: a removal that is remembered must not be forgotten with the record.
  local until_ms = math.max(tonumber(life_end, 16), now_ms() + tonumber(ARGV[2]))
  redis.call('PEXPIREAT', key, string.format('%.0f', until_ms))
end
if lost then
  answer = redis.call('HGETALL', key)
  table.insert(answer, 1, 3)
end
return answer
