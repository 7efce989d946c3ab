//! EVAL, EVALSHA and SCRIPT, and the cache of compiled scripts.

use std::{collections::BTreeMap, fmt};

use super::{
    command::{Args, CallFromScript, Command, CommandCall, CommandWork, Flag, ScriptCommand, ScriptFlags},
    error_reply::{Done, ErrorReply, integer},
    lua::{Interpreter, Script, SharedRandom},
    reply, state,
};
use crate::Refusal;

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "eval",
        arity: -3,
        flags: &[Flag::NoScript, Flag::Stale],
        run: CommandWork::Scripts(ScriptCommand::Eval),
    },
    Command {
        name: "evalsha",
        arity: -3,
        flags: &[Flag::NoScript, Flag::Stale],
        run: CommandWork::Scripts(ScriptCommand::EvalSha),
    },
    Command { name: "script", arity: -2, flags: &[], run: CommandWork::Container(SCRIPT) },
];

const SCRIPT: &[Command] = &[
    Command {
        name: "script|exists",
        arity: -3,
        flags: &[Flag::NoScript],
        run: CommandWork::Scripts(ScriptCommand::Exists),
    },
    Command {
        name: "script|flush",
        arity: -2,
        flags: &[Flag::NoScript],
        run: CommandWork::Scripts(ScriptCommand::Flush),
    },
    Command {
        name: "script|kill",
        arity: 2,
        flags: &[Flag::NoScript, Flag::AllowBusy],
        run: CommandWork::Data(script_kill),
    },
    Command {
        name: "script|load",
        arity: 3,
        flags: &[Flag::NoScript, Flag::Stale],
        run: CommandWork::Scripts(ScriptCommand::Load),
    },
];

const NO_SCRIPT: ErrorReply = ErrorReply::Fixed("NOSCRIPT No matching script. Please use EVAL.");

/// The scripts that a process knows, and the Lua state that they run in.
pub(super) struct Scripts {
    /// Runs what a script calls.
    call: CallFromScript,
    /// None until the first script: most engines of a run never need one.
    interpreter: Option<Interpreter>,
    cache: BTreeMap<Sha, Script>,
    random: SharedRandom,
}

/// A digest in 40 lower case digits.
type Sha = [u8; 40];

impl Scripts {
    /// None yet. Those to come call commands through `call`.
    pub(super) fn new(call: CallFromScript) -> Self {
        Self { call, interpreter: None, cache: BTreeMap::new(), random: SharedRandom::default() }
    }

    /// Forgets every script, and the Lua state with them.
    pub(super) fn flush(&mut self) -> usize {
        self.interpreter = None;
        std::mem::take(&mut self.cache).len()
    }

    /// What the first line says of the script that a command runs, if it runs one that is known and has such a line.
    pub(super) fn promises(&self, command: &Command, args: &Args<'_>) -> Option<ScriptFlags> {
        match (command.name, args) {
            ("eval", [_, text, ..]) => without_shebang(text).ok()?.1,
            ("evalsha", [_, sha, ..]) => self.cache.get(&read_sha(sha)?)?.flags,
            _ => None,
        }
    }

    /// Compiles a script unless the cache has it.
    fn load(&mut self, text: &[u8]) -> Result<Sha, ErrorReply> {
        let sha = digest(text);
        if !self.cache.contains_key(&sha) {
            let interpreter = match &mut self.interpreter {
                Some(interpreter) => interpreter,
                none => none.insert(Interpreter::new(&self.random, self.call).map_err(|error| broken(&error))?),
            };
            let (text, flags) = without_shebang(text)?;
            let function = interpreter.compile(&text).map_err(|error| broken(&error))?;
            let function = function.map_err(|message| {
                ErrorReply::Formatted([b"ERR Error compiling script (new function): ", &message[..]].concat())
            })?;
            self.cache.insert(sha, Script { function, flags });
        }
        Ok(sha)
    }

    fn run(&mut self, call: &mut CommandCall<'_>, sha: &Sha, args: &Args<'_>, key_count: usize) -> Done {
        let (Some(interpreter), Some(script)) = (&self.interpreter, self.cache.get(sha)) else {
            return Err(NO_SCRIPT);
        };
        if let Some(refusal) = call.server.state.and_then(|state| state::refuses_script(state, script.flags)) {
            return call.server.refuse(refusal);
        }
        let (keys, rest) = args[3..].split_at(key_count);
        interpreter.run(call, script, &String::from_utf8_lossy(sha), keys, rest);
        Ok(())
    }
}

pub(super) fn eval(call: &mut CommandCall<'_>, scripts: &mut Scripts, args: &Args<'_>) -> Done {
    let keys = key_count(args)?;
    let sha = scripts.load(&args[1])?;
    scripts.run(call, &sha, args, keys)
}

pub(super) fn evalsha(call: &mut CommandCall<'_>, scripts: &mut Scripts, args: &Args<'_>) -> Done {
    let sha = read_sha(&args[1]).ok_or(NO_SCRIPT)?;
    let keys = key_count(args)?;
    scripts.run(call, &sha, args, keys)
}

pub(super) fn script_load(call: &mut CommandCall<'_>, scripts: &mut Scripts, args: &Args<'_>) -> Done {
    let sha = scripts.load(&args[2])?;
    reply::bulk(call.out, &sha);
    Ok(())
}

pub(super) fn script_exists(call: &mut CommandCall<'_>, scripts: &mut Scripts, args: &Args<'_>) -> Done {
    reply::array(call.out, args.len() - 2);
    for sha in &args[2..] {
        let known = read_sha(sha).is_some_and(|sha| scripts.cache.contains_key(&sha));
        reply::integer(call.out, i64::from(known));
    }
    Ok(())
}

pub(super) fn script_flush(call: &mut CommandCall<'_>, scripts: &mut Scripts, args: &Args<'_>) -> Done {
    match &args[2..] {
        [] => {}
        [mode] if mode.eq_ignore_ascii_case(b"sync") || mode.eq_ignore_ascii_case(b"async") => {}
        _ => return Err(ErrorReply::Fixed("ERR SCRIPT FLUSH only support SYNC|ASYNC option")),
    }
    scripts.flush();
    reply::status(call.out, b"OK");
    Ok(())
}

fn script_kill(call: &mut CommandCall<'_>, _: &Args<'_>) -> Done {
    if call.server.state == Some(Refusal::Busy) && call.server.is_killable {
        (call.server.state, call.server.is_killable) = (None, false);
        reply::status(call.out, b"OK");
        return Ok(());
    }
    if call.server.state == Some(Refusal::Busy) {
        return Err(ErrorReply::Fixed(
            "UNKILLABLE Sorry the script already executed write commands against the dataset. You can either wait the \
             script termination or kill the server in a hard way using the SHUTDOWN NOSAVE command.",
        ));
    }
    Err(ErrorReply::Fixed("NOTBUSY No scripts in execution right now."))
}

fn key_count(args: &Args<'_>) -> Result<usize, ErrorReply> {
    let count = integer(&args[2])?;
    let count = usize::try_from(count).map_err(|_| ErrorReply::Fixed("ERR Number of keys can't be negative"))?;
    if count > args.len() - 3 {
        return Err(ErrorReply::Fixed("ERR Number of keys can't be greater than number of args"));
    }
    Ok(count)
}

/// A script's text as Lua takes it: the first line may say `#!lua`, and stays in place as an empty one. With what it says.
fn without_shebang(text: &[u8]) -> Result<(Vec<u8>, Option<ScriptFlags>), ErrorReply> {
    if !text.starts_with(b"#!") {
        return Ok((text.to_vec(), None));
    }
    let end = text.iter().position(|&byte| byte == b'\n').ok_or(ErrorReply::Fixed("ERR Invalid script shebang"))?;
    let mut words = text[..end].split(|&byte| byte == b' ');
    let engine = words.next().unwrap_or_default();
    if engine != b"#!lua" {
        return Err(ErrorReply::Formatted([b"ERR Unexpected engine in script shebang: ", engine].concat()));
    }
    let mut flags = ScriptFlags::default();
    for word in words {
        let Some(named) = word.strip_prefix(b"flags=") else {
            return Err(ErrorReply::Formatted([b"ERR Unknown lua shebang option: ", word].concat()));
        };
        for flag in named.split(|&byte| byte == b',').filter(|_| !named.is_empty()) {
            match flag {
                b"no-writes" => flags.no_writes = true,
                b"allow-oom" => flags.allow_oom = true,
                b"allow-stale" => flags.allow_stale = true,
                // They are of clusters.
                b"no-cluster" | b"allow-cross-slot-keys" => {}
                _ => return Err(ErrorReply::Formatted([b"ERR Unexpected flag in script shebang: ", flag].concat())),
            }
        }
    }
    Ok((text[end..].to_vec(), Some(flags)))
}

fn digest(text: &[u8]) -> Sha {
    let mut sha = [0; 40];
    sha.copy_from_slice(sha1_smol::Sha1::from(text).digest().to_string().as_bytes());
    sha
}

fn read_sha(text: &[u8]) -> Option<Sha> {
    let mut sha = Sha::try_from(text).ok()?;
    sha.make_ascii_lowercase();
    Some(sha)
}

/// Lua itself failed, which is to say that memory ran out.
fn broken(error: &mlua::Error) -> ErrorReply {
    ErrorReply::Formatted(format!("ERR failed to load the script: {error}").into_bytes())
}

impl fmt::Debug for Scripts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scripts").field("cached", &self.cache.len()).finish_non_exhaustive()
    }
}
