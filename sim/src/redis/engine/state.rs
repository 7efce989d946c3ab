//! In which states a server refuses which commands, by the flags that Redis's own table gives each command.
//!
//! A state is refused in three places, as in redis-server 7.0: before a command runs, before a script runs, and at each
//! command that a script calls. `tests/redis_parity/states.rs` compares all three with a real server in each state.

use super::{
    command::{Command, Flag, Refusal, Running},
    data::Server,
};
use crate::faults::Refusal as State;

const READ_ONLY: Refusal = Refusal::Fixed("READONLY You can't write against a read only replica.");
const OUT_OF_MEMORY: Refusal = Refusal::Fixed("OOM command not allowed when used memory > 'maxmemory'.");
const MASTER_DOWN: Refusal =
    Refusal::Fixed("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.");
const MISCONFIGURED: Refusal = Refusal::Fixed(
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk. Commands that may \
     modify the data set are disabled, because this instance is configured to report errors during writes if RDB \
     snapshotting fails (stop-writes-on-bgsave-error option). Please check the Redis logs for details about the RDB \
     error.",
);
const LOADING: Refusal = Refusal::Fixed("LOADING Redis is loading the dataset in memory");
const BUSY: Refusal =
    Refusal::Fixed("BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.");
const NO_AUTH: Refusal = Refusal::Fixed("NOAUTH Authentication required.");

/// What a script's `#!lua` line says of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ScriptFlags {
    pub(super) no_writes: bool,
    pub(super) allow_oom: bool,
    pub(super) allow_stale: bool,
}

/// Why a server refuses a command of a client, if it does.
pub(super) fn refuses(server: &Server, command: &Command) -> Option<Refusal> {
    let is_known = server.state != Some(State::NoAuth);
    if is_known && server.denied.is_some_and(|denied| denied.commands().contains(&command.name)) {
        return Some(no_permission(command));
    }
    server.state.and_then(|state| refuses_in(state, command))
}

fn no_permission(command: &Command) -> Refusal {
    let name = command.name;
    Refusal::Formatted(format!("NOPERM this user has no permissions to run the '{name}' command").into_bytes())
}

fn refuses_in(state: State, command: &Command) -> Option<Refusal> {
    let has = |flag| command.flags.contains(&flag);
    match state {
        State::NoAuth => (!has(Flag::NoAuth)).then_some(NO_AUTH),
        State::NoPermission => (!has(Flag::NoAuth)).then(|| no_permission(command)),
        State::OutOfMemory => has(Flag::DenyOom).then_some(OUT_OF_MEMORY),
        // Whoever asks whether the server is well hears of it too.
        State::Misconfigured => (has(Flag::Write) || command.name == "ping").then_some(MISCONFIGURED),
        State::ReadOnly => has(Flag::Write).then_some(READ_ONLY),
        // It is a replica, and replicas are read-only: that is looked at first.
        State::MasterDown if has(Flag::Write) => Some(READ_ONLY),
        State::MasterDown => (!has(Flag::Stale)).then_some(MASTER_DOWN),
        State::Loading => (!has(Flag::Loading)).then_some(LOADING),
        State::Busy => (!has(Flag::AllowBusy)).then_some(BUSY),
        State::MaxClients => None,
    }
}

/// Why it does not begin to run a script, if so. Without flags that is left to the commands that the script calls.
pub(super) fn refuses_script(state: State, flags: Option<ScriptFlags>) -> Option<Refusal> {
    let Some(flags) = flags else { return (state == State::MasterDown).then_some(MASTER_DOWN) };
    match state {
        State::ReadOnly | State::MasterDown if !flags.no_writes => Some(READ_ONLY),
        State::MasterDown if !flags.allow_stale => Some(MASTER_DOWN),
        State::Misconfigured if !flags.no_writes => Some(MISCONFIGURED),
        State::OutOfMemory if !flags.no_writes && !flags.allow_oom => Some(OUT_OF_MEMORY),
        _ => None,
    }
}

/// Why it refuses a command that a script calls, if so. One that called a command that writes before is not stopped
/// halfway, except by what its user is denied.
pub(super) fn refuses_from_script(server: &Server, command: &Command, script: &Running) -> Option<Refusal> {
    let Running { flags, wrote } = *script;
    let (state, flags) = (server.state, flags.unwrap_or_default());
    if server.denied.is_some_and(|denied| denied.commands().contains(&command.name)) {
        return Some(Refusal::Fixed("ERR The user executing the script can't run this command or subcommand"));
    }
    let has = |flag| command.flags.contains(&flag);
    if state == Some(State::MasterDown) && !has(Flag::Stale) {
        return Some(Refusal::Fixed("ERR Can not execute the command on a stale replica"));
    }
    if has(Flag::Write) && flags.no_writes {
        return Some(Refusal::Fixed("ERR Write commands are not allowed from read-only scripts."));
    }
    match state {
        _ if wrote => None,
        Some(State::ReadOnly | State::MasterDown) if has(Flag::Write) => Some(READ_ONLY),
        Some(State::Misconfigured) if has(Flag::Write) => Some(MISCONFIGURED),
        Some(State::OutOfMemory) if has(Flag::DenyOom) && !flags.allow_oom => Some(OUT_OF_MEMORY),
        _ => None,
    }
}
