//! Commands on the connection: PING, ECHO, SELECT, HELLO, AUTH, CLIENT. QUIT is in the loop that reads requests.

use super::{
    command::{Args, Command, CommandCall, CommandWork, Flag},
    data::DATABASES,
    error_reply::{Done, ErrorReply, SYNTAX, integer, wrong_arity},
    reply,
};
use crate::Refusal;

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "auth",
        arity: -2,
        flags: &[Flag::NoScript, Flag::Loading, Flag::Stale, Flag::Fast, Flag::NoAuth, Flag::AllowBusy],
        run: CommandWork::Data(auth),
    },
    Command { name: "client", arity: -2, flags: &[], run: CommandWork::Container(CLIENT) },
    Command { name: "echo", arity: 2, flags: &[Flag::Loading, Flag::Stale, Flag::Fast], run: CommandWork::Data(echo) },
    Command {
        name: "hello",
        arity: -1,
        flags: &[Flag::NoScript, Flag::Loading, Flag::Stale, Flag::Fast, Flag::NoAuth, Flag::AllowBusy],
        run: CommandWork::Data(hello),
    },
    Command { name: "ping", arity: -1, flags: &[Flag::Fast], run: CommandWork::Data(ping) },
    // The loop that reads requests answers QUIT; this is for scripts, which may not call it.
    Command {
        name: "quit",
        arity: -1,
        flags: &[Flag::NoScript, Flag::Loading, Flag::Stale, Flag::Fast, Flag::NoAuth, Flag::AllowBusy],
        run: CommandWork::Data(quit),
    },
    Command {
        name: "select",
        arity: 2,
        flags: &[Flag::Loading, Flag::Stale, Flag::Fast],
        run: CommandWork::Data(select),
    },
];

// CLIENT SETINFO came with 7.2: here it is an unknown subcommand, as in 7.0.
const CLIENT: &[Command] = &[
    Command {
        name: "client|getname",
        arity: 2,
        flags: &[Flag::NoScript, Flag::Loading, Flag::Stale],
        run: CommandWork::Data(client_getname),
    },
    Command {
        name: "client|id",
        arity: 2,
        flags: &[Flag::NoScript, Flag::Loading, Flag::Stale],
        run: CommandWork::Data(client_id),
    },
    Command {
        name: "client|setname",
        arity: 3,
        flags: &[Flag::NoScript, Flag::Loading, Flag::Stale],
        run: CommandWork::Data(client_setname),
    },
];

const NOT_AUTHENTICATED: ErrorReply = ErrorReply::Fixed(
    "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user> <pass> option \
     can be used to authenticate the client and select the RESP protocol version at the same time",
);
const WRONG_PASSWORD: ErrorReply = ErrorReply::Fixed("WRONGPASS invalid username-password pair or user is disabled.");

fn ping(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    match args {
        [_] => reply::status(call.out, b"PONG"),
        [_, text] => reply::bulk(call.out, text),
        _ => return Err(wrong_arity("ping")),
    }
    Ok(())
}

fn echo(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    reply::bulk(call.out, &args[1]);
    Ok(())
}

fn quit(call: &mut CommandCall<'_>, _: &Args<'_>) -> Done {
    reply::status(call.out, b"OK");
    Ok(())
}

fn select(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    call.session.database = database_number(&args[1])?;
    reply::status(call.out, b"OK");
    Ok(())
}

/// A word as the number of a database.
pub(super) fn database_number(word: &[u8]) -> Result<usize, ErrorReply> {
    let number = i32::try_from(integer(word)?)
        .map_err(|_| ErrorReply::Fixed("ERR value is out of range, value must between -2147483648 and 2147483647"))?;
    let number = usize::try_from(number).ok().filter(|&number| number < DATABASES);
    number.ok_or(ErrorReply::Fixed("ERR DB index is out of range"))
}

fn auth(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    match args {
        // There is a password, and it is another one.
        [_, _] | [_, _, _] if call.server.state == Some(Refusal::NoAuth) => return Err(WRONG_PASSWORD),
        [_, _] => {
            return Err(ErrorReply::Fixed(
                "ERR AUTH <password> called without any password configured for the default user. Are you sure your \
                 configuration is correct?",
            ));
        }
        [_, user, _] if is_default_user(user) => reply::status(call.out, b"OK"),
        [_, _, _] => return Err(WRONG_PASSWORD),
        _ => return Err(SYNTAX),
    }
    Ok(())
}

fn hello(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    if let Some(version) = args.get(1) {
        let version = integer(version)
            .map_err(|_| ErrorReply::Fixed("ERR Protocol version is not an integer or out of range"))?;
        if version != 2 {
            return Err(ErrorReply::Fixed("NOPROTO unsupported protocol version"));
        }
    }
    let (mut rest, mut user) = (args.get(2..).unwrap_or_default(), None);
    while let [option, words @ ..] = rest {
        rest = match words {
            [name, _password, rest @ ..] if option.eq_ignore_ascii_case(b"auth") => {
                user = Some(name);
                rest
            }
            [name, rest @ ..] if option.eq_ignore_ascii_case(b"setname") => {
                set_name(call, name)?;
                rest
            }
            _ => {
                let parts = [&b"ERR Syntax error in HELLO option '"[..], reply::c_string(option), b"'"];
                return Err(ErrorReply::Formatted(parts.concat()));
            }
        };
    }
    let needs_password = call.server.state == Some(Refusal::NoAuth);
    if user.is_some_and(|user| needs_password || !is_default_user(user)) {
        return Err(WRONG_PASSWORD);
    }
    if needs_password {
        return call.server.refuse(NOT_AUTHENTICATED);
    }
    reply::array(call.out, 14);
    for (field, value) in [("server", "redis"), ("version", super::server::VERSION)] {
        reply::bulk(call.out, field.as_bytes());
        reply::bulk(call.out, value.as_bytes());
    }
    for (field, value) in [("proto", 2), ("id", call.session.id)] {
        reply::bulk(call.out, field.as_bytes());
        reply::integer(call.out, value);
    }
    let role = if call.server.is_replica() { "replica" } else { "master" };
    for text in ["mode", "standalone", "role", role, "modules"] {
        reply::bulk(call.out, text.as_bytes());
    }
    reply::array(call.out, 0);
    Ok(())
}

fn client_id(call: &mut CommandCall<'_>, _: &Args<'_>) -> Done {
    reply::integer(call.out, call.session.id);
    Ok(())
}

fn client_getname(call: &mut CommandCall<'_>, _: &Args<'_>) -> Done {
    let name = Some(call.session.name.as_slice()).filter(|name| !name.is_empty());
    reply::bulk_or_null(call.out, name);
    Ok(())
}

fn client_setname(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    set_name(call, &args[2])?;
    reply::status(call.out, b"OK");
    Ok(())
}

fn set_name(call: &mut CommandCall<'_>, name: &[u8]) -> Done {
    if !name.iter().all(u8::is_ascii_graphic) {
        return Err(ErrorReply::Fixed("ERR Client names cannot contain spaces, newlines or special characters."));
    }
    name.clone_into(&mut call.session.name);
    Ok(())
}

/// There is one user, `default`, whom any password lets in.
fn is_default_user(user: &[u8]) -> bool {
    user == b"default"
}
