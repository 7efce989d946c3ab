//! Commands on sorted sets by member and by end. Those on ranges are in `sorted_range`.

use super::{
    blocking,
    command::{Args, Command, CommandCall, CommandWork, Flag},
    error_reply::{Done, ErrorReply, NOT_A_FLOAT, NOT_POSITIVE, SYNTAX, at_least, draws},
    float,
    ranking::{Score, SortedSet},
    reply, scan,
    waits::Want,
};

const READS: &[Flag] = &[Flag::ReadOnly];
const READS_FAST: &[Flag] = &[Flag::ReadOnly, Flag::Fast];
const WRITES_FAST: &[Flag] = &[Flag::Write, Flag::Fast];
const ADDS: &[Flag] = &[Flag::Write, Flag::DenyOom, Flag::Fast];

const POPS_LATER: &[Flag] = &[Flag::Write, Flag::NoScript, Flag::Fast, Flag::Blocking];

pub(super) const COMMANDS: &[Command] = &[
    Command { name: "bzpopmax", arity: -3, flags: POPS_LATER, run: CommandWork::Data(bzpopmax) },
    Command { name: "bzpopmin", arity: -3, flags: POPS_LATER, run: CommandWork::Data(bzpopmin) },
    Command { name: "zadd", arity: -4, flags: ADDS, run: CommandWork::Data(zadd) },
    Command { name: "zcard", arity: 2, flags: READS_FAST, run: CommandWork::Data(zcard) },
    Command { name: "zincrby", arity: 4, flags: ADDS, run: CommandWork::Data(zincrby) },
    Command { name: "zmscore", arity: -3, flags: READS_FAST, run: CommandWork::Data(zmscore) },
    Command { name: "zpopmax", arity: -2, flags: WRITES_FAST, run: CommandWork::Data(zpopmax) },
    Command { name: "zpopmin", arity: -2, flags: WRITES_FAST, run: CommandWork::Data(zpopmin) },
    Command { name: "zrandmember", arity: -2, flags: READS, run: CommandWork::Data(zrandmember) },
    Command { name: "zrank", arity: 3, flags: READS_FAST, run: CommandWork::Data(zrank) },
    Command { name: "zrem", arity: -3, flags: WRITES_FAST, run: CommandWork::Data(zrem) },
    Command { name: "zrevrank", arity: 3, flags: READS_FAST, run: CommandWork::Data(zrevrank) },
    Command { name: "zscan", arity: -3, flags: READS, run: CommandWork::Data(zscan) },
    Command { name: "zscore", arity: 3, flags: READS_FAST, run: CommandWork::Data(zscore) },
];

/// The options of ZADD.
#[derive(Clone, Copy, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option word, and most go together")]
struct AddOptions {
    only_new: bool,
    only_held: bool,
    only_greater: bool,
    only_less: bool,
    answer_changed: bool,
    increments: bool,
}

impl AddOptions {
    /// Takes the options off the words.
    fn take(words: &mut &Args<'_>, increments: bool) -> Self {
        let mut options = Self { increments, ..Self::default() };
        while let [word, rest @ ..] = *words {
            match word.to_ascii_lowercase().as_slice() {
                b"nx" => options.only_new = true,
                b"xx" => options.only_held = true,
                b"gt" => options.only_greater = true,
                b"lt" => options.only_less = true,
                b"ch" => options.answer_changed = true,
                b"incr" => options.increments = true,
                _ => break,
            }
            *words = rest;
        }
        options
    }

    fn check(self, pairs: usize) -> Done {
        let Self { only_new, only_held, only_greater, only_less, .. } = self;
        if only_new && only_held {
            return Err(ErrorReply::Fixed("ERR XX and NX options at the same time are not compatible"));
        }
        if only_new && (only_greater || only_less) || only_greater && only_less {
            return Err(ErrorReply::Fixed("ERR GT, LT, and/or NX options at the same time are not compatible"));
        }
        if self.increments && pairs > 1 {
            return Err(ErrorReply::Fixed("ERR INCR option supports a single increment-element pair"));
        }
        Ok(())
    }

    /// The score that a member gets; none if it keeps what it has.
    fn new_score(self, held: Option<f64>, given: f64) -> Result<Option<f64>, ErrorReply> {
        let Some(held) = held else { return Ok((!self.only_held).then_some(given)) };
        if self.only_new {
            return Ok(None);
        }
        let score = if self.increments { held + given } else { given };
        if score.is_nan() {
            return Err(ErrorReply::Fixed("ERR resulting score is not a number (NaN)"));
        }
        let is_kept = self.only_less && score >= held || self.only_greater && score <= held;
        Ok((!is_kept).then_some(score))
    }
}

fn zadd(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    add(call, args, false)
}

fn zincrby(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    add(call, args, true)
}

fn add(call: &mut CommandCall<'_>, args: &Args<'_>, increments: bool) -> Done {
    let mut words = &args[2..];
    let options = AddOptions::take(&mut words, increments);
    if words.is_empty() || !words.len().is_multiple_of(2) {
        return Err(SYNTAX);
    }
    options.check(words.len() / 2)?;
    let scores = words.chunks_exact(2).map(|pair| float::parse(&pair[0]).ok_or(NOT_A_FLOAT));
    let scores: Vec<f64> = scores.collect::<Result<_, _>>()?;
    let (key, now_ms) = (&args[1], call.now_ms);
    let database = call.server.database(call.session.database);
    let (mut added, mut updated, mut last) = (0, 0, None);
    if database.sorted_set(key, now_ms)?.is_some() || !options.only_held {
        let set = database.sorted_set_or_new(key, now_ms)?;
        for (pair, given) in words.chunks_exact(2).zip(scores) {
            let member = &pair[1];
            let held = set.score(member).map(Score::value);
            // It fails for a single pair only: nothing has changed before.
            last = options.new_score(held, given)?;
            let Some((value, score)) = last.and_then(|value| Some((value, Score::new(value)?))) else { continue };
            added += usize::from(held.is_none());
            #[expect(clippy::float_cmp, reason = "Redis asks whether it is exactly the same score")]
            if held.is_none_or(|held| held != value) {
                updated += usize::from(held.is_some());
                set.set(member, score);
            }
        }
    }
    if added + updated > 0 {
        database.touch(key);
    }
    match last {
        None if options.increments => reply::null(call.out),
        Some(score) if options.increments => reply::score(call.out, score),
        _ => reply::count(call.out, if options.answer_changed { added + updated } else { added }),
    }
    Ok(())
}

fn zrem(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    let now_ms = call.now_ms;
    let database = call.database();
    let mut removed = 0;
    if let Some(set) = database.sorted_set(&args[1], now_ms)? {
        removed = args[2..].iter().filter(|member| set.remove(member)).count();
    }
    if removed > 0 {
        database.written(&args[1], now_ms);
    }
    reply::count(call.out, removed);
    Ok(())
}

fn zscore(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    let set = call.server.database(call.session.database).sorted_set(&args[1], call.now_ms)?;
    reply_score_or_null(call.out, set.and_then(|set| set.score(&args[2])));
    Ok(())
}

fn zmscore(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    let set = call.server.database(call.session.database).sorted_set(&args[1], call.now_ms)?;
    reply::array(call.out, args.len() - 2);
    for member in &args[2..] {
        reply_score_or_null(call.out, set.as_ref().and_then(|set| set.score(member)));
    }
    Ok(())
}

fn zcard(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    let now_ms = call.now_ms;
    let count = call.database().sorted_set(&args[1], now_ms)?.map_or(0, |set| set.len());
    reply::count(call.out, count);
    Ok(())
}

fn zrank(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    answer_rank(call, args, |_, rank| rank)
}

fn zrevrank(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    answer_rank(call, args, |set, rank| set.len() - 1 - rank)
}

fn answer_rank(call: &mut CommandCall<'_>, args: &Args<'_>, counted: fn(&SortedSet, usize) -> usize) -> Done {
    let set = call.server.database(call.session.database).sorted_set(&args[1], call.now_ms)?;
    match set.and_then(|set| Some(counted(set, set.rank(&args[2])?))) {
        Some(rank) => reply::count(call.out, rank),
        None => reply::null(call.out),
    }
    Ok(())
}

fn zpopmin(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    pop(call, args, false)
}

fn zpopmax(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    pop(call, args, true)
}

fn pop(call: &mut CommandCall<'_>, args: &Args<'_>, is_highest: bool) -> Done {
    let count = match &args[2..] {
        [] => 1,
        [count] => at_least(0, count, NOT_POSITIVE)?,
        _ => return Err(SYNTAX),
    };
    let now_ms = call.now_ms;
    let database = call.server.database(call.session.database);
    let set = database.sorted_set(&args[1], now_ms)?;
    let popped: Vec<_> = set.map_or(Vec::new(), |set| (0..count).map_while(|_| set.pop(is_highest)).collect());
    if !popped.is_empty() {
        database.written(&args[1], now_ms);
    }
    reply::array(call.out, 2 * popped.len());
    for (score, member) in popped {
        reply::bulk(call.out, &member);
        reply::score(call.out, score.value());
    }
    Ok(())
}

fn bzpopmin(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    pop_or_wait(call, args, false)
}

fn bzpopmax(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    pop_or_wait(call, args, true)
}

fn pop_or_wait(call: &mut CommandCall<'_>, args: &Args<'_>, is_highest: bool) -> Done {
    let (keys, timeout) = args[1..].split_at(args.len() - 2);
    let (now_ms, want) = (call.now_ms, Want::Member { is_highest });
    let until_ms = blocking::deadline(&timeout[0], now_ms)?;
    let database = call.server.database(call.session.database);
    for key in keys {
        if database.sorted_set(key, now_ms)?.is_some() {
            return blocking::answer(database, key, &want, now_ms, call.out);
        }
    }
    if !blocking::wait(call, keys, until_ms, want) {
        reply::null_array(call.out);
    }
    Ok(())
}

fn zrandmember(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    let count = args.get(2).map(|word| draws(word)).transpose()?;
    let with_scores = match &args[2..] {
        [] | [_] => false,
        [_, option] if option.eq_ignore_ascii_case(b"withscores") => true,
        _ => return Err(SYNTAX),
    };
    if with_scores && count.is_some_and(|count| count.unsigned_abs() > i64::MAX.unsigned_abs() / 2) {
        return Err(ErrorReply::Fixed("ERR value is out of range"));
    }
    let mut random = call.server.random;
    let set = call.server.database(call.session.database).sorted_set(&args[1], call.now_ms)?;
    let members: Vec<_> = set.into_iter().flat_map(|set| set.in_order()).collect();
    let drawn = random.positions(count.unwrap_or(1), members.len());
    match count {
        Some(_) => reply::array(call.out, drawn.len() * (1 + usize::from(with_scores))),
        None if members.is_empty() => reply::null(call.out),
        None => {}
    }
    for (score, member) in drawn.into_iter().map(|at| members[at]) {
        reply::bulk(call.out, member);
        if with_scores {
            reply::score(call.out, score.value());
        }
    }
    call.server.random = random;
    Ok(())
}

fn zscan(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    scan::cursor(&args[2])?;
    let Some(set) = call.server.database(call.session.database).sorted_set(&args[1], call.now_ms)? else {
        scan::answer(call.out, &[]);
        return Ok(());
    };
    let pattern = scan::pattern(&args[3..])?;
    let found = set.in_order().filter(|(_, member)| scan::matches(pattern, member));
    let words: Vec<_> = found.flat_map(|(score, member)| [member.clone(), score.to_string().into_bytes()]).collect();
    scan::answer(call.out, &words.iter().map(Vec::as_slice).collect::<Vec<_>>());
    Ok(())
}

fn reply_score_or_null(out: &mut Vec<u8>, score: Option<Score>) {
    match score {
        Some(score) => reply::score(out, score.value()),
        None => reply::null(out),
    }
}
