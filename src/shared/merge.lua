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
-- {2} if the life of the cells is over already by this server's clock; and nothing changed.
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
local argv, sub, call, format = ARGV, string.sub, redis.call, string.format
local key, mode = KEYS[1], argv[1]

-- Asked for only where a life has an end.
local clock_ms
local function now_ms()
  if not clock_ms then
    local time = call('TIME')
    clock_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
  end
  return clock_ms
end

local function now()
  return format('%012x', now_ms())
end

-- The moment, or now if that is still to come.
local function at_most_now(moment)
  local latest = now()
  return moment < latest and moment or latest
end

local function is_over(the_end)
  return the_end ~= NO_END and the_end <= now()
end

-- What is sent: the removal, the existence, and the other cells, each under the number of its name.
local sent_removal, sent_existence
local names, cells = {'d', 'e', 'f', 'l'}, {}
local count = 4
for i = FIRST, #argv, 2 do
  local field = argv[i]
  if field == 'd' then
    sent_removal = sub(argv[i + 1], 1, STAMP)
  elseif field == 'e' then
    sent_existence = sub(argv[i + 1], 1, STAMP)
  else
    count = count + 1
    names[count], cells[count] = field, argv[i + 1]
  end
end

-- What is stored of it; `false` where there is nothing.
local held = call('HMGET', key, unpack(names, 1, math.min(count, PIECE)))
for from = PIECE + 1, count, PIECE do
  local piece = call('HMGET', key, unpack(names, from, math.min(from + PIECE - 1, count)))
  for i = 1, #piece do
    held[from + i - 1] = piece[i]
  end
end
local tombstone = held[1] and sub(held[1], 1, STAMP) or ''
local existence, first, last = held[2], held[3], held[4]

-- What is to be written at the end, in turn with its field, and what is to be deleted.
local set, dead = {}, {}
local writes, all_dropped = 0, false
local function write(field, value)
  set[writes + 1], set[writes + 2] = field, value
  writes = writes + 2
end

-- Drops cells up to a stamp, or all of them. Not by DEL: it would take the tombstone and the times with it, and a right that
-- the client does not need otherwise.
local function drop_cells(stamp)
  if all_dropped then
    return
  end
  local flat, dropped = call('HGETALL', key), {}
  for i = 1, #flat, 2 do
    local field = flat[i]
    if field ~= 'd' and field ~= 'f' and field ~= 'l' and (not stamp or sub(flat[i + 1], 1, STAMP) <= stamp) then
      dead[#dead + 1] = field
      dropped[field] = true
    end
  end
  for i = 5, count do
    if dropped[names[i]] then
      held[i] = false
    end
  end
  if dropped['e'] then
    existence = false
  end
  all_dropped = not stamp
end

-- Begin and end of the life that is stored. One that has an end and begins in the future stems from before this clock was set
-- back.
local life_begin, life_end
if existence then
  local form = sub(existence, STAMP + 1, STAMP + 1)
  if form == '3' then
    life_begin, life_end = sub(existence, STAMP + 2, STAMP + 13), sub(existence, STAMP + 14)
    if life_end ~= NO_END then
      life_begin = at_most_now(life_begin)
    end
  elseif form == '2' then
    life_begin, life_end = EVER, sub(existence, STAMP + 2)
  else
    life_begin, life_end = EVER, NO_END
  end
  if is_over(life_end) then
    drop_cells()
  end
end

-- The life that is sent, clamped: it did not begin after now, and its writers cannot have asked for more than they did.
local sent_begin, sent_end = argv[5], argv[7]
if argv[8] ~= '' then
  sent_begin = at_most_now(sent_begin)
  local limit = format('%012x', now_ms() + tonumber(argv[8]))
  if sent_end > limit then
    sent_end = limit
  end
end
if argv[6] > sent_end then
  sent_end = argv[6]
end

-- A life that is over, or was when the present one began, is not joined any more.
local function comes_too_late()
  if existence then
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
  local stored = existence and sub(existence, 1, STAMP) or ''
  if sent_removal then
    -- A removal must be above every cell, or it would leave some of the record alive: every upsert writes `e`, so its stamp is
    -- the largest.
    check(tombstone, sent_removal)
    check(stored, sent_removal)
  end
  if sent_existence then
    check(tombstone, sent_existence)
    check(stored, sent_existence)
  end
  for i = 5, count do
    local stamp = sub(cells[i], 1, STAMP)
    check(tombstone, stamp)
    if held[i] then
      check(sub(held[i], 1, STAMP), stamp)
    end
  end
  if in_the_way ~= '' then
    return {0, in_the_way}
  end
  if sent_begin ~= '' and comes_too_late() then
    return {2}
  end
end

-- By bytes: `<` on values would follow the server's collation, and the tiers would disagree.
local function is_above(a, b)
  -- What both begin with is skipped in pieces: byte by byte a value of 1 MiB takes a tenth of a second.
  local from, piece = 1, 4096
  while from <= #a and sub(a, from, from + piece - 1) == sub(b, from, from + piece - 1) do
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

local answer, lost, buries = {1}, false, false

-- The tombstone first: it decides which of the other cells are dead on arrival.
if sent_removal then
  if sent_removal > tombstone then
    tombstone, buries = sent_removal, true
    drop_cells(tombstone)
  elseif sent_removal < tombstone then
    lost = true
  end
end

if sent_existence or count > 4 then
  -- The stamp of `e` is the largest of what has a life.
  local lives = sent_existence and sent_existence > tombstone
  if not lives or comes_too_late() then
    lost = true
  else
    for i = 5, count do
      local cell, other = cells[i], held[i]
      -- What is there already, as in a replay after a reply that was lost, needs no look into it.
      if cell ~= other then
        local stamp = sub(cell, 1, STAMP)
        local stored = other and sub(other, 1, STAMP) or ''
        if stamp <= tombstone then
          lost = true
        elseif stamp > stored or (stamp == stored and is_above(cell, other)) then
          write(names[i], cell)
        else
          lost = true
        end
      end
    end
    local stamp = sent_existence
    if not existence then
      life_begin, life_end = sent_begin, sent_end
    else
      local stored = sub(existence, 1, STAMP)
      if stored > stamp then
        stamp, lost = stored, true
      end
      life_begin = life_begin < sent_begin and life_begin or sent_begin
      life_end = life_end > sent_end and life_end or sent_end
    end
    existence = stamp .. '3' .. life_begin .. life_end
    write('e', existence)
    if life_begin ~= argv[5] or life_end ~= (argv[6] > argv[7] and argv[6] or argv[7]) then
      answer[2], answer[3] = 'e', existence
    end
  end
end

if argv[3] ~= '' and (not first or argv[3] < first) then
  write('f', argv[3])
end
if argv[4] ~= '' and (not last or argv[4] > last) then
  write('l', argv[4])
end

local function in_pieces(command, arguments)
  for i = 1, #arguments, PIECE do
    call(command, key, unpack(arguments, i, math.min(i + PIECE - 1, #arguments)))
  end
end
-- The removal first: a user who lost the right to HSET would otherwise delete the cells and leave no tombstone, and the next write would
-- begin the record anew.
if buries then
  call('HSET', key, 'd', tombstone)
end
in_pieces('HDEL', dead)
in_pieces('HSET', set)

if not existence then
  call('PEXPIRE', key, argv[2])
elseif life_end == NO_END then
  call('PERSIST', key)
else
  -- As long as a tombstone would be: a removal that is remembered must not be forgotten with the record.
  local until_ms = math.max(tonumber(life_end, 16), now_ms() + tonumber(argv[2]))
  call('PEXPIREAT', key, format('%.0f', until_ms))
end
if lost then
  answer = call('HGETALL', key)
  table.insert(answer, 1, 3)
end
return answer
