//! Commands on hashes.

use super::{
    command::{Args, Command, CommandCall, CommandWork, Flag},
    data::{Hash, Pair},
    error_reply::{Done, ErrorReply, NOT_A_FLOAT, OVERFLOW, SYNTAX, draws, integer, wrong_arity},
    float::LongDouble,
    number, reply, scan,
    string::NO_FINITE_SUM,
};

pub(super) const COMMANDS: &[Command] = &[
    Command { name: "hdel", arity: -3, flags: &[Flag::Write, Flag::Fast], run: CommandWork::Data(hdel) },
    Command { name: "hexists", arity: 3, flags: &[Flag::ReadOnly, Flag::Fast], run: CommandWork::Data(hexists) },
    Command { name: "hget", arity: 3, flags: &[Flag::ReadOnly, Flag::Fast], run: CommandWork::Data(hget) },
    Command { name: "hgetall", arity: 2, flags: &[Flag::ReadOnly], run: CommandWork::Data(hgetall) },
    Command {
        name: "hincrby",
        arity: 4,
        flags: &[Flag::Write, Flag::DenyOom, Flag::Fast],
        run: CommandWork::Data(hincrby),
    },
    Command {
        name: "hincrbyfloat",
        arity: 4,
        flags: &[Flag::Write, Flag::DenyOom, Flag::Fast],
        run: CommandWork::Data(hincrbyfloat),
    },
    Command { name: "hkeys", arity: 2, flags: &[Flag::ReadOnly], run: CommandWork::Data(hkeys) },
    Command { name: "hlen", arity: 2, flags: &[Flag::ReadOnly, Flag::Fast], run: CommandWork::Data(hlen) },
    Command { name: "hmget", arity: -3, flags: &[Flag::ReadOnly, Flag::Fast], run: CommandWork::Data(hmget) },
    Command {
        name: "hmset",
        arity: -4,
        flags: &[Flag::Write, Flag::DenyOom, Flag::Fast],
        run: CommandWork::Data(hmset),
    },
    Command { name: "hrandfield", arity: -2, flags: &[Flag::ReadOnly], run: CommandWork::Data(hrandfield) },
    Command { name: "hscan", arity: -3, flags: &[Flag::ReadOnly], run: CommandWork::Data(hscan) },
    Command { name: "hset", arity: -4, flags: &[Flag::Write, Flag::DenyOom, Flag::Fast], run: CommandWork::Data(hset) },
    Command {
        name: "hsetnx",
        arity: 4,
        flags: &[Flag::Write, Flag::DenyOom, Flag::Fast],
        run: CommandWork::Data(hsetnx),
    },
    Command { name: "hstrlen", arity: 3, flags: &[Flag::ReadOnly, Flag::Fast], run: CommandWork::Data(hstrlen) },
    Command { name: "hvals", arity: 2, flags: &[Flag::ReadOnly], run: CommandWork::Data(hvals) },
];

fn hget(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    let hash = call.server.database(call.session.database).hash(&args[1], call.now_ms)?;
    reply::bulk_or_null(call.out, hash.and_then(|hash| hash.get(&args[2])));
    Ok(())
}

fn hmget(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    let hash = call.server.database(call.session.database).hash(&args[1], call.now_ms)?;
    reply::array(call.out, args.len() - 2);
    for field in &args[2..] {
        reply::bulk_or_null(call.out, hash.as_ref().and_then(|hash| hash.get(field)));
    }
    Ok(())
}

fn hexists(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    let found = read(call, args, |hash| hash.get(&args[2]).is_some())?;
    reply::integer(call.out, i64::from(found.unwrap_or(false)));
    Ok(())
}

fn hlen(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    let fields = read(call, args, Hash::len)?;
    reply_length(call, fields)
}

fn hstrlen(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    let length = read(call, args, |hash| hash.get(&args[2]).map_or(0, <[u8]>::len))?;
    reply_length(call, length)
}

fn hgetall(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    match call.server.database(call.session.database).hash(&args[1], call.now_ms)? {
        Some(hash) => call.out.extend_from_slice(hash.reply()),
        None => reply::array(call.out, 0),
    }
    Ok(())
}

fn hkeys(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    list(call, args, |(field, _)| field)
}

fn hvals(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    list(call, args, |(_, value)| value)
}

fn hset(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    let added = set(call, args, "hset")?;
    reply::integer(call.out, added);
    Ok(())
}

fn hmset(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    set(call, args, "hmset")?;
    reply::status(call.out, b"OK");
    Ok(())
}

fn hsetnx(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    let now_ms = call.now_ms;
    let database = call.database();
    let hash = database.hash_or_new(&args[1], now_ms)?;
    let free = hash.get(&args[2]).is_none() && hash.set(&args[2], &args[3]);
    if free {
        database.touch(&args[1]);
    }
    reply::integer(call.out, i64::from(free));
    Ok(())
}

fn hdel(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    let now_ms = call.now_ms;
    let database = call.database();
    let mut removed = 0;
    if let Some(hash) = database.hash(&args[1], now_ms)? {
        removed = args[2..].iter().map(|field| i64::from(hash.remove(field))).sum();
        if hash.len() == 0 {
            database.remove(&args[1], now_ms);
        }
    }
    if removed > 0 {
        database.touch(&args[1]);
    }
    reply::integer(call.out, removed);
    Ok(())
}

fn hincrby(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    let (amount, now_ms) = (integer(&args[3])?, call.now_ms);
    let database = call.database();
    let before = match database.hash(&args[1], now_ms)?.and_then(|hash| hash.get(&args[2])) {
        Some(value) => number::parse(value).ok_or(ErrorReply::Fixed("ERR hash value is not an integer"))?,
        None => 0,
    };
    // Redis makes the hash before it looks at the sum, but a hash that is there has a field, so that is not seen.
    let after = before.checked_add(amount).ok_or(OVERFLOW)?;
    database.hash_or_new(&args[1], now_ms)?.set(&args[2], after.to_string().as_bytes());
    database.touch(&args[1]);
    reply::integer(call.out, after);
    Ok(())
}

fn hincrbyfloat(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    let (amount, now_ms) = (LongDouble::parse(&args[3]).ok_or(NOT_A_FLOAT)?, call.now_ms);
    if !amount.is_finite() {
        return Err(ErrorReply::Fixed("ERR value is NaN or Infinity"));
    }
    let database = call.server.database(call.session.database);
    let before = match database.hash(&args[1], now_ms)?.and_then(|hash| hash.get(&args[2])) {
        Some(value) => LongDouble::parse(value).ok_or(ErrorReply::Fixed("ERR hash value is not a float"))?,
        None => LongDouble::ZERO,
    };
    let text = before.add(amount).ok_or(NO_FINITE_SUM)?.to_text();
    database.hash_or_new(&args[1], now_ms)?.set(&args[2], &text);
    database.touch(&args[1]);
    reply::bulk(call.out, &text);
    Ok(())
}

fn hrandfield(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    let count = args.get(2).map(|word| draws(word)).transpose()?;
    let with_values = match &args[2..] {
        [] | [_] => false,
        [_, option] if option.eq_ignore_ascii_case(b"withvalues") => true,
        _ => return Err(SYNTAX),
    };
    if with_values && count.is_some_and(|count| count.unsigned_abs() > i64::MAX.unsigned_abs() / 2) {
        return Err(ErrorReply::Fixed("ERR value is out of range"));
    }
    let CommandCall { server, session, now_ms, out } = call;
    let mut random = server.random;
    let hash = server.database(session.database).hash(&args[1], *now_ms)?;
    let pairs = hash.as_ref().map(|hash| hash.in_order()).unwrap_or_default();
    let drawn = random.positions(count.unwrap_or(1), pairs.len());
    match count {
        Some(_) => reply::array(out, drawn.len() * (1 + usize::from(with_values))),
        None if pairs.is_empty() => reply::null(out),
        None => {}
    }
    for (field, value) in drawn.into_iter().map(|at| pairs[at]) {
        reply::bulk(out, field);
        if with_values {
            reply::bulk(out, value);
        }
    }
    server.random = random;
    Ok(())
}

fn hscan(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    scan::cursor(&args[2])?;
    let Some(hash) = call.server.database(call.session.database).hash(&args[1], call.now_ms)? else {
        scan::answer(call.out, &[]);
        return Ok(());
    };
    let pattern = scan::pattern(&args[3..])?;
    let found = hash.in_order().into_iter().filter(|(field, _)| scan::matches(pattern, field));
    let words: Vec<_> = found.flat_map(|(field, value)| [field, value]).collect();
    scan::answer(call.out, &words);
    Ok(())
}

fn read<T>(
    call: &mut CommandCall<'_>,
    args: &Args<'_>,
    view: impl FnOnce(&Hash) -> T,
) -> Result<Option<T>, ErrorReply> {
    let now_ms = call.now_ms;
    Ok(call.database().hash(&args[1], now_ms)?.map(|hash| view(hash)))
}

fn reply_length(call: &mut CommandCall<'_>, length: Option<usize>) -> Done {
    reply::integer(call.out, i64::try_from(length.unwrap_or(0)).unwrap_or(i64::MAX));
    Ok(())
}

fn list(call: &mut CommandCall<'_>, args: &Args<'_>, part: fn(Pair<'_>) -> &[u8]) -> Done {
    let hash = call.server.database(call.session.database).hash(&args[1], call.now_ms)?;
    let all = hash.as_ref().map(|hash| hash.in_order()).unwrap_or_default();
    reply::array(call.out, all.len());
    for pair in all {
        reply::bulk(call.out, part(pair));
    }
    Ok(())
}

fn set(call: &mut CommandCall<'_>, args: &Args<'_>, name: &str) -> Result<i64, ErrorReply> {
    let pairs = &args[2..];
    if pairs.len() % 2 == 1 {
        return Err(wrong_arity(name));
    }
    let now_ms = call.now_ms;
    let database = call.database();
    let hash = database.hash_or_new(&args[1], now_ms)?;
    let added = pairs.chunks_exact(2).map(|pair| i64::from(hash.set(&pair[0], &pair[1]))).sum();
    database.touch(&args[1]);
    Ok(added)
}
