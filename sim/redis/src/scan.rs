//! SCAN and KEYS, and what SSCAN, HSCAN and ZSCAN have in common: these answer all members at once, as Redis does for small
//! collections.
//!
//! SCAN promises that a key that is there from the first call to the last is answered at least once. The cursor is a
//! position in the order of `data`, so it holds however many keys come and go in between.

use super::{
    command::{Args, Command, CommandCall, CommandWork, Flag},
    error_reply::{Done, ErrorReply, SYNTAX, integer},
    glob, number, reply,
};

pub(super) const COMMANDS: &[Command] = &[
    Command { name: "keys", arity: 2, flags: &[Flag::ReadOnly], run: CommandWork::Data(keys) },
    Command { name: "scan", arity: -2, flags: &[Flag::ReadOnly], run: CommandWork::Data(scan) },
];

fn keys(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    let (now_ms, pattern) = (call.now_ms, &args[1]);
    let database = call.server.database(call.session.database);
    database.remove_expired(now_ms);
    let found: Vec<_> = database.entries().filter(|(key, _)| glob::matches(pattern, key)).collect();
    reply::array(call.out, found.len());
    for (key, _) in found {
        reply::bulk(call.out, key);
    }
    Ok(())
}

struct ScanOptions<'a> {
    count: usize,
    pattern: Option<&'a [u8]>,
    type_name: Option<&'a [u8]>,
}

fn scan(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    let cursor = cursor(&args[1])?;
    let options = options(&args[2..])?;
    let database = call.server.database(call.session.database);
    let (next, page) = database.page(cursor, options.count);
    let found: Vec<_> = page
        .into_iter()
        .filter(|(_, entry)| !entry.is_expired(call.now_ms))
        .filter(|(key, _)| options.pattern.is_none_or(|pattern| glob::matches(pattern, key)))
        .filter(|(_, entry)| {
            options.type_name.is_none_or(|name| name.eq_ignore_ascii_case(entry.type_name().as_bytes()))
        })
        .collect();
    reply::array(call.out, 2);
    reply::bulk(call.out, next.to_string().as_bytes());
    reply::array(call.out, found.len());
    for (key, _) in found {
        reply::bulk(call.out, key);
    }
    Ok(())
}

/// A word as a cursor.
pub(super) fn cursor(word: &[u8]) -> Result<u64, ErrorReply> {
    number::parse_cursor(word).ok_or(ErrorReply::Fixed("ERR invalid cursor"))
}

/// The pattern that members are to match, if there is one.
pub(super) fn pattern<'a>(words: &'a Args<'_>) -> Result<Option<&'a [u8]>, ErrorReply> {
    let options = options(words)?;
    // Only keys have types.
    if options.type_name.is_some() { Err(SYNTAX) } else { Ok(options.pattern) }
}

/// Whether a member matches, if it has to.
pub(super) fn matches(pattern: Option<&[u8]>, member: &[u8]) -> bool {
    pattern.is_none_or(|pattern| glob::matches(pattern, member))
}

/// Answers these words, which are all that there are.
pub(super) fn answer(out: &mut Vec<u8>, words: &[&[u8]]) {
    reply::array(out, 2);
    reply::bulk(out, b"0");
    reply::array(out, words.len());
    for word in words {
        reply::bulk(out, word);
    }
}

fn options<'a>(mut words: &'a Args<'_>) -> Result<ScanOptions<'a>, ErrorReply> {
    let mut options = ScanOptions { count: 10, pattern: None, type_name: None };
    while let [name, rest @ ..] = words {
        let [value, rest @ ..] = rest else { return Err(SYNTAX) };
        match name.to_ascii_lowercase().as_slice() {
            b"count" => {
                let count = integer(value)?;
                if count < 1 {
                    return Err(SYNTAX);
                }
                options.count = usize::try_from(count).unwrap_or(usize::MAX);
            }
            b"match" => options.pattern = Some(value),
            b"type" => options.type_name = Some(value),
            _ => return Err(SYNTAX),
        }
        words = rest;
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use crate::{ClientId, Engine};

    fn ask(engine: &mut Engine, line: &str) -> Vec<String> {
        let mut out = Vec::new();
        engine.feed(ClientId(1), format!("{line}\r\n").as_bytes(), 0, &mut out);
        // Only the words: lengths and counts start with '$' and '*'.
        let text = String::from_utf8_lossy(&out).into_owned();
        text.lines().filter(|line| !line.starts_with(['$', '*'])).map(str::to_owned).collect()
    }

    #[test]
    fn keys_that_stay_are_found_while_others_come_and_go() {
        let mut engine = Engine::new();
        engine.connect(ClientId(1));
        let stay: BTreeSet<String> = (0..200).map(|n| format!("stay{n}")).collect();
        for key in &stay {
            ask(&mut engine, &format!("SET {key} v"));
        }
        for n in 0..200 {
            ask(&mut engine, &format!("SET goes{n} v"));
        }
        let (mut cursor, mut found, mut calls) = ("0".to_owned(), BTreeSet::new(), 0);
        loop {
            let answer = ask(&mut engine, &format!("SCAN {cursor} COUNT 3"));
            found.extend(answer[1..].iter().filter(|key| key.starts_with("stay")).cloned());
            ask(&mut engine, &format!("DEL goes{calls}"));
            ask(&mut engine, &format!("SET comes{calls} v"));
            cursor.clone_from(&answer[0]);
            calls += 1;
            if cursor == "0" {
                break;
            }
        }
        assert!(calls > 50);
        assert_eq!(found, stay);
    }
}
