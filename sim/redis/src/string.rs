//! Commands on strings.

use super::{
    command::{Args, Command, CommandCall, CommandWork, Flag},
    data::{KeyData, KeyEntry},
    error_reply::{Done, ErrorReply, NOT_A_FLOAT, NOT_AN_INTEGER, OVERFLOW, SYNTAX, integer, wrong_arity},
    float::LongDouble,
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
    Command { name: "getex", arity: -2, flags: &[Flag::Write, Flag::Fast], run: CommandWork::Data(getex) },
    Command { name: "getrange", arity: 4, flags: &[Flag::ReadOnly], run: CommandWork::Data(getrange) },
    Command {
        name: "getset",
        arity: 3,
        flags: &[Flag::Write, Flag::DenyOom, Flag::Fast],
        run: CommandWork::Data(getset),
    },
    Command { name: "incr", arity: 2, flags: &[Flag::Write, Flag::DenyOom, Flag::Fast], run: CommandWork::Data(incr) },
    Command {
        name: "incrby",
        arity: 3,
        flags: &[Flag::Write, Flag::DenyOom, Flag::Fast],
        run: CommandWork::Data(incrby),
    },
    Command {
        name: "incrbyfloat",
        arity: 3,
        flags: &[Flag::Write, Flag::DenyOom, Flag::Fast],
        run: CommandWork::Data(incrbyfloat),
    },
    Command { name: "mget", arity: -2, flags: &[Flag::ReadOnly, Flag::Fast], run: CommandWork::Data(mget) },
    Command { name: "mset", arity: -3, flags: &[Flag::Write, Flag::DenyOom], run: CommandWork::Data(mset) },
    Command { name: "msetnx", arity: -3, flags: &[Flag::Write, Flag::DenyOom], run: CommandWork::Data(msetnx) },
    Command { name: "psetex", arity: 4, flags: &[Flag::Write, Flag::DenyOom], run: CommandWork::Data(psetex) },
    Command { name: "set", arity: -3, flags: &[Flag::Write, Flag::DenyOom], run: CommandWork::Data(set) },
    Command { name: "setex", arity: 4, flags: &[Flag::Write, Flag::DenyOom], run: CommandWork::Data(setex) },
    Command {
        name: "setnx",
        arity: 3,
        flags: &[Flag::Write, Flag::DenyOom, Flag::Fast],
        run: CommandWork::Data(setnx),
    },
    Command { name: "setrange", arity: 4, flags: &[Flag::Write, Flag::DenyOom], run: CommandWork::Data(setrange) },
    Command { name: "strlen", arity: 2, flags: &[Flag::ReadOnly, Flag::Fast], run: CommandWork::Data(strlen) },
    Command { name: "substr", arity: 4, flags: &[Flag::ReadOnly], run: CommandWork::Data(getrange) },
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

/// A part of a string, also by its old name SUBSTR.
fn getrange(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    let (start, end) = (integer(&args[2])?, integer(&args[3])?);
    let bytes = call.server.database(call.session.database).string(&args[1], call.now_ms)?;
    let bytes = bytes.map_or(&[][..], |bytes| bytes.as_slice());
    let length = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
    let from_left = |index: i64| if index < 0 { index.saturating_add(length).max(0) } else { index };
    // Both before the first byte are one position, but not if they are given the wrong way round.
    let is_reversed = start < 0 && end < 0 && start > end;
    let (start, end) = (from_left(start), from_left(end).min(length - 1));
    let at = |index: i64| usize::try_from(index).unwrap_or(0);
    let part = if is_reversed || start > end { &[] } else { &bytes[at(start)..=at(end)] };
    reply::bulk(call.out, part);
    Ok(())
}

fn setrange(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    let (offset, now_ms, part) = (integer(&args[2])?, call.now_ms, &args[3]);
    let offset = usize::try_from(offset).map_err(|_| ErrorReply::Fixed("ERR offset is out of range"))?;
    let bytes_max = usize::try_from(call.server.limits.bulk_bytes).unwrap_or(usize::MAX);
    let database = call.server.database(call.session.database);
    let length = database.string(&args[1], now_ms)?.map_or(0, |bytes| bytes.len());
    if part.is_empty() {
        reply::count(call.out, length);
        return Ok(());
    }
    let end = offset.checked_add(part.len()).filter(|end| *end <= bytes_max).ok_or(TOO_LONG)?;
    if let Some(bytes) = database.string(&args[1], now_ms)? {
        bytes.resize(bytes.len().max(end), 0);
        bytes[offset..end].copy_from_slice(part);
        database.touch(&args[1]);
    } else {
        database.put(&args[1], [&vec![0; offset][..], part].concat().into());
    }
    reply::count(call.out, length.max(end));
    Ok(())
}

fn getset(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    get(call, args)?;
    call.database().put(&args[1], args[2].to_vec().into());
    Ok(())
}

fn mset(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    set_pairs(call, args, "mset")?;
    reply::status(call.out, b"OK");
    Ok(())
}

fn msetnx(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    let now_ms = call.now_ms;
    let database = call.database();
    let is_free = args[1..].chunks(2).all(|pair| database.get(&pair[0], now_ms).is_none());
    // Which words are wanting is looked at first.
    if is_free || args.len().is_multiple_of(2) {
        set_pairs(call, args, "msetnx")?;
    }
    reply::integer(call.out, i64::from(is_free));
    Ok(())
}

fn set_pairs(call: &mut CommandCall<'_>, args: &Args<'_>, name: &str) -> Done {
    if args.len().is_multiple_of(2) {
        return Err(wrong_arity(name));
    }
    let database = call.database();
    for pair in args[1..].chunks_exact(2) {
        database.put(&pair[0], pair[1].to_vec().into());
    }
    Ok(())
}

fn incrbyfloat(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    let (key, now_ms) = (&args[1], call.now_ms);
    let database = call.server.database(call.session.database);
    let held = database.string(key, now_ms)?;
    let before = match &held {
        Some(bytes) => LongDouble::parse(bytes).ok_or(NOT_A_FLOAT)?,
        None => LongDouble::ZERO,
    };
    let amount = LongDouble::parse(&args[2]).ok_or(NOT_A_FLOAT)?;
    let text = before.add(amount).ok_or(NO_FINITE_SUM)?.to_text();
    reply::bulk(call.out, &text);
    match held {
        Some(bytes) => {
            *bytes = text;
            database.touch(key);
        }
        None => database.put(key, text.into()),
    }
    Ok(())
}

const TOO_LONG: ErrorReply = ErrorReply::Fixed("ERR string exceeds maximum allowed size (proto-max-bulk-len)");
pub(super) const NO_FINITE_SUM: ErrorReply = ErrorReply::Fixed("ERR increment would produce NaN or Infinity");

fn append(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    let now_ms = call.now_ms;
    let bytes_max = usize::try_from(call.server.limits.bulk_bytes).unwrap_or(usize::MAX);
    let database = call.database();
    let length = if let Some(bytes) = database.string(&args[1], now_ms)? {
        if bytes.len() + args[2].len() > bytes_max {
            return Err(TOO_LONG);
        }
        bytes.extend_from_slice(&args[2]);
        let length = bytes.len();
        database.touch(&args[1]);
        length
    } else {
        database.put(&args[1], args[2].to_vec().into());
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
        database.put(&args[1], args[2].to_vec().into());
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
    let deadline = options.deadline.map(|(unit, word)| deadline(unit, word, now_ms, "set")).transpose()?;
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
            _ => Unit::named(word).ok_or(SYNTAX)?,
        };
        // The same unit twice passes, and the last one counts.
        if options.keep_deadline || options.deadline.is_some_and(|(other, _)| other != unit) {
            return Err(SYNTAX);
        }
        options.deadline = Some((unit, words.next().ok_or(SYNTAX)?));
    }
    Ok(options)
}

fn setex(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    set_until(call, args, Unit::Seconds, "setex")
}

fn psetex(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    set_until(call, args, Unit::Milliseconds, "psetex")
}

fn set_until(call: &mut CommandCall<'_>, args: &Args<'_>, unit: Unit, name: &str) -> Done {
    let deadline = deadline(unit, &args[2], call.now_ms, name)?;
    let entry = KeyEntry { value: KeyData::String(args[3].to_vec()), expires_at_ms: Some(deadline) };
    call.database().put(&args[1], entry);
    reply::status(call.out, b"OK");
    Ok(())
}

fn getex(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    let (mut unit, mut persists, mut words) = (None, false, args[2..].iter());
    while let Some(word) = words.next() {
        if word.eq_ignore_ascii_case(b"persist") && unit.is_none() {
            persists = true;
            continue;
        }
        let named = Unit::named(word).filter(|named| !persists && unit.is_none_or(|(other, _)| other == *named));
        unit = Some((named.ok_or(SYNTAX)?, words.next().ok_or(SYNTAX)?));
    }
    let (key, now_ms) = (&args[1], call.now_ms);
    let is_there = call.database().string(key, now_ms)?.is_some();
    let at_ms = match unit {
        Some((unit, word)) if is_there => Some(deadline(unit, word, now_ms, "getex")?),
        _ => None,
    };
    get(call, args)?;
    let database = call.server.database(call.session.database);
    let Some(entry) = database.get(key, now_ms) else { return Ok(()) };
    if at_ms.is_some() || persists && entry.expires_at_ms.is_some() {
        entry.expires_at_ms = at_ms;
        database.touch(key);
    }
    Ok(())
}

impl Unit {
    fn named(word: &[u8]) -> Option<Self> {
        match word.to_ascii_lowercase().as_slice() {
            b"ex" => Some(Self::Seconds),
            b"px" => Some(Self::Milliseconds),
            b"exat" => Some(Self::SecondsSinceEpoch),
            b"pxat" => Some(Self::MillisecondsSinceEpoch),
            _ => None,
        }
    }
}

/// The moment that these words name, for a command of this name.
fn deadline(unit: Unit, word: &[u8], now_ms: i64, command: &str) -> Result<i64, ErrorReply> {
    let amount = integer(word)?;
    let in_ms = match unit {
        Unit::Seconds | Unit::SecondsSinceEpoch => amount.checked_mul(1_000),
        Unit::Milliseconds | Unit::MillisecondsSinceEpoch => Some(amount),
    };
    let at_ms = match unit {
        Unit::Seconds | Unit::Milliseconds => in_ms.and_then(|amount| amount.checked_add(now_ms)),
        Unit::SecondsSinceEpoch | Unit::MillisecondsSinceEpoch => in_ms,
    };
    at_ms
        .filter(|_| amount > 0)
        .ok_or_else(|| ErrorReply::Formatted(format!("ERR invalid expire time in '{command}' command").into_bytes()))
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
        None => database.put(key, text.into()),
    }
    reply::integer(call.out, after);
    Ok(())
}
