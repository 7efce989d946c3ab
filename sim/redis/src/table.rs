//! The table of commands, and the checks before one runs.

use std::{collections::BTreeMap, sync::LazyLock};

use super::{
    command::{Args, Command, CommandCall, CommandWork, Flag, Needs, RunningScript, ScriptCommand},
    connection,
    data::Server,
    error_reply::{Done, ErrorReply, refuse, wrong_arity},
    hash, keyspace, list, missing, reply, scan,
    scripting::{self, Scripts},
    server, set, sorted_range, sorted_set, state, string, transaction,
};

/// Runs a command that a client sent, and writes its reply.
pub(super) fn execute(call: &mut CommandCall<'_>, scripts: &mut Scripts, args: &Args<'_>) {
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
fn inadmissible(
    call: &mut CommandCall<'_>,
    scripts: &Scripts,
    command: &Command,
    args: &Args<'_>,
) -> Option<ErrorReply> {
    if !command.takes(args.len()) {
        return Some(wrong_arity(command.name));
    }
    if !state::may_refuse(call.server) {
        return None;
    }
    let queued =
        call.session.transaction.as_ref().filter(|_| command.name == "exec").map(|transaction| transaction.needs);
    let needs = Needs::of(command, scripts.promises(command, args)).and(queued.unwrap_or_default());
    let refusal = state::refuses(call.server, command, needs, call.session.transaction.is_some());
    call.server.refusals += u64::from(refusal.is_some());
    refusal
}

/// Runs a command, in a transaction or not, that its client may run.
fn run(call: &mut CommandCall<'_>, scripts: &mut Scripts, command: &'static Command, args: &Args<'_>) -> Done {
    call.server.commands += 1;
    match command.run {
        CommandWork::Data(work) => work(call, args),
        CommandWork::Scripts(ScriptCommand::Eval) => scripting::eval(call, scripts, args),
        CommandWork::Scripts(ScriptCommand::EvalSha) => scripting::evalsha(call, scripts, args),
        CommandWork::Scripts(ScriptCommand::Exec) => {
            transaction::exec(call, |call, command, args| run(call, scripts, command, args))
        }
        CommandWork::Scripts(ScriptCommand::Exists) => scripting::script_exists(call, scripts, args),
        CommandWork::Scripts(ScriptCommand::Flush) => scripting::script_flush(call, scripts, args),
        CommandWork::Scripts(ScriptCommand::Load) => scripting::script_load(call, scripts, args),
        CommandWork::Container(_) => Err(wrong_arity(command.name)),
    }
}

/// Runs a command that a script called, and writes its reply; an error if the script may not call it so.
pub(super) fn execute_from_script(call: &mut CommandCall<'_>, args: &Args<'_>, script: &mut RunningScript) -> Done {
    let found = find(args).inspect_err(|_| note_missing(call.server, args));
    let command = found.map_err(|_| ErrorReply::Fixed("ERR Unknown Redis command called from script"))?;
    if !command.takes(args.len()) {
        return Err(ErrorReply::Fixed("ERR Wrong number of args calling Redis command from script"));
    }
    let run = match command.run {
        CommandWork::Data(run) if !command.flags.contains(&Flag::NoScript) => run,
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
        set::COMMANDS,
        sorted_range::COMMANDS,
        sorted_set::COMMANDS,
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
        CommandWork::Container(members) => members,
        CommandWork::Data(_) | CommandWork::Scripts(_) => std::slice::from_ref(*command),
    });
    members.map(|command| (command.name, command.flags.iter().map(|flag| flag.name()).collect())).collect()
}

fn find(args: &Args<'_>) -> Result<&'static Command, ErrorReply> {
    let Some(command) = args.first().and_then(|name| lookup(name)) else { return Err(unknown_command(args)) };
    let (CommandWork::Container(members), Some(member)) = (&command.run, args.get(1)) else { return Ok(command) };
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
