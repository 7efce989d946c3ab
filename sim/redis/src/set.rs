//! Commands on sets.

use super::{
    command::{Args, Command, CommandCall, CommandWork, Flag},
    data::{KeyData, KeyEntry, Set},
    error_reply::{Done, ErrorReply, NOT_POSITIVE, SYNTAX, at_least, draws},
    reply, scan,
};

const READS: &[Flag] = &[Flag::ReadOnly];
const READS_FAST: &[Flag] = &[Flag::ReadOnly, Flag::Fast];
const WRITES_FAST: &[Flag] = &[Flag::Write, Flag::Fast];
const STORES: &[Flag] = &[Flag::Write, Flag::DenyOom];

pub(super) const COMMANDS: &[Command] = &[
    Command { name: "sadd", arity: -3, flags: &[Flag::Write, Flag::DenyOom, Flag::Fast], run: CommandWork::Data(sadd) },
    Command { name: "scard", arity: 2, flags: READS_FAST, run: CommandWork::Data(scard) },
    Command { name: "sdiff", arity: -2, flags: READS, run: CommandWork::Data(sdiff) },
    Command { name: "sdiffstore", arity: -3, flags: STORES, run: CommandWork::Data(sdiffstore) },
    Command { name: "sinter", arity: -2, flags: READS, run: CommandWork::Data(sinter) },
    Command { name: "sintercard", arity: -3, flags: READS, run: CommandWork::Data(sintercard) },
    Command { name: "sinterstore", arity: -3, flags: STORES, run: CommandWork::Data(sinterstore) },
    Command { name: "sismember", arity: 3, flags: READS_FAST, run: CommandWork::Data(sismember) },
    Command { name: "smembers", arity: 2, flags: READS, run: CommandWork::Data(sinter) },
    Command { name: "smismember", arity: -3, flags: READS_FAST, run: CommandWork::Data(smismember) },
    Command { name: "smove", arity: 4, flags: WRITES_FAST, run: CommandWork::Data(smove) },
    Command { name: "spop", arity: -2, flags: WRITES_FAST, run: CommandWork::Data(spop) },
    Command { name: "srandmember", arity: -2, flags: READS, run: CommandWork::Data(srandmember) },
    Command { name: "srem", arity: -3, flags: WRITES_FAST, run: CommandWork::Data(srem) },
    Command { name: "sscan", arity: -3, flags: READS, run: CommandWork::Data(sscan) },
    Command { name: "sunion", arity: -2, flags: READS, run: CommandWork::Data(sunion) },
    Command { name: "sunionstore", arity: -3, flags: STORES, run: CommandWork::Data(sunionstore) },
];

fn sadd(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    let now_ms = call.now_ms;
    let database = call.database();
    let set = database.set_or_new(&args[1], now_ms)?;
    let added = args[2..].iter().filter(|member| set.insert(member.to_vec())).count();
    if added > 0 {
        database.touch(&args[1]);
    }
    reply::count(call.out, added);
    Ok(())
}

fn srem(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    let now_ms = call.now_ms;
    let database = call.database();
    let mut removed = 0;
    if let Some(set) = database.set(&args[1], now_ms)? {
        removed = args[2..].iter().filter(|member| set.remove(&member[..])).count();
    }
    if removed > 0 {
        database.written(&args[1], now_ms);
    }
    reply::count(call.out, removed);
    Ok(())
}

fn smove(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    let (source, target, member, now_ms) = (&args[1], &args[2], &args[3], call.now_ms);
    let database = call.server.database(call.session.database);
    let Some(set) = database.set(source, now_ms)? else {
        reply::integer(call.out, 0);
        return Ok(());
    };
    let is_there = set.contains(&member[..]);
    // Of the wrong type it is refused before the source changes.
    database.set(target, now_ms)?;
    reply::integer(call.out, i64::from(is_there));
    if is_there && source != target {
        if let Some(set) = database.set(source, now_ms)? {
            set.remove(&member[..]);
        }
        database.written(source, now_ms);
        if database.set_or_new(target, now_ms)?.insert(member.to_vec()) {
            database.touch(target);
        }
    }
    Ok(())
}

fn scard(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    let now_ms = call.now_ms;
    let count = call.database().set(&args[1], now_ms)?.map_or(0, |set| set.len());
    reply::count(call.out, count);
    Ok(())
}

fn sismember(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    let now_ms = call.now_ms;
    let is_there = call.database().set(&args[1], now_ms)?.is_some_and(|set| set.contains(&args[2][..]));
    reply::integer(call.out, i64::from(is_there));
    Ok(())
}

fn smismember(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    let set = call.server.database(call.session.database).set(&args[1], call.now_ms)?;
    reply::array(call.out, args.len() - 2);
    for member in &args[2..] {
        let is_there = set.as_ref().is_some_and(|set| set.contains(&member[..]));
        reply::integer(call.out, i64::from(is_there));
    }
    Ok(())
}

/// What becomes of several sets.
#[derive(Clone, Copy)]
enum SetOperation {
    Union,
    Intersection,
    Difference,
}

fn sunion(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    answer(call, &args[1..], SetOperation::Union)
}

fn sinter(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    answer(call, &args[1..], SetOperation::Intersection)
}

fn sdiff(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    answer(call, &args[1..], SetOperation::Difference)
}

fn sunionstore(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    store(call, args, SetOperation::Union)
}

fn sinterstore(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    store(call, args, SetOperation::Intersection)
}

fn sdiffstore(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    store(call, args, SetOperation::Difference)
}

fn answer(call: &mut CommandCall<'_>, keys: &Args<'_>, operation: SetOperation) -> Done {
    let set = combined(call, keys, operation)?;
    reply::array(call.out, set.len());
    for member in &set {
        reply::bulk(call.out, member);
    }
    Ok(())
}

fn store(call: &mut CommandCall<'_>, args: &Args<'_>, operation: SetOperation) -> Done {
    let set = combined(call, &args[2..], operation)?;
    reply::count(call.out, set.len());
    let now_ms = call.now_ms;
    if set.is_empty() {
        call.database().remove(&args[1], now_ms);
    } else {
        call.database().put(&args[1], KeyEntry { value: KeyData::Set(set), expires_at_ms: None });
    }
    Ok(())
}

fn combined(call: &mut CommandCall<'_>, keys: &Args<'_>, operation: SetOperation) -> Result<Set, ErrorReply> {
    let now_ms = call.now_ms;
    let database = call.database();
    let mut result = Set::new();
    for (at, key) in keys.iter().enumerate() {
        // The type of each counts, also where the result is known to be empty.
        let set = database.set(key, now_ms)?;
        match (operation, set) {
            (SetOperation::Union, Some(set)) => result.extend(set.iter().cloned()),
            (_, Some(set)) if at == 0 => result.clone_from(set),
            (SetOperation::Intersection, Some(set)) => result.retain(|member| set.contains(member)),
            (SetOperation::Difference, Some(set)) => result.retain(|member| !set.contains(member)),
            (SetOperation::Intersection, None) => result.clear(),
            (SetOperation::Union | SetOperation::Difference, None) => {}
        }
    }
    Ok(result)
}

fn sintercard(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    let count = at_least(1, &args[1], "ERR numkeys should be greater than 0")?;
    if count > args.len() - 2 {
        return Err(ErrorReply::Fixed("ERR Number of keys can't be greater than number of args"));
    }
    let (keys, mut options) = args[2..].split_at(count);
    let mut limit = 0;
    while let [option, rest @ ..] = options {
        let [most, rest @ ..] = rest else { return Err(SYNTAX) };
        if !option.eq_ignore_ascii_case(b"limit") {
            return Err(SYNTAX);
        }
        limit = at_least(0, most, "ERR LIMIT can't be negative")?;
        options = rest;
    }
    let members = combined(call, keys, SetOperation::Intersection)?.len();
    reply::count(call.out, if limit == 0 { members } else { members.min(limit) });
    Ok(())
}

fn spop(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    let count = match &args[2..] {
        [] => None,
        [count] => Some(at_least(0, count, NOT_POSITIVE)?),
        _ => return Err(SYNTAX),
    };
    let now_ms = call.now_ms;
    let drawn = drawn(call, args, i64::try_from(count.unwrap_or(1)).unwrap_or(i64::MAX))?;
    let database = call.server.database(call.session.database);
    if let Some(set) = database.set(&args[1], now_ms)? {
        for member in &drawn {
            set.remove(member);
        }
    }
    if !drawn.is_empty() {
        database.written(&args[1], now_ms);
    }
    answer_drawn(call, &drawn, count.is_some());
    Ok(())
}

fn srandmember(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    let count = match &args[2..] {
        [] => None,
        [count] => Some(draws(count)?),
        _ => return Err(SYNTAX),
    };
    let drawn = drawn(call, args, count.unwrap_or(1))?;
    answer_drawn(call, &drawn, count.is_some());
    Ok(())
}

/// So many members of a set by chance; below 0, they may be the same.
fn drawn(call: &mut CommandCall<'_>, args: &Args<'_>, count: i64) -> Result<Vec<Vec<u8>>, ErrorReply> {
    let mut random = call.server.random;
    let set = call.server.database(call.session.database).set(&args[1], call.now_ms)?;
    let members: Vec<_> = set.into_iter().flat_map(|set| set.iter()).collect();
    let drawn = random.positions(count, members.len()).into_iter().map(|at| members[at].clone()).collect();
    call.server.random = random;
    Ok(drawn)
}

fn answer_drawn(call: &mut CommandCall<'_>, drawn: &[Vec<u8>], is_many: bool) {
    if is_many {
        reply::array(call.out, drawn.len());
    } else if drawn.is_empty() {
        reply::null(call.out);
    }
    for member in drawn {
        reply::bulk(call.out, member);
    }
}

fn sscan(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    scan::cursor(&args[2])?;
    let Some(set) = call.server.database(call.session.database).set(&args[1], call.now_ms)? else {
        scan::answer(call.out, &[]);
        return Ok(());
    };
    let pattern = scan::pattern(&args[3..])?;
    let found: Vec<_> = set.iter().map(Vec::as_slice).filter(|member| scan::matches(pattern, member)).collect();
    scan::answer(call.out, &found);
    Ok(())
}
