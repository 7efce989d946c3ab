-- What scripts find in their environment, built once per Lua state. Vanilla Lua 5.1 has no read-only tables, so scripts
-- see empty stand-ins whose contents are behind `__index`.
--
-- A host function cannot raise a plain Lua value: it raises a userdata, which `host.reveal` turns into the table or
-- string that Redis would have raised. Everything here that lets a script see an error reveals it first.
local host = ...
local error, type, rawset, setmetatable, tostring = error, type, rawset, setmetatable, tostring
local pcall, xpcall, loadstring, concat = pcall, xpcall, loadstring, table.concat
local resume, byte = coroutine.resume, string.byte
local reveal, handler = host.reveal, host.handler

local READ_ONLY = "Attempt to modify a readonly table"
local stand_ins = setmetatable({}, { __mode = "k" })

local function refuse()
  error(READ_ONLY, 2)
end

local sealed

local function stand_in(contents)
  local it = setmetatable({}, { __index = contents, __newindex = refuse, __metatable = sealed })
  stand_ins[it] = true
  return it
end

sealed = stand_in({})

local globals = {}
for _, name in ipairs({
  "_VERSION", "assert", "collectgarbage", "error", "gcinfo", "getmetatable", "ipairs", "next", "pairs", "rawequal",
  "rawget", "select", "setmetatable", "tonumber", "tostring", "type", "unpack",
}) do
  globals[name] = _G[name]
end

local function settle(ok, ...)
  if ok then
    return true, ...
  end
  local problem = reveal((...))
  if type(problem) ~= "table" then
    return false, problem
  end
  local text = problem.err
  if type(text) == "string" or type(text) == "number" then
    return false, text
  end
  return false, problem, text
end

function globals.pcall(f, ...)
  return settle(pcall(f, ...))
end

function globals.xpcall(f, handle)
  return xpcall(f, function(problem)
    return handle(reveal(problem))
  end)
end

local function resumed(ok, ...)
  if ok then
    return true, ...
  end
  return false, reveal((...))
end

coroutine.resume = function(thread, ...)
  return resumed(resume(thread, ...))
end

function globals.rawset(t, key, value)
  if stand_ins[t] then
    error(READ_ONLY, 0)
  end
  return rawset(t, key, value)
end

-- Compiled chunks are refused, as in Redis: a crafted one can take the interpreter down. Lua looks at the first byte
-- only, so a space before it makes a text of the chunk, and one that does not parse.
local function compile(text, name)
  if type(text) == "string" and byte(text) == 27 then
    text = " " .. text
  end
  return loadstring(text, name)
end

function globals.loadstring(text, name)
  return compile(text, name or text)
end

function globals.load(read, name)
  local pieces = {}
  while true do
    local piece = read()
    if piece == nil or piece == "" then
      return compile(concat(pieces), name or "=(load)")
    end
    pieces[#pieces + 1] = piece
  end
end

math.random, math.randomseed = host.random, host.randomseed
for name, library in pairs({ string = string, table = table, math = math, coroutine = coroutine, redis = host.redis }) do
  globals[name] = stand_in(library)
end
getmetatable("").__index = globals.string
globals._G = stand_in(globals)

setmetatable(globals, {
  __index = function(_, name)
    error("Script attempted to access nonexistent global variable '" .. tostring(name) .. "'", 2)
  end,
})

local function run(script)
  local ok, answer = xpcall(script, handler)
  return ok, answer
end

return globals, globals._G, run, compile
