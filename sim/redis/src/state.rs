//! In which states a server refuses which commands, by the flags that Redis's own table gives each command.
//!
//! A state is refused in three places, as in redis-server 7.0: before a command runs or is queued, before a script runs, and at
//! each command that a script calls. `tests/redis_parity/states.rs` compares all three with a real server in each state.

use super::{
    command::{Command, Flag, Needs, RunningScript, ScriptFlags},
    data::Server,
    error_reply::ErrorReply,
};
use crate::Refusal;

const READ_ONLY: ErrorReply = ErrorReply::Fixed("READONLY You can't write against a read only replica.");
const OUT_OF_MEMORY: ErrorReply = ErrorReply::Fixed("OOM command not allowed when used memory > 'maxmemory'.");
const MASTER_DOWN: ErrorReply =
    ErrorReply::Fixed("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.");
const MISCONFIGURED: ErrorReply = ErrorReply::Fixed(
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk. Commands that may \
     modify the data set are disabled, because this instance is configured to report errors during writes if RDB \
     snapshotting fails (stop-writes-on-bgsave-error option). Please check the Redis logs for details about the RDB \
     error.",
);
const LOADING: ErrorReply = ErrorReply::Fixed("LOADING Redis is loading the dataset in memory");
const BUSY: ErrorReply =
    ErrorReply::Fixed("BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.");
const SCRIPT_READ_ONLY: ErrorReply =
    ErrorReply::Fixed("READONLY Can not run script with write flag on readonly replica");
const SCRIPT_WITHOUT_MASTER: ErrorReply = ErrorReply::Fixed(
    "MASTERDOWN Link with MASTER is down, replica-serve-stale-data is set to 'no' and 'allow-stale' flag is not set on the \
     script.",
);
const SCRIPT_MISCONFIGURED: ErrorReply = ErrorReply::Fixed(
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk. Writable scripts are \
     blocked. Use 'no-writes' flag for read only scripts.",
);
const SCRIPT_OUT_OF_MEMORY: ErrorReply =
    ErrorReply::Fixed("OOM allow-oom flag is not set on the script, can not run it when used memory > 'maxmemory'");
const NO_AUTH: ErrorReply = ErrorReply::Fixed("NOAUTH Authentication required.");

/// Whether a command can be refused at present.
pub(super) fn may_refuse(server: &Server) -> bool {
    server.state.is_some() || !server.denied.is_empty()
}

/// Why a server refuses a command of a client, if it does.
pub(super) fn refuses(server: &Server, command: &Command, needs: Needs, is_queueing: bool) -> Option<ErrorReply> {
    let is_known = server.state != Some(Refusal::NoAuth);
    if is_known && is_denied(server, command) {
        return Some(no_permission(command));
    }
    server.state.and_then(|state| refuses_in(state, command, needs, is_queueing))
}

/// Whether no user may run a command.
pub(super) fn is_denied(server: &Server, command: &Command) -> bool {
    server.denied.contains(&command.name)
}

fn no_permission(command: &Command) -> ErrorReply {
    let name = command.name;
    ErrorReply::Formatted(format!("NOPERM this user has no permissions to run the '{name}' command").into_bytes())
}

fn refuses_in(state: Refusal, command: &Command, needs: Needs, is_queueing: bool) -> Option<ErrorReply> {
    let has = |flag| command.flags.contains(&flag);
    match state {
        Refusal::NoAuth => (!has(Flag::NoAuth)).then_some(NO_AUTH),
        Refusal::NoPermission => (!has(Flag::NoAuth)).then(|| no_permission(command)),
        // A transaction takes memory with every command, but for those that end it.
        Refusal::OutOfMemory => {
            let queues = is_queueing && !matches!(command.name, "exec" | "discard" | "quit");
            (needs.memory || queues).then_some(OUT_OF_MEMORY)
        }
        // Whoever asks whether the server is well hears of it too.
        Refusal::Misconfigured => (needs.write || command.name == "ping").then_some(MISCONFIGURED),
        Refusal::ReadOnly => needs.write.then_some(READ_ONLY),
        // It is a replica, and replicas are read-only: that is looked at first.
        Refusal::MasterDown if needs.write => Some(READ_ONLY),
        Refusal::MasterDown => needs.fresh.then_some(MASTER_DOWN),
        Refusal::Loading => needs.loaded.then_some(LOADING),
        Refusal::Busy => (!has(Flag::AllowBusy)).then_some(BUSY),
        Refusal::MaxClients => None,
    }
}

/// Why it does not begin to run a script, if so. Without flags that is left to the commands that the script calls. What a
/// script says of itself is looked at before the command that runs it, too, so these texts are heard in a transaction alone,
/// and there only where the script came after the command.
pub(super) fn refuses_script(state: Refusal, flags: Option<ScriptFlags>) -> Option<ErrorReply> {
    let Some(flags) = flags else { return (state == Refusal::MasterDown).then_some(MASTER_DOWN) };
    match state {
        Refusal::MasterDown if !flags.allow_stale => Some(SCRIPT_WITHOUT_MASTER),
        Refusal::ReadOnly | Refusal::MasterDown if !flags.no_writes => Some(SCRIPT_READ_ONLY),
        Refusal::Misconfigured if !flags.no_writes => Some(SCRIPT_MISCONFIGURED),
        Refusal::OutOfMemory if !flags.no_writes && !flags.allow_oom => Some(SCRIPT_OUT_OF_MEMORY),
        _ => None,
    }
}

/// Why it refuses a command that a script calls, if so. One that called a command that writes before is not stopped
/// halfway, except by what its user is denied.
pub(super) fn refuses_from_script(server: &Server, command: &Command, script: &RunningScript) -> Option<ErrorReply> {
    let RunningScript { flags, wrote } = *script;
    let (state, flags) = (server.state, flags.unwrap_or_default());
    if is_denied(server, command) {
        return Some(ErrorReply::Fixed("ERR The user executing the script can't run this command or subcommand"));
    }
    let has = |flag| command.flags.contains(&flag);
    if state == Some(Refusal::MasterDown) && !has(Flag::Stale) {
        return Some(ErrorReply::Fixed("ERR Can not execute the command on a stale replica"));
    }
    if has(Flag::Write) && flags.no_writes {
        return Some(ErrorReply::Fixed("ERR Write commands are not allowed from read-only scripts."));
    }
    match state {
        _ if wrote => None,
        Some(Refusal::ReadOnly | Refusal::MasterDown) if has(Flag::Write) => Some(READ_ONLY),
        Some(Refusal::Misconfigured) if has(Flag::Write) => Some(MISCONFIGURED),
        Some(Refusal::OutOfMemory) if has(Flag::DenyOom) && !flags.allow_oom => Some(OUT_OF_MEMORY),
        _ => None,
    }
}
