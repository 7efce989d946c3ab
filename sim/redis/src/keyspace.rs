//! Commands on keys of any type: removal, deadlines, whole databases. SCAN and KEYS are in `scan`.

use super::{
    command::{Args, Command, CommandCall, CommandWork, Flag},
    connection::database_number,
    error_reply::{Done, ErrorReply, NOT_AN_INTEGER, SYNTAX},
    number, reply,
};

pub(super) const COMMANDS: &[Command] = &[
    Command { name: "copy", arity: -3, flags: &[Flag::Write, Flag::DenyOom], run: CommandWork::Data(copy) },
    Command { name: "dbsize", arity: 1, flags: &[Flag::ReadOnly, Flag::Fast], run: CommandWork::Data(dbsize) },
    Command { name: "del", arity: -2, flags: &[Flag::Write], run: CommandWork::Data(del) },
    Command { name: "exists", arity: -2, flags: &[Flag::ReadOnly, Flag::Fast], run: CommandWork::Data(exists) },
    Command { name: "expire", arity: -3, flags: &[Flag::Write, Flag::Fast], run: CommandWork::Data(expire) },
    Command { name: "expireat", arity: -3, flags: &[Flag::Write, Flag::Fast], run: CommandWork::Data(expireat) },
    Command { name: "expiretime", arity: 2, flags: &[Flag::ReadOnly, Flag::Fast], run: CommandWork::Data(expiretime) },
    Command { name: "flushall", arity: -1, flags: &[Flag::Write], run: CommandWork::Data(flushall) },
    Command { name: "flushdb", arity: -1, flags: &[Flag::Write], run: CommandWork::Data(flushdb) },
    Command { name: "persist", arity: 2, flags: &[Flag::Write, Flag::Fast], run: CommandWork::Data(persist) },
    Command { name: "pexpire", arity: -3, flags: &[Flag::Write, Flag::Fast], run: CommandWork::Data(pexpire) },
    Command { name: "pexpireat", arity: -3, flags: &[Flag::Write, Flag::Fast], run: CommandWork::Data(pexpireat) },
    Command {
        name: "pexpiretime",
        arity: 2,
        flags: &[Flag::ReadOnly, Flag::Fast],
        run: CommandWork::Data(pexpiretime),
    },
    Command { name: "pttl", arity: 2, flags: &[Flag::ReadOnly, Flag::Fast], run: CommandWork::Data(pttl) },
    Command { name: "randomkey", arity: 1, flags: &[Flag::ReadOnly], run: CommandWork::Data(randomkey) },
    Command { name: "rename", arity: 3, flags: &[Flag::Write], run: CommandWork::Data(rename) },
    Command { name: "renamenx", arity: 3, flags: &[Flag::Write, Flag::Fast], run: CommandWork::Data(renamenx) },
    Command { name: "touch", arity: -2, flags: &[Flag::ReadOnly, Flag::Fast], run: CommandWork::Data(exists) },
    Command { name: "ttl", arity: 2, flags: &[Flag::ReadOnly, Flag::Fast], run: CommandWork::Data(ttl) },
    Command { name: "type", arity: 2, flags: &[Flag::ReadOnly, Flag::Fast], run: CommandWork::Data(type_of) },
    Command { name: "unlink", arity: -2, flags: &[Flag::Write, Flag::Fast], run: CommandWork::Data(del) },
];

fn del(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    let now_ms = call.now_ms;
    let database = call.database();
    let removed = args[1..].iter().map(|key| i64::from(database.remove(key, now_ms))).sum();
    reply::integer(call.out, removed);
    Ok(())
}

fn exists(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    let now_ms = call.now_ms;
    let database = call.database();
    let found = args[1..].iter().map(|key| i64::from(database.get(key, now_ms).is_some())).sum();
    reply::integer(call.out, found);
    Ok(())
}

fn type_of(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    let now_ms = call.now_ms;
    let name = call.database().get(&args[1], now_ms).map_or("none", |entry| entry.type_name());
    reply::status(call.out, name.as_bytes());
    Ok(())
}

fn rename(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    move_key(call, args, true)?;
    reply::status(call.out, b"OK");
    Ok(())
}

fn renamenx(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    let is_moved = move_key(call, args, false)?;
    reply::integer(call.out, i64::from(is_moved));
    Ok(())
}

/// Moves a key to another name; answers `false` if it is to replace none and there is one.
fn move_key(call: &mut CommandCall<'_>, args: &Args<'_>, replaces: bool) -> Result<bool, ErrorReply> {
    let (from, to, now_ms) = (&args[1], &args[2], call.now_ms);
    let database = call.database();
    if database.get(from, now_ms).is_none() {
        return Err(ErrorReply::Fixed("ERR no such key"));
    }
    if from == to || !replaces && database.get(to, now_ms).is_some() {
        return Ok(false);
    }
    if let Some(entry) = database.take(from, now_ms) {
        database.touch(from);
        // It goes first: to those who wait for it, the key has come into being.
        database.remove(to, now_ms);
        database.put(to, entry);
    }
    Ok(true)
}

fn copy(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    let (mut target, mut replaces, mut words) = (call.session.database, false, &args[3..]);
    while let [option, rest @ ..] = words {
        words = match rest {
            rest if option.eq_ignore_ascii_case(b"replace") => {
                replaces = true;
                rest
            }
            [number, rest @ ..] if option.eq_ignore_ascii_case(b"db") => {
                target = database_number(number)?;
                rest
            }
            _ => return Err(SYNTAX),
        };
    }
    let (from, to, now_ms) = (&args[1], &args[2], call.now_ms);
    if target == call.session.database && from == to {
        return Err(ErrorReply::Fixed("ERR source and destination objects are the same"));
    }
    let entry = call.database().get(from, now_ms).cloned();
    let target = call.server.database(target);
    let entry = entry.filter(|_| replaces || target.get(to, now_ms).is_none());
    reply::integer(call.out, i64::from(entry.is_some()));
    if let Some(entry) = entry {
        target.remove(to, now_ms);
        target.put(to, entry);
    }
    Ok(())
}

fn randomkey(call: &mut CommandCall<'_>, _: &Args<'_>) -> Done {
    let CommandCall { server, session, now_ms, out } = call;
    let mut random = server.random;
    let database = server.database(session.database);
    database.remove_expired(*now_ms);
    let count = database.entries().count();
    let drawn = random.positions(1, count).first().and_then(|at| database.entries().nth(*at));
    reply::bulk_or_null(out, drawn.map(|(key, _)| key.as_slice()));
    server.random = random;
    Ok(())
}

fn dbsize(call: &mut CommandCall<'_>, _: &Args<'_>) -> Done {
    let now_ms = call.now_ms;
    let live = call.database().entries().filter(|(_, entry)| !entry.is_expired(now_ms)).count();
    reply::integer(call.out, i64::try_from(live).unwrap_or(i64::MAX));
    Ok(())
}

fn flushdb(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    flush_mode(args)?;
    call.database().clear();
    reply::status(call.out, b"OK");
    Ok(())
}

fn flushall(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    flush_mode(args)?;
    call.server.flush_all();
    reply::status(call.out, b"OK");
    Ok(())
}

fn flush_mode(args: &Args<'_>) -> Done {
    match args {
        [_] => Ok(()),
        [_, mode] if mode.eq_ignore_ascii_case(b"sync") || mode.eq_ignore_ascii_case(b"async") => Ok(()),
        _ => Err(SYNTAX),
    }
}

/// How EXPIRE and its like state a deadline.
#[derive(Clone, Copy)]
struct DeadlineForm {
    name: &'static str,
    ms_per_unit: i64,
    from_now: bool,
}

fn expire(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    set_deadline(call, args, DeadlineForm { name: "expire", ms_per_unit: 1_000, from_now: true })
}

fn pexpire(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    set_deadline(call, args, DeadlineForm { name: "pexpire", ms_per_unit: 1, from_now: true })
}

fn expireat(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    set_deadline(call, args, DeadlineForm { name: "expireat", ms_per_unit: 1_000, from_now: false })
}

fn pexpireat(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    set_deadline(call, args, DeadlineForm { name: "pexpireat", ms_per_unit: 1, from_now: false })
}

/// When EXPIRE and its like do what they are asked.
#[derive(Clone, Copy, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option word, and most go together")]
struct Condition {
    has_none: bool,
    has_one: bool,
    later: bool,
    earlier: bool,
}

fn set_deadline(call: &mut CommandCall<'_>, args: &Args<'_>, form: DeadlineForm) -> Done {
    let condition = condition(&args[3..])?;
    let now_ms = call.now_ms;
    let amount = number::parse(&args[2]).ok_or(NOT_AN_INTEGER)?;
    let base = if form.from_now { now_ms } else { 0 };
    let at_ms = amount.checked_mul(form.ms_per_unit).and_then(|amount| amount.checked_add(base)).ok_or_else(|| {
        ErrorReply::Formatted(format!("ERR invalid expire time in '{}' command", form.name).into_bytes())
    })?;
    let database = call.server.database(call.session.database);
    let Some(entry) = database.get(&args[1], now_ms).filter(|entry| condition.holds(entry.expires_at_ms, at_ms)) else {
        reply::integer(call.out, 0);
        return Ok(());
    };
    entry.expires_at_ms = Some(at_ms);
    database.touch(&args[1]);
    if at_ms <= now_ms {
        // A deadline in the past is a removal, now.
        database.get(&args[1], now_ms);
    }
    reply::integer(call.out, 1);
    Ok(())
}

fn condition(words: &Args<'_>) -> Result<Condition, ErrorReply> {
    let mut condition = Condition::default();
    for word in words {
        match word.to_ascii_lowercase().as_slice() {
            b"nx" => condition.has_none = true,
            b"xx" => condition.has_one = true,
            b"gt" => condition.later = true,
            b"lt" => condition.earlier = true,
            _ => return Err(ErrorReply::Formatted([b"ERR Unsupported option ", reply::c_string(word)].concat())),
        }
    }
    if condition.has_none && (condition.has_one || condition.later || condition.earlier) {
        return Err(ErrorReply::Fixed("ERR NX and XX, GT or LT options at the same time are not compatible"));
    }
    if condition.later && condition.earlier {
        return Err(ErrorReply::Fixed("ERR GT and LT options at the same time are not compatible"));
    }
    Ok(condition)
}

impl Condition {
    /// Whether a key with this deadline may get the new one; none counts as later than any.
    fn holds(self, current: Option<i64>, new: i64) -> bool {
        !((self.has_none && current.is_some())
            || (self.has_one && current.is_none())
            || (self.later && current.is_none_or(|current| new <= current))
            || (self.earlier && current.is_some_and(|current| new >= current)))
    }
}

fn persist(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    let now_ms = call.now_ms;
    let database = call.database();
    let had = database.get(&args[1], now_ms).and_then(|entry| entry.expires_at_ms.take());
    if had.is_some() {
        database.touch(&args[1]);
    }
    reply::integer(call.out, i64::from(had.is_some()));
    Ok(())
}

fn ttl(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    answer_deadline(call, args, |at_ms, now_ms| to_seconds(at_ms - now_ms))
}

fn pttl(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    answer_deadline(call, args, |at_ms, now_ms| at_ms - now_ms)
}

fn expiretime(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    answer_deadline(call, args, |at_ms, _| to_seconds(at_ms))
}

fn pexpiretime(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    answer_deadline(call, args, |at_ms, _| at_ms)
}

fn answer_deadline(call: &mut CommandCall<'_>, args: &Args<'_>, answer: fn(i64, i64) -> i64) -> Done {
    let now_ms = call.now_ms;
    let answer = match call.database().get(&args[1], now_ms).map(|entry| entry.expires_at_ms) {
        None => -2,
        Some(None) => -1,
        Some(Some(at_ms)) => answer(at_ms, now_ms),
    };
    reply::integer(call.out, answer);
    Ok(())
}

/// Redis rounds to the nearest second.
fn to_seconds(ms: i64) -> i64 {
    ms.saturating_add(500) / 1_000
}
