//! Commands on strings.

use super::{
    command::{Args, Command, CommandCall, CommandWork, Flag},
    data::{KeyData, KeyEntry},
    error_reply::{Done, ErrorReply, NOT_AN_INTEGER, OVERFLOW, SYNTAX, integer},
    number, reply,
};

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "append",
        arity: 3,
        flags: &[Flag::Write, Flag::DenyOom, Flag::Fast],
        run: CommandWork::Data(append),
    },
    Command { name: "decr", arity: 2, flags: &[Flag::Write, Flag::DenyOom, Flag::Fast], run: CommandWork::Data(decr) },
    Command {
        name: "decrby",
        arity: 3,
        flags: &[Flag::Write, Flag::DenyOom, Flag::Fast],
        run: CommandWork::Data(decrby),
    },
    Command { name: "get", arity: 2, flags: &[Flag::ReadOnly, Flag::Fast], run: CommandWork::Data(get) },
    Command { name: "getdel", arity: 2, flags: &[Flag::Write, Flag::Fast], run: CommandWork::Data(getdel) },
    Command { name: "incr", arity: 2, flags: &[Flag::Write, Flag::DenyOom, Flag::Fast], run: CommandWork::Data(incr) },
    Command {
        name: "incrby",
        arity: 3,
        flags: &[Flag::Write, Flag::DenyOom, Flag::Fast],
        run: CommandWork::Data(incrby),
    },
    Command { name: "mget", arity: -2, flags: &[Flag::ReadOnly, Flag::Fast], run: CommandWork::Data(mget) },
    Command { name: "set", arity: -3, flags: &[Flag::Write, Flag::DenyOom], run: CommandWork::Data(set) },
    Command {
        name: "setnx",
        arity: 3,
        flags: &[Flag::Write, Flag::DenyOom, Flag::Fast],
        run: CommandWork::Data(setnx),
    },
    Command { name: "strlen", arity: 2, flags: &[Flag::ReadOnly, Flag::Fast], run: CommandWork::Data(strlen) },
];

fn get(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    let bytes = call.server.database(call.session.database).string(&args[1], call.now_ms)?;
    reply::bulk_or_null(call.out, bytes.map(|bytes| bytes.as_slice()));
    Ok(())
}

fn getdel(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    get(call, args)?;
    let now_ms = call.now_ms;
    call.database().remove(&args[1], now_ms);
    Ok(())
}

fn mget(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    reply::array(call.out, args.len() - 1);
    for key in &args[1..] {
        // A key of another type is no error here.
        let bytes = call.server.database(call.session.database).string(key, call.now_ms).unwrap_or(None);
        reply::bulk_or_null(call.out, bytes.map(|bytes| bytes.as_slice()));
    }
    Ok(())
}

fn strlen(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    let now_ms = call.now_ms;
    let length = call.database().string(&args[1], now_ms)?.map_or(0, |bytes| bytes.len());
    reply::integer(call.out, i64::try_from(length).unwrap_or(i64::MAX));
    Ok(())
}

fn append(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    let now_ms = call.now_ms;
    let bytes_max = usize::try_from(call.server.limits.bulk_bytes).unwrap_or(usize::MAX);
    let database = call.database();
    let length = if let Some(bytes) = database.string(&args[1], now_ms)? {
        if bytes.len() + args[2].len() > bytes_max {
            return Err(ErrorReply::Fixed("ERR string exceeds maximum allowed size (proto-max-bulk-len)"));
        }
        bytes.extend_from_slice(&args[2]);
        let length = bytes.len();
        database.touch(&args[1]);
        length
    } else {
        database.put(&args[1], KeyEntry { value: KeyData::String(args[2].to_vec()), expires_at_ms: None });
        args[2].len()
    };
    reply::integer(call.out, i64::try_from(length).unwrap_or(i64::MAX));
    Ok(())
}

fn setnx(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    let now_ms = call.now_ms;
    let database = call.database();
    let free = database.get(&args[1], now_ms).is_none();
    if free {
        database.put(&args[1], KeyEntry { value: KeyData::String(args[2].to_vec()), expires_at_ms: None });
    }
    reply::integer(call.out, i64::from(free));
    Ok(())
}

/// The options of SET.
#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option word, and most go together")]
struct SetOptions<'a> {
    only_if_absent: bool,
    only_if_present: bool,
    answer_old: bool,
    keep_deadline: bool,
    deadline: Option<(Unit, &'a [u8])>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Seconds,
    Milliseconds,
    SecondsSinceEpoch,
    MillisecondsSinceEpoch,
}

fn set(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    let options = set_options(&args[3..])?;
    let (key, now_ms) = (&args[1], call.now_ms);
    let deadline = options.deadline.map(|(unit, word)| deadline(unit, word, now_ms)).transpose()?;
    if options.answer_old {
        get(call, args)?;
    }
    let database = call.server.database(call.session.database);
    let held = database.get(key, now_ms);
    if (options.only_if_absent && held.is_some()) || (options.only_if_present && held.is_none()) {
        if !options.answer_old {
            reply::null(call.out);
        }
        return Ok(());
    }
    let kept = held.and_then(|entry| entry.expires_at_ms).filter(|_| options.keep_deadline);
    database.put(key, KeyEntry { value: KeyData::String(args[2].to_vec()), expires_at_ms: deadline.or(kept) });
    if !options.answer_old {
        reply::status(call.out, b"OK");
    }
    Ok(())
}

fn set_options<'a>(words: &'a Args<'_>) -> Result<SetOptions<'a>, ErrorReply> {
    let mut options = SetOptions::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let unit = match word.to_ascii_lowercase().as_slice() {
            b"nx" if !options.only_if_present => {
                options.only_if_absent = true;
                continue;
            }
            b"xx" if !options.only_if_absent => {
                options.only_if_present = true;
                continue;
            }
            b"get" => {
                options.answer_old = true;
                continue;
            }
            b"keepttl" if options.deadline.is_none() => {
                options.keep_deadline = true;
                continue;
            }
            b"ex" => Unit::Seconds,
            b"px" => Unit::Milliseconds,
            b"exat" => Unit::SecondsSinceEpoch,
            b"pxat" => Unit::MillisecondsSinceEpoch,
            _ => return Err(SYNTAX),
        };
        // The same unit twice passes, and the last one counts.
        if options.keep_deadline || options.deadline.is_some_and(|(other, _)| other != unit) {
            return Err(SYNTAX);
        }
        options.deadline = Some((unit, words.next().ok_or(SYNTAX)?));
    }
    Ok(options)
}

fn deadline(unit: Unit, word: &[u8], now_ms: i64) -> Result<i64, ErrorReply> {
    const INVALID: ErrorReply = ErrorReply::Fixed("ERR invalid expire time in 'set' command");
    let amount = integer(word)?;
    let in_ms = match unit {
        Unit::Seconds | Unit::SecondsSinceEpoch => amount.checked_mul(1_000),
        Unit::Milliseconds | Unit::MillisecondsSinceEpoch => Some(amount),
    };
    let at_ms = match unit {
        Unit::Seconds | Unit::Milliseconds => in_ms.and_then(|amount| amount.checked_add(now_ms)),
        Unit::SecondsSinceEpoch | Unit::MillisecondsSinceEpoch => in_ms,
    };
    at_ms.filter(|_| amount > 0).ok_or(INVALID)
}

fn incr(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    add(call, &args[1], 1)
}

fn decr(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    add(call, &args[1], -1)
}

fn incrby(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    add(call, &args[1], integer(&args[2])?)
}

fn decrby(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    let amount = integer(&args[2])?.checked_neg().ok_or(ErrorReply::Fixed("ERR decrement would overflow"))?;
    add(call, &args[1], amount)
}

fn add(call: &mut CommandCall<'_>, key: &[u8], amount: i64) -> Done {
    let now_ms = call.now_ms;
    let database = call.database();
    let held = database.string(key, now_ms)?;
    let before = match &held {
        Some(bytes) => number::parse(bytes).ok_or(NOT_AN_INTEGER)?,
        None => 0,
    };
    let after = before.checked_add(amount).ok_or(OVERFLOW)?;
    let text = after.to_string().into_bytes();
    match held {
        Some(bytes) => {
            *bytes = text;
            database.touch(key);
        }
        None => database.put(key, KeyEntry { value: KeyData::String(text), expires_at_ms: None }),
    }
    reply::integer(call.out, after);
    Ok(())
}
