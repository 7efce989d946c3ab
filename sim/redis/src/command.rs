//! The table of commands, the checks before one runs, and what a command sees while it runs.

use std::{borrow::Cow, collections::BTreeMap, sync::LazyLock};

use super::{
    connection,
    data::{Database, Server},
    hash, keyspace, list, missing, number, reply, scan,
    scripting::{self, Scripts},
    server,
    state::{self, Needs, ScriptFlags},
    string,
    transaction::{self, Transaction, WatchedKey},
};

/// A command of the table.
#[derive(Debug)]
pub(super) struct Command {
    /// Its name in lower case; a subcommand's with its container, as in `client|id`.
    pub(super) name: &'static str,
    /// The number of words with the name; at least so many if negative.
    pub(super) arity: i32,
    /// Those that Redis's COMMAND INFO gives it, as far as they are known here.
    pub(super) flags: &'static [Flag],
    /// What it does.
    pub(super) run: Run,
}

/// A property of a command, by Redis's name for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flag {
    /// `write`: it may change the data.
    Write,
    /// `readonly`: it reads the data.
    ReadOnly,
    /// `denyoom`: it may need memory, and is refused when that is full.
    DenyOom,
    /// `loading`: it works while the data set is loaded.
    Loading,
    /// `stale`: it works on a replica that has lost its master and serves no stale data.
    Stale,
    /// `noscript`: scripts may not call it.
    NoScript,
    /// `fast`: it takes constant or logarithmic time.
    Fast,
    /// `no_auth`: it works before the client has authenticated, and no user can be denied it.
    NoAuth,
    /// `allow_busy`: it works while a script runs for too long.
    AllowBusy,
    /// `skip_slowlog`: it is not in the log of slow commands, where those are that it runs.
    SkipSlowlog,
}

impl Flag {
    fn name(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::ReadOnly => "readonly",
            Self::DenyOom => "denyoom",
            Self::Loading => "loading",
            Self::Stale => "stale",
            Self::NoScript => "noscript",
            Self::Fast => "fast",
            Self::NoAuth => "no_auth",
            Self::AllowBusy => "allow_busy",
            Self::SkipSlowlog => "skip_slowlog",
        }
    }
}

/// What a command does.
#[derive(Debug)]
pub(super) enum Run {
    /// Works on the data or the connection.
    Data(fn(&mut Call<'_>, &Args<'_>) -> Done),
    /// Works on the script cache, or runs commands that may.
    Scripts(fn(&mut Call<'_>, &mut Scripts, &Args<'_>) -> Done),
    /// Its second word says which of these.
    Container(&'static [Command]),
}

/// A command's words, its name first. There are as many as its arity demands.
pub(super) type Args<'a> = [Cow<'a, [u8]>];

/// A command has written its reply, or refuses.
pub(super) type Done = Result<(), ErrorReply>;

/// Why a command refuses: the text of the error, code first.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ErrorReply {
    /// A text of Redis.
    Fixed(&'static str),
    /// A text with words of the client in it.
    Formatted(Vec<u8>),
}

pub(super) const WRONG_TYPE: ErrorReply =
    ErrorReply::Fixed("WRONGTYPE Operation against a key holding the wrong kind of value");
pub(super) const NOT_AN_INTEGER: ErrorReply = ErrorReply::Fixed("ERR value is not an integer or out of range");
pub(super) const SYNTAX: ErrorReply = ErrorReply::Fixed("ERR syntax error");
pub(super) const OVERFLOW: ErrorReply = ErrorReply::Fixed("ERR increment or decrement would overflow");

/// What the server knows of a connection.
#[derive(Debug, Default)]
pub(super) struct Session {
    /// What CLIENT ID answers.
    pub(super) id: i64,
    /// What CLIENT GETNAME answers; empty if none.
    pub(super) name: Vec<u8>,
    /// The selected database.
    pub(super) database: usize,
    /// What it has said since MULTI.
    pub(super) transaction: Option<Transaction>,
    /// The keys that it watches.
    pub(super) watched: Vec<WatchedKey>,
}

/// What a command sees.
pub(super) struct Call<'a> {
    pub(super) server: &'a mut Server,
    pub(super) session: &'a mut Session,
    /// The server's clock, in milliseconds since the epoch.
    pub(super) now_ms: i64,
    pub(super) out: &'a mut Vec<u8>,
}

impl<'a> Call<'a> {
    pub(super) fn new(server: &'a mut Server, session: &'a mut Session, now_ms: u64, out: &'a mut Vec<u8>) -> Self {
        let now_ms = i64::try_from(now_ms).unwrap_or(i64::MAX);
        server.started_at_ms.get_or_insert(now_ms);
        Self { server, session, now_ms, out }
    }

    /// The selected database.
    pub(super) fn database(&mut self) -> &mut Database {
        self.server.database(self.session.database)
    }
}

/// Runs a command that a client sent, and writes its reply.
pub(super) fn execute(call: &mut Call<'_>, scripts: &mut Scripts, args: &Args<'_>) {
    let done = match find(args).inspect_err(|_| note_missing(call.server, args)) {
        Err(unknown) => transaction::fail(call, None, unknown),
        Ok(command) => match inadmissible(call, scripts, command, args) {
            Some(refusal) => transaction::fail(call, Some(command), refusal),
            None if transaction::is_queued(call.session, command) => transaction::queue(call, scripts, command, args),
            None => run(call, scripts, command, args),
        },
    };
    refuse(call.out, done);
}

/// Why a command of a client is neither run nor queued, if so.
fn inadmissible(call: &mut Call<'_>, scripts: &Scripts, command: &Command, args: &Args<'_>) -> Option<ErrorReply> {
    if !command.takes(args.len()) {
        return Some(wrong_arity(command.name));
    }
    if !state::may_refuse(call.server) {
        return None;
    }
    let queued = call.session.transaction.as_ref().filter(|_| command.name == "exec").map(Transaction::needs);
    let needs = Needs::of(command, scripts.promises(command, args)).and(queued.unwrap_or_default());
    let refusal = state::refuses(call.server, command, needs, call.session.transaction.is_some());
    call.server.refusals += u64::from(refusal.is_some());
    refusal
}

/// Runs a command, in a transaction or not, that its client may run.
pub(super) fn run(call: &mut Call<'_>, scripts: &mut Scripts, command: &'static Command, args: &Args<'_>) -> Done {
    call.server.commands += 1;
    match command.run {
        Run::Data(run) => run(call, args),
        Run::Scripts(run) => run(call, scripts, args),
        Run::Container(_) => Err(wrong_arity(command.name)),
    }
}

/// A script that runs.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) flags: Option<ScriptFlags>,
    /// It has called a command that writes.
    pub(super) wrote: bool,
}

/// Runs a command that a script called, and writes its reply; an error if the script may not call it so.
pub(super) fn execute_from_script(call: &mut Call<'_>, args: &Args<'_>, script: &mut Running) -> Done {
    let found = find(args).inspect_err(|_| note_missing(call.server, args));
    let command = found.map_err(|_| ErrorReply::Fixed("ERR Unknown Redis command called from script"))?;
    if !command.takes(args.len()) {
        return Err(ErrorReply::Fixed("ERR Wrong number of args calling Redis command from script"));
    }
    let run = match command.run {
        Run::Data(run) if !command.flags.contains(&Flag::NoScript) => run,
        _ => return Err(ErrorReply::Fixed("ERR This Redis command is not allowed from script")),
    };
    if let Some(refusal) = state::refuses_from_script(call.server, command, script) {
        return call.server.refuse(refusal);
    }
    script.wrote |= command.flags.contains(&Flag::Write);
    call.server.commands += 1;
    let done = run(call, args);
    refuse(call.out, done);
    Ok(())
}

/// The error for a command with too few or too many words.
pub(super) fn wrong_arity(name: &str) -> ErrorReply {
    ErrorReply::Formatted(format!("ERR wrong number of arguments for '{name}' command").into_bytes())
}

/// A word as a number.
pub(super) fn integer(word: &[u8]) -> Result<i64, ErrorReply> {
    number::parse(word).ok_or(NOT_AN_INTEGER)
}

impl ErrorReply {
    pub(super) fn text(&self) -> &[u8] {
        match self {
            Self::Fixed(text) => text.as_bytes(),
            Self::Formatted(text) => text,
        }
    }
}

impl Command {
    fn takes(&self, words: usize) -> bool {
        let words = i32::try_from(words).unwrap_or(i32::MAX);
        if self.arity < 0 { words >= -self.arity } else { words == self.arity }
    }
}

/// By name, as [`name_key`] has it.
static COMMANDS: LazyLock<BTreeMap<u128, &'static Command>> = LazyLock::new(|| {
    [
        connection::COMMANDS,
        string::COMMANDS,
        hash::COMMANDS,
        list::COMMANDS,
        keyspace::COMMANDS,
        scan::COMMANDS,
        server::COMMANDS,
        scripting::COMMANDS,
        transaction::COMMANDS,
    ]
    .into_iter()
    .flatten()
    .map(|command| (name_key(command.name.as_bytes()).expect("a name of at most 16 bytes"), command))
    .collect()
});

/// Every command but containers, and the names of its flags.
pub(super) fn flags() -> Vec<(&'static str, Vec<&'static str>)> {
    let members = COMMANDS.values().flat_map(|command| match command.run {
        Run::Container(members) => members,
        Run::Data(_) | Run::Scripts(_) => std::slice::from_ref(*command),
    });
    members.map(|command| (command.name, command.flags.iter().map(|flag| flag.name()).collect())).collect()
}

fn find(args: &Args<'_>) -> Result<&'static Command, ErrorReply> {
    let Some(command) = args.first().and_then(|name| lookup(name)) else { return Err(unknown_command(args)) };
    let (Run::Container(members), Some(member)) = (&command.run, args.get(1)) else { return Ok(command) };
    let found = members.iter().find(|candidate| {
        candidate.name.split_once('|').is_some_and(|(_, name)| member.eq_ignore_ascii_case(name.as_bytes()))
    });
    found.ok_or_else(|| {
        let member = reply::c_string(member);
        let container = command.name.to_ascii_uppercase();
        let parts: [&[u8]; 5] = [
            b"ERR unknown subcommand '",
            &member[..member.len().min(128)],
            b"'. Try ",
            container.as_bytes(),
            b" HELP.",
        ];
        ErrorReply::Formatted(parts.concat())
    })
}

/// Notes a command that a real server would have known.
fn note_missing(server: &mut Server, args: &Args<'_>) {
    let asked = args.first().and_then(|name| missing::missing(name, args.get(1).map(|member| &**member)));
    server.missing.extend(asked);
}

fn lookup(name: &[u8]) -> Option<&'static Command> {
    COMMANDS.get(&name_key(name)?).copied()
}

/// A name in lower case as one number: a script looks up many names, and numbers are compared in one step. None for a name that
/// no command can have.
fn name_key(name: &[u8]) -> Option<u128> {
    let mut lower = [0; 16];
    lower.get_mut(..name.len())?.copy_from_slice(name);
    lower.make_ascii_lowercase();
    // "get" and "get\0" would be one number.
    (name.last() != Some(&0)).then(|| u128::from_be_bytes(lower))
}

fn unknown_command(args: &Args<'_>) -> ErrorReply {
    let name = args.first().map(|name| reply::c_string(name)).unwrap_or_default();
    let mut shown = Vec::new();
    for arg in args.iter().skip(1) {
        // Redis cuts what it shows at 128 bytes, but the quotes and the space come on top.
        let Some(room) = 128_usize.checked_sub(shown.len()).filter(|&room| room > 0) else { break };
        let arg = reply::c_string(arg);
        shown.push(b'\'');
        shown.extend_from_slice(&arg[..arg.len().min(room)]);
        shown.extend_from_slice(b"' ");
    }
    let parts = [&b"ERR unknown command '"[..], &name[..name.len().min(128)], b"', with args beginning with: ", &shown];
    ErrorReply::Formatted(parts.concat())
}

/// Writes the error of a command that refuses.
pub(super) fn refuse(out: &mut Vec<u8>, done: Done) {
    match done {
        Ok(()) => {}
        Err(ErrorReply::Fixed(text)) => reply::error(out, text),
        Err(ErrorReply::Formatted(text)) => reply::error_format(out, &[&text]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_lower_case_and_fits_the_lookup() {
        for command in COMMANDS.values() {
            let found = lookup(command.name.to_ascii_uppercase().as_bytes());
            assert_eq!(found.map(|found| found.name), Some(command.name));
        }
        for name in [&b""[..], b"get\0", b"\0get", b"ge", b"get ", b"zrevrangebyscoreZ", b"g\xc3\xa9t"] {
            assert!(lookup(name).is_none(), "{}", name.escape_ascii());
        }
    }
}
