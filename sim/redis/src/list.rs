//! Commands on lists. How a client waits for an element is in `blocking`.

use std::ops::Range;

use super::{
    blocking,
    command::{Args, Command, CommandCall, CommandWork, Flag},
    data::List,
    error_reply::{Done, ErrorReply, NOT_POSITIVE, SYNTAX, at_least, integer, wrong_arity},
    reply,
    waits::{ListEnd, Want},
};

pub(super) const COMMANDS: &[Command] = &[
    Command { name: "blmove", arity: 6, flags: MOVES_LATER, run: CommandWork::Data(blmove) },
    Command { name: "blpop", arity: -3, flags: POPS_LATER, run: CommandWork::Data(blpop) },
    Command { name: "brpop", arity: -3, flags: POPS_LATER, run: CommandWork::Data(brpop) },
    Command { name: "brpoplpush", arity: 4, flags: MOVES_LATER, run: CommandWork::Data(brpoplpush) },
    Command { name: "lindex", arity: 3, flags: &[Flag::ReadOnly], run: CommandWork::Data(lindex) },
    Command { name: "linsert", arity: 5, flags: &[Flag::Write, Flag::DenyOom], run: CommandWork::Data(linsert) },
    Command { name: "llen", arity: 2, flags: &[Flag::ReadOnly, Flag::Fast], run: CommandWork::Data(llen) },
    Command { name: "lmove", arity: 5, flags: &[Flag::Write, Flag::DenyOom], run: CommandWork::Data(lmove) },
    Command { name: "lpop", arity: -2, flags: &[Flag::Write, Flag::Fast], run: CommandWork::Data(lpop) },
    Command { name: "lpos", arity: -3, flags: &[Flag::ReadOnly], run: CommandWork::Data(lpos) },
    Command {
        name: "lpush",
        arity: -3,
        flags: &[Flag::Write, Flag::DenyOom, Flag::Fast],
        run: CommandWork::Data(lpush),
    },
    Command {
        name: "lpushx",
        arity: -3,
        flags: &[Flag::Write, Flag::DenyOom, Flag::Fast],
        run: CommandWork::Data(lpushx),
    },
    Command { name: "lrange", arity: 4, flags: &[Flag::ReadOnly], run: CommandWork::Data(lrange) },
    Command { name: "lrem", arity: 4, flags: &[Flag::Write], run: CommandWork::Data(lrem) },
    Command { name: "lset", arity: 4, flags: &[Flag::Write, Flag::DenyOom], run: CommandWork::Data(lset) },
    Command { name: "ltrim", arity: 4, flags: &[Flag::Write], run: CommandWork::Data(ltrim) },
    Command { name: "rpop", arity: -2, flags: &[Flag::Write, Flag::Fast], run: CommandWork::Data(rpop) },
    Command { name: "rpoplpush", arity: 3, flags: &[Flag::Write, Flag::DenyOom], run: CommandWork::Data(rpoplpush) },
    Command {
        name: "rpush",
        arity: -3,
        flags: &[Flag::Write, Flag::DenyOom, Flag::Fast],
        run: CommandWork::Data(rpush),
    },
    Command {
        name: "rpushx",
        arity: -3,
        flags: &[Flag::Write, Flag::DenyOom, Flag::Fast],
        run: CommandWork::Data(rpushx),
    },
];

const POPS_LATER: &[Flag] = &[Flag::Write, Flag::NoScript, Flag::Blocking];
const MOVES_LATER: &[Flag] = &[Flag::Write, Flag::DenyOom, Flag::NoScript, Flag::Blocking];

fn lpush(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    push(call, args, ListEnd::Left)
}

fn rpush(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    push(call, args, ListEnd::Right)
}

fn lpushx(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    push_if_present(call, args, ListEnd::Left)
}

fn rpushx(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    push_if_present(call, args, ListEnd::Right)
}

fn push(call: &mut CommandCall<'_>, args: &Args<'_>, end: ListEnd) -> Done {
    let now_ms = call.now_ms;
    call.database().list_or_new(&args[1], now_ms)?;
    push_if_present(call, args, end)
}

fn push_if_present(call: &mut CommandCall<'_>, args: &Args<'_>, end: ListEnd) -> Done {
    let now_ms = call.now_ms;
    let database = call.database();
    let Some(list) = database.list(&args[1], now_ms)? else { return reply_length(call, 0) };
    args[2..].iter().for_each(|element| end.push(list, element.to_vec()));
    let length = list.len();
    database.touch(&args[1]);
    reply_length(call, length)
}

fn lpop(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    pop(call, args, ListEnd::Left)
}

fn rpop(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    pop(call, args, ListEnd::Right)
}

fn pop(call: &mut CommandCall<'_>, args: &Args<'_>, end: ListEnd) -> Done {
    let count = match &args[2..] {
        [] => None,
        [count] => Some(at_least(0, count, NOT_POSITIVE)?),
        _ => return Err(wrong_arity(if end == ListEnd::Left { "lpop" } else { "rpop" })),
    };
    let database = call.server.database(call.session.database);
    let Some(list) = database.list(&args[1], call.now_ms)? else {
        match count {
            None => reply::null(call.out),
            Some(_) => reply::null_array(call.out),
        }
        return Ok(());
    };
    match count {
        None => reply::bulk_or_null(call.out, end.pop(list).as_deref()),
        // It does not count as written to.
        Some(0) => {
            reply::array(call.out, 0);
            return Ok(());
        }
        Some(count) => {
            let count = count.min(list.len());
            reply::array(call.out, count);
            for _ in 0..count {
                reply::bulk_or_null(call.out, end.pop(list).as_deref());
            }
        }
    }
    written(call, &args[1]);
    Ok(())
}

fn llen(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    let now_ms = call.now_ms;
    let length = call.database().list(&args[1], now_ms)?.map_or(0, |list| list.len());
    reply_length(call, length)
}

fn lrange(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    let (start, end) = (integer(&args[2])?, integer(&args[3])?);
    let Some(list) = call.server.database(call.session.database).list(&args[1], call.now_ms)? else {
        reply::array(call.out, 0);
        return Ok(());
    };
    let range = range(start, end, list.len());
    reply::array(call.out, range.len());
    for element in list.range(range) {
        reply::bulk(call.out, element);
    }
    Ok(())
}

fn lindex(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    let element = match call.server.database(call.session.database).list(&args[1], call.now_ms)? {
        // The index is read only where there is a list.
        Some(list) => position(integer(&args[2])?, list.len()).and_then(|at| list.get(at)),
        None => None,
    };
    reply::bulk_or_null(call.out, element.map(Vec::as_slice));
    Ok(())
}

fn lset(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    let now_ms = call.now_ms;
    let list = call.database().list(&args[1], now_ms)?.ok_or(ErrorReply::Fixed("ERR no such key"))?;
    let at = position(integer(&args[2])?, list.len());
    let held = at.and_then(|at| list.get_mut(at)).ok_or(ErrorReply::Fixed("ERR index out of range"))?;
    *held = args[3].to_vec();
    written(call, &args[1]);
    reply::status(call.out, b"OK");
    Ok(())
}

fn linsert(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    let after = match args[2].to_ascii_lowercase().as_slice() {
        b"before" => 0,
        b"after" => 1,
        _ => return Err(SYNTAX),
    };
    let now_ms = call.now_ms;
    let Some(list) = call.database().list(&args[1], now_ms)? else { return reply_length(call, 0) };
    let Some(at) = list.iter().position(|element| element[..] == args[3][..]) else {
        reply::integer(call.out, -1);
        return Ok(());
    };
    list.insert(at + after, args[4].to_vec());
    let length = list.len();
    written(call, &args[1]);
    reply_length(call, length)
}

fn lrem(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    let (count, now_ms) = (integer(&args[2])?, call.now_ms);
    let Some(list) = call.database().list(&args[1], now_ms)? else { return reply_length(call, 0) };
    let before = list.len();
    let mut left = if count == 0 { u64::MAX } else { count.unsigned_abs() };
    let mut is_kept = |element: &Vec<u8>| {
        let goes = left > 0 && element[..] == args[3][..];
        left -= u64::from(goes);
        !goes
    };
    if count < 0 {
        let mut kept: List = std::mem::take(list).into_iter().rev().filter(is_kept).collect();
        kept.make_contiguous().reverse();
        *list = kept;
    } else {
        list.retain(&mut is_kept);
    }
    let removed = before - list.len();
    if removed > 0 {
        written(call, &args[1]);
    }
    reply_length(call, removed)
}

fn ltrim(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    let (start, end, now_ms) = (integer(&args[2])?, integer(&args[3])?, call.now_ms);
    if let Some(list) = call.database().list(&args[1], now_ms)? {
        let range = range(start, end, list.len());
        list.truncate(range.end);
        list.drain(..range.start);
        written(call, &args[1]);
    }
    reply::status(call.out, b"OK");
    Ok(())
}

fn rpoplpush(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    move_element(call, args, ListEnd::Right, ListEnd::Left)
}

fn lmove(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    let (from, to) = (ListEnd::named(&args[3])?, ListEnd::named(&args[4])?);
    move_element(call, args, from, to)
}

fn move_element(call: &mut CommandCall<'_>, args: &Args<'_>, from: ListEnd, to: ListEnd) -> Done {
    let now_ms = call.now_ms;
    let element = blocking::moved(call.database(), (&args[1], from), (&args[2], to), now_ms)?;
    reply::bulk_or_null(call.out, element.as_deref());
    Ok(())
}

fn blpop(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    pop_or_wait(call, args, ListEnd::Left)
}

fn brpop(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    pop_or_wait(call, args, ListEnd::Right)
}

fn brpoplpush(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    move_or_wait(call, args, (ListEnd::Right, ListEnd::Left), &args[3])
}

fn blmove(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    let (from, to) = (ListEnd::named(&args[3])?, ListEnd::named(&args[4])?);
    move_or_wait(call, args, (from, to), &args[5])
}

fn pop_or_wait(call: &mut CommandCall<'_>, args: &Args<'_>, end: ListEnd) -> Done {
    let (keys, timeout) = args[1..].split_at(args.len() - 2);
    let (now_ms, want) = (call.now_ms, Want::Element(end));
    let until_ms = blocking::deadline(&timeout[0], now_ms)?;
    let database = call.server.database(call.session.database);
    for key in keys {
        if database.list(key, now_ms)?.is_some() {
            return blocking::answer(database, key, &want, now_ms, call.out);
        }
    }
    if !blocking::wait(call, keys, until_ms, want) {
        reply::null_array(call.out);
    }
    Ok(())
}

fn move_or_wait(call: &mut CommandCall<'_>, args: &Args<'_>, (from, to): (ListEnd, ListEnd), timeout: &[u8]) -> Done {
    let (now_ms, want) = (call.now_ms, Want::Move { target: args[2].to_vec(), from, to });
    let until_ms = blocking::deadline(timeout, now_ms)?;
    let database = call.server.database(call.session.database);
    if database.list(&args[1], now_ms)?.is_some() {
        return blocking::answer(database, &args[1], &want, now_ms, call.out);
    }
    if !blocking::wait(call, &args[1..2], until_ms, want) {
        reply::null(call.out);
    }
    Ok(())
}

/// The options of LPOS.
struct LposOptions {
    /// Matches to pass over before the first that counts.
    skip: usize,
    from_right: bool,
    /// How many matches to answer; none for one, which then is no array.
    count: Option<usize>,
    /// How many elements to look at.
    elements_max: usize,
}

fn lpos(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    let LposOptions { skip, from_right, count, elements_max } = search(&args[3..])?;
    let found: Vec<usize> = match call.server.database(call.session.database).list(&args[1], call.now_ms)? {
        None => Vec::new(),
        Some(list) => {
            let length = list.len();
            let place = |at: usize| if from_right { length - 1 - at } else { at };
            let looked_at = (0..length.min(elements_max)).map(place);
            looked_at.filter(|at| list[*at][..] == args[2][..]).skip(skip).take(count.unwrap_or(1)).collect()
        }
    };
    if count.is_some() {
        reply::array(call.out, found.len());
    } else if found.is_empty() {
        reply::null(call.out);
    }
    found.into_iter().try_for_each(|at| reply_length(call, at))
}

fn search(mut words: &Args<'_>) -> Result<LposOptions, ErrorReply> {
    let mut overflows = false;
    let mut search = LposOptions { skip: 0, from_right: false, count: None, elements_max: usize::MAX };
    while let [name, value, rest @ ..] = words {
        match name.to_ascii_lowercase().as_slice() {
            b"rank" => {
                let rank = integer(value)?;
                let skip = rank.unsigned_abs().checked_sub(1).ok_or(ErrorReply::Fixed(RANK_IS_ZERO))?;
                search.skip = usize::try_from(skip).unwrap_or(usize::MAX);
                search.from_right = rank < 0;
                overflows = rank == i64::MIN;
            }
            b"count" => search.count = Some(unlimited(at_least(0, value, "ERR COUNT can't be negative")?)),
            b"maxlen" => search.elements_max = unlimited(at_least(0, value, "ERR MAXLEN can't be negative")?),
            _ => return Err(SYNTAX),
        }
        words = rest;
    }
    if !words.is_empty() {
        return Err(SYNTAX);
    }
    if overflows {
        // The lowest rank stays negative when Redis turns its sign: every match is beyond it, and COUNT is never reached.
        search.skip = 0;
        search.count = search.count.map(|_| usize::MAX);
    }
    Ok(search)
}

const RANK_IS_ZERO: &str = "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use \
                            negative to start from the end of the list";

/// 0 stands for as many as there are.
fn unlimited(count: usize) -> usize {
    if count == 0 { usize::MAX } else { count }
}

/// The position that an index means, which counts from the right if it is negative; none if that is before the first.
fn position(index: i64, length: usize) -> Option<usize> {
    let length = i64::try_from(length).unwrap_or(i64::MAX);
    usize::try_from(if index < 0 { index.saturating_add(length) } else { index }).ok()
}

/// The positions from one index to another, both included, as far as there are such.
pub(super) fn range(start: i64, end: i64, length: usize) -> Range<usize> {
    let start = position(start, length).unwrap_or(0);
    let end = position(end, length).map_or(0, |end| end.saturating_add(1)).min(length);
    if start < end { start..end } else { 0..0 }
}

/// A list was written to: who watches it will know, and without elements it goes.
fn written(call: &mut CommandCall<'_>, key: &[u8]) {
    let now_ms = call.now_ms;
    call.database().written(key, now_ms);
}

fn reply_length(call: &mut CommandCall<'_>, length: usize) -> Done {
    reply::count(call.out, length);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::{ClientId, Content, Dumped, Engine};

    #[test]
    fn a_list_is_dumped_as_it_was_stored() {
        let list =
            Dumped { content: Content::List(vec![b"a".to_vec(), Vec::new(), b"a".to_vec()]), expires_at_ms: Some(9) };
        let (mut engine, mut out) = (Engine::new(), Vec::new());
        engine.store(b"l", &list);
        assert_eq!(engine.dump(8), [(b"l".to_vec(), list)].into());
        engine.connect(ClientId(1));
        engine.feed(ClientId(1), b"TYPE l\r\nLRANGE l 0 -1\r\n", 8, &mut out);
        assert_eq!(out, b"+list\r\n*3\r\n$1\r\na\r\n$0\r\n\r\n$1\r\na\r\n");
    }

    #[test]
    fn a_list_without_elements_is_no_key() {
        for emptied in ["LPOP l 3", "LTRIM l 5 6", "LREM l 0 e", "RPOPLPUSH l m"] {
            let (mut engine, mut out) = (Engine::new(), Vec::new());
            engine.connect(ClientId(1));
            engine.feed(ClientId(1), format!("RPUSH l e\r\n{emptied}\r\n").as_bytes(), 0, &mut out);
            assert!(!engine.dump(0).contains_key(&b"l"[..]), "{emptied}");
        }
    }
}
