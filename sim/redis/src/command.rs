//! What a command is, and what it sees while it runs: the server, its client's session, and the transaction in it.

use std::borrow::Cow;

use super::{
    data::{Database, Server},
    error_reply::Done,
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
    pub(super) run: CommandWork,
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
    /// `blocking`: it may wait for an element.
    Blocking,
    /// `skip_slowlog`: it is not in the log of slow commands, where those are that it runs.
    SkipSlowlog,
}

impl Flag {
    pub(super) fn name(self) -> &'static str {
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
            Self::Blocking => "blocking",
            Self::SkipSlowlog => "skip_slowlog",
        }
    }
}

/// What a command does.
#[derive(Debug)]
pub(super) enum CommandWork {
    /// Works on the data or the connection.
    Data(fn(&mut CommandCall<'_>, &Args<'_>) -> Done),
    /// Works on the script cache, or runs commands that may.
    Scripts(ScriptCommand),
    /// Its second word says which of these.
    Container(&'static [Command]),
}

/// A command that works on the script cache, or runs commands that may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ScriptCommand {
    Eval,
    EvalSha,
    Exec,
    Exists,
    Flush,
    Load,
}

/// A command's words, its name first. There are as many as its arity demands.
pub(super) type Args<'a> = [Cow<'a, [u8]>];

/// Runs a command that a script calls, and writes its reply.
pub(super) type CallFromScript = fn(&mut CommandCall<'_>, &Args<'_>, &mut RunningScript) -> Done;

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
    /// Its transaction is being run: none of the commands may wait.
    pub(super) is_in_exec: bool,
}

/// What a command sees.
pub(super) struct CommandCall<'a> {
    pub(super) server: &'a mut Server,
    pub(super) session: &'a mut Session,
    /// The server's clock, in milliseconds since the epoch.
    pub(super) now_ms: i64,
    pub(super) out: &'a mut Vec<u8>,
}

impl<'a> CommandCall<'a> {
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

/// What a client has said since MULTI.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    pub(super) queue: Vec<Queued>,
    /// What the queued commands ask for together.
    pub(super) needs: Needs,
    /// A command was refused: EXEC will be, too.
    pub(super) has_failed: bool,
    /// A watched key had changed when a command came: EXEC runs none, and none is queued any more.
    pub(super) is_outdated: bool,
}

/// A command that waits for EXEC.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) command: &'static Command,
    pub(super) args: Vec<Cow<'static, [u8]>>,
}

/// A key that a client watches, in a database.
#[derive(Debug)]
pub(super) struct WatchedKey {
    pub(super) database: usize,
    pub(super) key: Vec<u8>,
}

/// A script that runs.
#[derive(Debug)]
pub(super) struct RunningScript {
    pub(super) flags: Option<ScriptFlags>,
    /// It has called a command that writes.
    pub(super) wrote: bool,
}

/// What a script's `#!lua` line says of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ScriptFlags {
    pub(super) no_writes: bool,
    pub(super) allow_oom: bool,
    pub(super) allow_stale: bool,
}

/// What a command asks of the server. EXEC asks for what the commands of the transaction ask for, too.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of Redis, and most go together")]
pub(super) struct Needs {
    /// That it may write.
    pub(super) write: bool,
    /// That there is memory.
    pub(super) memory: bool,
    /// That its data are not stale.
    pub(super) fresh: bool,
    /// That its data are loaded.
    pub(super) loaded: bool,
}

impl Needs {
    /// By a command's flags, of which a script's first line replaces some.
    pub(super) fn of(command: &Command, script: Option<ScriptFlags>) -> Self {
        let has = |flag| command.flags.contains(&flag);
        let loaded = !has(Flag::Loading);
        match script {
            None => Self { write: has(Flag::Write), memory: has(Flag::DenyOom), fresh: !has(Flag::Stale), loaded },
            Some(ScriptFlags { no_writes, allow_oom, allow_stale }) => {
                Self { write: !no_writes, memory: !no_writes && !allow_oom, fresh: !allow_stale, loaded }
            }
        }
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self {
            write: self.write || other.write,
            memory: self.memory || other.memory,
            fresh: self.fresh || other.fresh,
            loaded: self.loaded || other.loaded,
        }
    }
}

impl Command {
    pub(super) fn takes(&self, words: usize) -> bool {
        let words = i32::try_from(words).unwrap_or(i32::MAX);
        if self.arity < 0 { words >= -self.arity } else { words == self.arity }
    }
}
