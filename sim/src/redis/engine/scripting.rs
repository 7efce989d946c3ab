//! EVAL, EVALSHA and SCRIPT, and the cache of compiled scripts.

use std::{collections::BTreeMap, fmt};

use mlua::Function;

use super::{
    command::{Args, Call, Command, Done, Refusal, Run, integer},
    lua::{Interpreter, SharedRandom},
    reply,
};

pub(super) const COMMANDS: &[Command] = &[
    Command { name: "eval", arity: -3, run: Run::Scripts(eval) },
    Command { name: "evalsha", arity: -3, run: Run::Scripts(evalsha) },
    Command { name: "script", arity: -2, run: Run::Container(SCRIPT) },
];

const SCRIPT: &[Command] = &[
    Command { name: "script|exists", arity: -3, run: Run::Scripts(script_exists) },
    Command { name: "script|flush", arity: -2, run: Run::Scripts(script_flush) },
    Command { name: "script|kill", arity: 2, run: Run::NotFromScripts(script_kill) },
    Command { name: "script|load", arity: 3, run: Run::Scripts(script_load) },
];

const NO_SCRIPT: Refusal = Refusal::Fixed("NOSCRIPT No matching script. Please use EVAL.");

/// The scripts that a process knows, and the Lua state that they run in.
#[derive(Default)]
pub(super) struct Scripts {
    /// None until the first script: most engines of a run never need one.
    interpreter: Option<Interpreter>,
    cache: BTreeMap<Sha, Function>,
    random: SharedRandom,
}

/// A digest in 40 lower case digits.
type Sha = [u8; 40];

impl Scripts {
    /// Forgets every script, and the Lua state with them.
    pub(super) fn flush(&mut self) -> usize {
        self.interpreter = None;
        std::mem::take(&mut self.cache).len()
    }

    /// Compiles a script unless the cache has it.
    fn load(&mut self, text: &[u8]) -> Result<Sha, Refusal> {
        let sha = digest(text);
        if !self.cache.contains_key(&sha) {
            let interpreter = match &mut self.interpreter {
                Some(interpreter) => interpreter,
                none => none.insert(Interpreter::new(&self.random).map_err(|error| broken(&error))?),
            };
            let function = interpreter.compile(&without_shebang(text)?).map_err(|error| broken(&error))?;
            let function = function.map_err(|message| {
                Refusal::Formatted([b"ERR Error compiling script (new function): ", &message[..]].concat())
            })?;
            self.cache.insert(sha, function);
        }
        Ok(sha)
    }

    fn run(&mut self, call: &mut Call<'_>, sha: &Sha, args: &Args<'_>, key_count: usize) -> Done {
        let (Some(interpreter), Some(script)) = (&self.interpreter, self.cache.get(sha)) else {
            return Err(NO_SCRIPT);
        };
        let (keys, rest) = args[3..].split_at(key_count);
        interpreter.run(call, script, &String::from_utf8_lossy(sha), keys, rest);
        Ok(())
    }
}

fn eval(call: &mut Call<'_>, scripts: &mut Scripts, args: &Args<'_>) -> Done {
    let keys = key_count(args)?;
    let sha = scripts.load(&args[1])?;
    scripts.run(call, &sha, args, keys)
}

fn evalsha(call: &mut Call<'_>, scripts: &mut Scripts, args: &Args<'_>) -> Done {
    let sha = read_sha(&args[1]).ok_or(NO_SCRIPT)?;
    let keys = key_count(args)?;
    scripts.run(call, &sha, args, keys)
}

fn script_load(call: &mut Call<'_>, scripts: &mut Scripts, args: &Args<'_>) -> Done {
    let sha = scripts.load(&args[2])?;
    reply::bulk(call.out, &sha);
    Ok(())
}

fn script_exists(call: &mut Call<'_>, scripts: &mut Scripts, args: &Args<'_>) -> Done {
    reply::array(call.out, args.len() - 2);
    for sha in &args[2..] {
        let known = read_sha(sha).is_some_and(|sha| scripts.cache.contains_key(&sha));
        reply::integer(call.out, i64::from(known));
    }
    Ok(())
}

fn script_flush(call: &mut Call<'_>, scripts: &mut Scripts, args: &Args<'_>) -> Done {
    match &args[2..] {
        [] => {}
        [mode] if mode.eq_ignore_ascii_case(b"sync") || mode.eq_ignore_ascii_case(b"async") => {}
        _ => return Err(Refusal::Fixed("ERR SCRIPT FLUSH only support SYNC|ASYNC option")),
    }
    scripts.flush();
    reply::status(call.out, b"OK");
    Ok(())
}

fn script_kill(_: &mut Call<'_>, _: &Args<'_>) -> Done {
    Err(Refusal::Fixed("NOTBUSY No scripts in execution right now."))
}

fn key_count(args: &Args<'_>) -> Result<usize, Refusal> {
    let count = integer(&args[2])?;
    let count = usize::try_from(count).map_err(|_| Refusal::Fixed("ERR Number of keys can't be negative"))?;
    if count > args.len() - 3 {
        return Err(Refusal::Fixed("ERR Number of keys can't be greater than number of args"));
    }
    Ok(count)
}

/// A script's text as Lua takes it: the first line may say `#!lua`, and stays in place as an empty one.
fn without_shebang(text: &[u8]) -> Result<Vec<u8>, Refusal> {
    if !text.starts_with(b"#!") {
        return Ok(text.to_vec());
    }
    let end = text.iter().position(|&byte| byte == b'\n').ok_or(Refusal::Fixed("ERR Invalid script shebang"))?;
    let mut words = text[..end].split(|&byte| byte == b' ');
    let engine = words.next().unwrap_or_default();
    if engine != b"#!lua" {
        return Err(Refusal::Formatted([b"ERR Unexpected engine in script shebang: ", engine].concat()));
    }
    match words.find(|word| !word.starts_with(b"flags=")) {
        Some(option) => Err(Refusal::Formatted([b"ERR Unknown lua shebang option: ", option].concat())),
        None => Ok(text[end..].to_vec()),
    }
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
fn broken(error: &mlua::Error) -> Refusal {
    Refusal::Formatted(format!("ERR failed to load the script: {error}").into_bytes())
}

impl fmt::Debug for Scripts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scripts").field("cached", &self.cache.len()).finish_non_exhaustive()
    }
}
