//! The Lua 5.1 that scripts run in: one state per process, with `redis.call` and its kin as host functions.
//!
//! The data moves into the state's [`ScriptFrame`] while a script runs, and back when it ends, so that the host functions are
//! made once and not per script. Errors carry the text that redis-server 7.0 gives them: the message, the script, and
//! the line, which is where the function that raised it was called.

use std::{
    error, fmt, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use mlua::{Error, Function, Lua, LuaOptions, LuaString, Result, StdLib, Table, Value, Variadic};

use super::{
    command::{Args, CallFromScript, CommandCall, RunningScript, ScriptFlags, Session},
    convert::{self, Marks},
    data::Server,
    random::Random,
    reply,
};

/// A Lua state, ready for scripts.
pub(super) struct Interpreter {
    lua: Lua,
    /// What is behind the globals that scripts see.
    globals: Table,
    run: Function,
    compile: Function,
    marks: Marks,
    frame: SharedCell<Option<ScriptFrame>>,
}

/// A compiled script, and what its first line says.
pub(super) struct Script {
    pub(super) function: Function,
    pub(super) flags: Option<ScriptFlags>,
}

/// The state of `math.random`, which outlives the Lua state.
pub(super) type SharedRandom = SharedCell<Random>;

/// A cell that the host functions share with their owner. Only one of them holds it at a time: the lock is there for
/// `Send`.
pub(super) struct SharedCell<T>(Arc<Mutex<T>>);

/// What a running script works on.
struct ScriptFrame {
    server: Server,
    session: Session,
    now_ms: u64,
    sha: String,
    running: RunningScript,
    reply: Vec<u8>,
}

/// An error that a host function raises.
#[derive(Debug)]
enum Raised {
    /// A table with `err`; `counted` if a command has counted it already.
    Reply { text: Vec<u8>, counted: bool },
    /// A string.
    Text(String),
}

impl Interpreter {
    pub(super) fn new(random: &SharedRandom, call: CallFromScript) -> Result<Self> {
        let options = LuaOptions::new().catch_rust_panics(false);
        let lua = Lua::new_with(StdLib::STRING | StdLib::TABLE | StdLib::MATH, options)?;
        let frame = SharedCell::default();
        let host = lua.create_table()?;
        host.raw_set("reveal", lua.create_function(reveal)?)?;
        host.raw_set("handler", {
            let frame = frame.clone();
            lua.create_function(move |lua, problem| describe(lua, &frame, problem))?
        })?;
        host.raw_set("redis", library(&lua, &frame, call)?)?;
        host.raw_set("random", {
            let random = random.clone();
            lua.create_function(move |lua, args: Variadic<Value>| draw(lua, &random, &args))?
        })?;
        host.raw_set("randomseed", {
            let random = random.clone();
            lua.create_function(move |lua, args: Variadic<Value>| {
                let seed = number_argument(lua, &args, 0, "randomseed")?;
                random.lock().seed(seed);
                Ok(())
            })?
        })?;
        let prelude = lua.load(include_str!("prelude.lua")).set_name(PRELUDE);
        let (globals, seen, run, compile): (Table, Table, Function, Function) = prelude.call(host)?;
        lua.set_globals(seen)?;
        let marks = Marks::new(&lua)?;
        Ok(Self { lua, globals, run, compile, marks, frame })
    }

    /// Compiles a script; the inner error is Lua's message.
    pub(super) fn compile(&self, text: &[u8]) -> Result<std::result::Result<Function, Vec<u8>>> {
        let text = self.lua.create_string(text)?;
        let (function, message): (Option<Function>, Option<LuaString>) = self.compile.call((text, SCRIPT))?;
        Ok(function.ok_or_else(|| message.map(|message| message.as_bytes().to_vec()).unwrap_or_default()))
    }

    /// Runs a compiled script for a call, and writes its answer.
    pub(super) fn run(&self, call: &mut CommandCall<'_>, script: &Script, sha: &str, keys: &Args<'_>, argv: &Args<'_>) {
        let database = call.session.database;
        call.server.script_words += (keys.len() + argv.len()) as u64;
        *self.frame.lock() = Some(ScriptFrame {
            server: mem::take(call.server),
            session: Session { database, ..Session::default() },
            now_ms: u64::try_from(call.now_ms).unwrap_or(0),
            sha: sha.to_owned(),
            running: RunningScript { flags: script.flags, wrote: false },
            reply: Vec::new(),
        });
        let start = call.out.len();
        let ran = self.answer(&script.function, keys, argv, call.out);
        if let Some(frame) = self.frame.lock().take() {
            *call.server = frame.server;
        }
        if let Err(error) = ran {
            // Out of memory, or an error inside the error handler.
            call.out.truncate(start);
            reply::error_format(call.out, &[b"ERR Error running script: ", error.to_string().as_bytes()]);
        }
    }

    fn answer(&self, script: &Function, keys: &Args<'_>, argv: &Args<'_>, out: &mut Vec<u8>) -> Result<()> {
        self.globals.raw_set("KEYS", self.words(keys)?)?;
        self.globals.raw_set("ARGV", self.words(argv)?)?;
        match self.run.call(script)? {
            (true, answer) => convert::to_reply(&self.marks, &answer, 0, out),
            (false, Value::String(text)) => {
                reply::error_format(out, &[&text.as_bytes()]);
                Ok(())
            }
            (false, other) => Err(Error::runtime(format!("the error handler failed with a {}", other.type_name()))),
        }
    }

    fn words(&self, words: &Args<'_>) -> Result<Table> {
        let table = self.lua.create_table_with_capacity(words.len(), 0)?;
        for (at, word) in words.iter().enumerate() {
            table.raw_set(at + 1, self.lua.create_string(word)?)?;
        }
        Ok(table)
    }
}

/// The chunk names of scripts and of the prelude.
const SCRIPT: &str = "@user_script";
const PRELUDE: &str = "=prelude";

fn library(lua: &Lua, frame: &SharedCell<Option<ScriptFrame>>, call: CallFromScript) -> Result<Table> {
    let library = lua.create_table()?;
    for (name, raise) in [("call", true), ("pcall", false)] {
        let frame = frame.clone();
        let invoke = move |lua: &Lua, args: Variadic<Value>| invoke(lua, &frame, &args, (call, raise));
        library.raw_set(name, lua.create_function(invoke)?)?;
    }
    library.raw_set("error_reply", lua.create_function(|lua, args: Variadic<Value>| error_reply(lua, &args))?)?;
    library.raw_set("status_reply", lua.create_function(|lua, args: Variadic<Value>| status_reply(lua, &args))?)?;
    library.raw_set("sha1hex", lua.create_function(|lua, args: Variadic<Value>| sha1hex(lua, &args))?)?;
    library.raw_set("log", lua.create_function(|_, args: Variadic<Value>| log(&args))?)?;
    library.raw_set("setresp", lua.create_function(|_, args: Variadic<Value>| setresp(&args))?)?;
    library.raw_set("replicate_commands", lua.create_function(|_, ()| Ok(true))?)?;
    library.raw_set("set_repl", lua.create_function(|_, _: Value| Ok(()))?)?;
    for (level, name) in (0..).zip(["LOG_DEBUG", "LOG_VERBOSE", "LOG_NOTICE", "LOG_WARNING"]) {
        library.raw_set(name, level)?;
    }
    for (name, value) in [("REPL_NONE", 0), ("REPL_AOF", 1), ("REPL_SLAVE", 2), ("REPL_REPLICA", 2), ("REPL_ALL", 3)] {
        library.raw_set(name, value)?;
    }
    library.raw_set("REDIS_VERSION", super::server::VERSION)?;
    library.raw_set("REDIS_VERSION_NUM", 0x0007_000F)?;
    Ok(library)
}

/// `redis.call` and `redis.pcall`.
fn invoke(
    lua: &Lua,
    frame: &SharedCell<Option<ScriptFrame>>,
    args: &[Value],
    (execute, raise): (CallFromScript, bool),
) -> Result<Value> {
    let fail = |text: &[u8], counted| {
        let raised = Raised::Reply { text: text.to_vec(), counted };
        if raise { Err(raised.into_error()) } else { raised.value(lua) }
    };
    if args.is_empty() {
        return fail(b"ERR Please specify at least one argument for this redis lib call", false);
    }
    let Some(words) = args.iter().map(convert::to_word).collect::<Option<Vec<_>>>() else {
        return fail(b"ERR Lua redis lib command arguments must be strings or integers", false);
    };
    let mut frame = frame.lock();
    let Some(ScriptFrame { server, session, now_ms, running, reply, .. }) = frame.as_mut() else {
        return fail(b"ERR redis.call can only be called inside a script", false);
    };
    reply.clear();
    let mut call = CommandCall::new(server, session, *now_ms, reply);
    if let Err(refusal) = execute(&mut call, &words, running) {
        return fail(refusal.text(), true);
    }
    call.server.script_words += (words.len() + elements(call.out)) as u64;
    match reply.strip_prefix(b"-") {
        Some(text) => fail(text.strip_suffix(b"\r\n").unwrap_or(text), true),
        None => convert::to_lua(lua, &mut reply.as_slice()),
    }
}

/// How many elements a reply has, if it is an array of the usual kind; else one.
fn elements(reply: &[u8]) -> usize {
    let count = reply.strip_prefix(b"*").and_then(|rest| rest.split(|&byte| byte == b'\r').next());
    count.and_then(super::number::parse).and_then(|count| usize::try_from(count).ok()).unwrap_or(1)
}

fn error_reply(lua: &Lua, args: &[Value]) -> Result<Value> {
    let [Value::String(text)] = args else { return wrong_arguments(lua) };
    let text = text.as_bytes();
    let text = reply::c_string(text.strip_prefix(b"-").unwrap_or(&text));
    let end = text.iter().rposition(|&byte| byte != b'\r' && byte != b'\n').map_or(0, |last| last + 1);
    let text = &text[..end];
    // Without a space there is no code in it, and Redis adds its general one.
    let code: &[u8] = if text.contains(&b' ') { b"" } else { b"ERR " };
    Raised::Reply { text: [code, text].concat(), counted: false }.value(lua)
}

fn status_reply(lua: &Lua, args: &[Value]) -> Result<Value> {
    let [Value::String(text)] = args else { return wrong_arguments(lua) };
    let table = lua.create_table()?;
    table.raw_set("ok", text)?;
    Ok(Value::Table(table))
}

fn wrong_arguments(lua: &Lua) -> Result<Value> {
    Raised::Reply { text: b"ERR wrong number or type of arguments".to_vec(), counted: false }.value(lua)
}

fn sha1hex(lua: &Lua, args: &[Value]) -> Result<String> {
    let [value] = args else { return Err(raise("ERR wrong number of arguments")) };
    // What is no string counts as the empty one.
    let text = match value {
        Value::String(_) | Value::Integer(_) | Value::Number(_) => lua.coerce_string(value.clone())?,
        _ => None,
    };
    let digest = |bytes: &[u8]| sha1_smol::Sha1::from(bytes).digest().to_string();
    Ok(text.map_or_else(|| digest(b""), |text| digest(&text.as_bytes())))
}

fn log(args: &[Value]) -> Result<()> {
    match args {
        [Value::Integer(0..=3), _, ..] => Ok(()),
        [Value::Integer(_), _, ..] => Err(raise("ERR Invalid debug level.")),
        [_, _, ..] => Err(raise("ERR First argument must be a number (log level).")),
        _ => Err(raise("ERR redis.log() requires two arguments or more.")),
    }
}

fn setresp(args: &[Value]) -> Result<()> {
    match args {
        [Value::Integer(2)] => Ok(()),
        [_] => Err(raise("ERR RESP version must be 2 or 3.")),
        _ => Err(raise("ERR redis.setresp() requires one argument.")),
    }
}

/// `math.random`.
fn draw(lua: &Lua, random: &SharedRandom, args: &[Value]) -> Result<f64> {
    let interval_is_empty = |at| raise_here(lua, &format!("bad argument #{at} to 'random' (interval is empty)"));
    let drawn = random.lock().next();
    #[expect(clippy::cast_precision_loss, reason = "bounds come from floats")]
    match args.len() {
        0 => Ok(drawn),
        1 => {
            let upper = number_argument(lua, args, 0, "random")?;
            if upper < 1 {
                return Err(interval_is_empty(1));
            }
            Ok((drawn * upper as f64).floor() + 1.0)
        }
        2 => {
            let (lower, upper) = (number_argument(lua, args, 0, "random")?, number_argument(lua, args, 1, "random")?);
            if lower > upper {
                return Err(interval_is_empty(2));
            }
            Ok((drawn * (upper - lower + 1) as f64).floor() + lower as f64)
        }
        _ => Err(raise_here(lua, "wrong number of arguments")),
    }
}

fn number_argument(lua: &Lua, args: &[Value], at: usize, function: &str) -> Result<i64> {
    let value = args.get(at).cloned();
    let kind = value.as_ref().map_or("no value", Value::type_name);
    let number = value.map(|value| lua.coerce_number(value)).transpose()?.flatten();
    let number = number.ok_or_else(|| {
        let place = at + 1;
        raise_here(lua, &format!("bad argument #{place} to '{function}' (number expected, got {kind})"))
    })?;
    Ok(super::number::truncate(number))
}

/// The error that stops a script in a host function, with the text that `redis.pcall` would have in `err`.
fn raise(text: &str) -> Error {
    Raised::Reply { text: text.as_bytes().to_vec(), counted: false }.into_error()
}

/// An error of Lua's own kind: a string that starts with the place of the call.
fn raise_here(lua: &Lua, text: &str) -> Error {
    let place = lua.inspect_stack(1, |at| {
        at.current_line().map(|line| format!("{}:{line}: ", at.source().short_src.unwrap_or_default()))
    });
    Raised::Text(format!("{}{text}", place.flatten().unwrap_or_default())).into_error()
}

/// What a script sees of an error value: what Redis would have raised in place of a host function's userdata.
fn reveal(lua: &Lua, problem: Value) -> Result<Value> {
    let Value::Error(error) = &problem else { return Ok(problem) };
    match error.downcast_ref::<Raised>() {
        Some(raised) => raised.value(lua),
        None => Ok(Value::String(lua.create_string(error.to_string())?)),
    }
}

/// The text of the error that a script dies of.
fn describe(lua: &Lua, frame: &SharedCell<Option<ScriptFrame>>, problem: Value) -> Result<LuaString> {
    let text = match reveal(lua, problem)? {
        Value::Table(table) => match table.raw_get("err")? {
            value @ (Value::String(_) | Value::Integer(_) | Value::Number(_)) => shown(lua, value)?,
            _ => b"ERR unknown error".to_vec(),
        },
        other => [b"ERR ", &shown(lua, other)?[..]].concat(),
    };
    let mut text = reply::c_string(&text).to_vec();
    if let Some((source, line)) = place(lua) {
        let sha = frame.lock().as_ref().map(|frame| frame.sha.clone()).unwrap_or_default();
        text.extend_from_slice(format!(" script: {sha}, on {source}:{line}.").as_bytes());
    }
    lua.create_string(text)
}

/// Lua's `tostring`, without addresses, which differ from run to run.
fn shown(lua: &Lua, value: Value) -> Result<Vec<u8>> {
    Ok(match value {
        Value::Nil => b"nil".to_vec(),
        Value::Boolean(value) => value.to_string().into_bytes(),
        other => {
            let kind = other.type_name();
            lua.coerce_string(other)?.map_or_else(|| kind.into(), |text| text.as_bytes().to_vec())
        }
    })
}

/// Where the function is that raised an error, seen from the error handler: the function itself if it is of a script,
/// else what called it. As in Redis, one host function is stepped over, and no more.
fn place(lua: &Lua) -> Option<(String, i64)> {
    let at = |level| {
        lua.inspect_stack(level, |at| {
            let source = at.source();
            let line = at.current_line().and_then(|line| i64::try_from(line).ok()).unwrap_or(-1);
            (source.what == "C", source.source.unwrap_or_default().into_owned(), line)
        })
    };
    // Level 0 is the error handler, and level 1 what mlua puts around it so that a panic gets through.
    let (mut level, mut found) = (2, at(2)?);
    if found.0 {
        level += 1;
        found = at(level).unwrap_or(found);
    }
    // What the prelude replaced is a host function in Redis.
    if found.1 == PRELUDE {
        found = at(level + 1).unwrap_or(found);
    }
    Some((found.1, found.2))
}

impl Raised {
    fn into_error(self) -> Error {
        Error::external(self)
    }

    fn value(&self, lua: &Lua) -> Result<Value> {
        match self {
            Self::Reply { text, counted } => {
                let table = lua.create_table()?;
                table.raw_set("err", lua.create_string(text)?)?;
                if *counted {
                    table.raw_set("ignore_error_stats_update", true)?;
                }
                Ok(Value::Table(table))
            }
            Self::Text(text) => Ok(Value::String(lua.create_string(text)?)),
        }
    }
}

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reply { text, .. } => f.write_str(&String::from_utf8_lossy(text)),
            Self::Text(text) => f.write_str(text),
        }
    }
}

impl error::Error for Raised {}

impl<T> SharedCell<T> {
    pub(super) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Clone for SharedCell<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Default> Default for SharedCell<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}
