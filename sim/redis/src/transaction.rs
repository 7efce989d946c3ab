//! MULTI, EXEC, DISCARD, WATCH and UNWATCH.
//!
//! A command is looked at when it is queued as if it were to run: one that is refused then fails the whole transaction. EXEC
//! is refused where one of its commands would be. What a client watches is known to the databases ([`Database::touch`]);
//! the client asks them when it is about to run its transaction.
//!
//! [`Database::touch`]: super::data::Database::touch

use std::borrow::Cow;

use super::{
    command::{
        Args, Command, CommandCall, CommandWork, Flag, Needs, Queued, ScriptCommand, Session, Transaction, WatchedKey,
    },
    data::Server,
    error_reply::{Done, ErrorReply, refuse},
    reply,
    scripting::Scripts,
    state,
};

pub(super) const COMMANDS: &[Command] = &[
    Command { name: "discard", arity: 1, flags: AT_ANY_TIME, run: CommandWork::Data(discard) },
    Command {
        name: "exec",
        arity: 1,
        flags: &[Flag::NoScript, Flag::Loading, Flag::Stale, Flag::SkipSlowlog],
        run: CommandWork::Scripts(ScriptCommand::Exec),
    },
    Command { name: "multi", arity: 1, flags: AT_ANY_TIME, run: CommandWork::Data(multi) },
    Command { name: "unwatch", arity: 1, flags: AT_ANY_TIME, run: CommandWork::Data(unwatch) },
    Command { name: "watch", arity: -2, flags: AT_ANY_TIME, run: CommandWork::Data(watch) },
];

const AT_ANY_TIME: &[Flag] = &[Flag::NoScript, Flag::Loading, Flag::Stale, Flag::Fast, Flag::AllowBusy];

/// Whether a command waits for EXEC instead of being run.
pub(super) fn is_queued(session: &Session, command: &Command) -> bool {
    session.transaction.is_some() && !matches!(command.name, "exec" | "discard" | "multi" | "watch" | "quit")
}

/// Takes a command into the transaction of its client.
pub(super) fn queue(call: &mut CommandCall<'_>, scripts: &Scripts, command: &'static Command, args: &Args<'_>) -> Done {
    let has_changed = has_changed(call.server, call.session, None);
    if let Some(transaction) = &mut call.session.transaction {
        transaction.is_outdated |= has_changed;
        if !transaction.is_outdated && !transaction.has_failed {
            transaction.needs = transaction.needs.and(Needs::of(command, scripts.promises(command, args)));
            let args = args.iter().map(|word| Cow::Owned(word.to_vec())).collect();
            transaction.queue.push(Queued { command, args });
        }
    }
    reply::status(call.out, b"QUEUED");
    Ok(())
}

/// A command was refused before it could run or be queued: so is the transaction that it was for. With EXEC the transaction
/// is over.
pub(super) fn fail(call: &mut CommandCall<'_>, command: Option<&Command>, refusal: ErrorReply) -> Done {
    if command.is_none_or(|command| command.name != "exec") {
        if let Some(transaction) = &mut call.session.transaction {
            transaction.has_failed = true;
        }
        return Err(refusal);
    }
    end(call);
    let text = refusal.text();
    let reason = text.strip_prefix(b"ERR ").unwrap_or(text);
    Err(ErrorReply::Formatted([b"EXECABORT Transaction discarded because of: ", reason].concat()))
}

fn multi(call: &mut CommandCall<'_>, _: &Args<'_>) -> Done {
    if call.session.transaction.is_some() {
        return Err(ErrorReply::Fixed("ERR MULTI calls can not be nested"));
    }
    call.session.transaction = Some(Transaction::default());
    reply::status(call.out, b"OK");
    Ok(())
}

fn discard(call: &mut CommandCall<'_>, _: &Args<'_>) -> Done {
    if call.session.transaction.is_none() {
        return Err(ErrorReply::Fixed("ERR DISCARD without MULTI"));
    }
    end(call);
    reply::status(call.out, b"OK");
    Ok(())
}

/// EXEC: runs each command of the transaction with `run`.
pub(super) fn exec(
    call: &mut CommandCall<'_>,
    mut run: impl FnMut(&mut CommandCall<'_>, &'static Command, &Args<'_>) -> Done,
) -> Done {
    if call.session.transaction.is_none() {
        return Err(ErrorReply::Fixed("ERR EXEC without MULTI"));
    }
    let has_changed = has_changed(call.server, call.session, Some(call.now_ms));
    let Transaction { queue, has_failed, is_outdated, .. } = end(call).unwrap_or_default();
    if has_failed {
        return Err(ErrorReply::Fixed("EXECABORT Transaction discarded because of previous errors."));
    }
    if is_outdated || has_changed {
        reply::null_array(call.out);
        return Ok(());
    }
    reply::array(call.out, queue.len());
    call.session.is_in_exec = true;
    for Queued { command, args } in queue {
        let done = if state::is_denied(call.server, command) {
            call.server.refuse(NO_LONGER_ALLOWED)
        } else {
            run(call, command, &args)
        };
        refuse(call.out, done);
    }
    call.session.is_in_exec = false;
    Ok(())
}

const NO_LONGER_ALLOWED: ErrorReply = ErrorReply::Fixed(
    "NOPERM ACLs rules changed between the moment the transaction was accumulated and the EXEC call. This command is no \
     longer allowed for the following reason: no permission to execute the command or subcommand",
);

fn watch(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    if call.session.transaction.is_some() {
        return Err(ErrorReply::Fixed("ERR WATCH inside MULTI is not allowed"));
    }
    let CommandCall { server, session, now_ms, .. } = call;
    for key in &args[1..] {
        if server.database(session.database).watch(key, session.id, *now_ms) {
            session.watched.push(WatchedKey { database: session.database, key: key.to_vec() });
        }
    }
    reply::status(call.out, b"OK");
    Ok(())
}

fn unwatch(call: &mut CommandCall<'_>, _: &Args<'_>) -> Done {
    unwatch_all(call.server, call.session);
    reply::status(call.out, b"OK");
    Ok(())
}

/// A client watches no key any more.
pub(super) fn unwatch_all(server: &mut Server, session: &mut Session) {
    for WatchedKey { database, key } in session.watched.drain(..) {
        server.database(database).unwatch(&key, session.id);
    }
}

/// Whether a key that the client watches has changed since.
fn has_changed(server: &mut Server, session: &Session, now_ms: Option<i64>) -> bool {
    session
        .watched
        .iter()
        .any(|WatchedKey { database, key }| server.database(*database).has_changed(key, session.id, now_ms))
}

/// Ends the transaction of a client, if there is one. It watches no key any more in any case.
fn end(call: &mut CommandCall<'_>) -> Option<Transaction> {
    unwatch_all(call.server, call.session);
    call.session.transaction.take()
}
