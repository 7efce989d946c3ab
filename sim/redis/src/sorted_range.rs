//! Commands on ranges of sorted sets: by rank, by score, and by the bytes of members.
//!
//! A range by bytes is meant for sets whose scores are all equal. On others Redis answers what its search happens to find: it looks for the
//! first member that is not below the lower bound, and goes on until one is above the upper bound. So does [`RangeBounds::select`].

use super::{
    command::{Args, Command, CommandCall, CommandWork, Flag},
    data::{KeyData, KeyEntry},
    error_reply::{Done, ErrorReply, SYNTAX, integer},
    float, list,
    ranking::{Score, SortedSet},
    reply,
};

const READS: &[Flag] = &[Flag::ReadOnly];
const READS_FAST: &[Flag] = &[Flag::ReadOnly, Flag::Fast];
const WRITES: &[Flag] = &[Flag::Write];

pub(super) const COMMANDS: &[Command] = &[
    Command { name: "zcount", arity: 4, flags: READS_FAST, run: CommandWork::Data(zcount) },
    Command { name: "zlexcount", arity: 4, flags: READS_FAST, run: CommandWork::Data(zlexcount) },
    Command { name: "zrange", arity: -4, flags: READS, run: CommandWork::Data(zrange) },
    Command { name: "zrangebylex", arity: -4, flags: READS, run: CommandWork::Data(zrangebylex) },
    Command { name: "zrangebyscore", arity: -4, flags: READS, run: CommandWork::Data(zrangebyscore) },
    Command {
        name: "zrangestore",
        arity: -5,
        flags: &[Flag::Write, Flag::DenyOom],
        run: CommandWork::Data(zrangestore),
    },
    Command { name: "zremrangebylex", arity: 4, flags: WRITES, run: CommandWork::Data(zremrangebylex) },
    Command { name: "zremrangebyrank", arity: 4, flags: WRITES, run: CommandWork::Data(zremrangebyrank) },
    Command { name: "zremrangebyscore", arity: 4, flags: WRITES, run: CommandWork::Data(zremrangebyscore) },
    Command { name: "zrevrange", arity: -4, flags: READS, run: CommandWork::Data(zrevrange) },
    Command { name: "zrevrangebylex", arity: -4, flags: READS, run: CommandWork::Data(zrevrangebylex) },
    Command { name: "zrevrangebyscore", arity: -4, flags: READS, run: CommandWork::Data(zrevrangebyscore) },
];

type Member = (Score, Vec<u8>);

/// What the bounds of a range are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum RangeBy {
    Rank,
    Score,
    Lex,
}

/// The bounds of a range.
enum RangeBounds {
    /// Positions, of which negative ones count from the end.
    Rank {
        start: i64,
        end: i64,
    },
    Score {
        min: ScoreBound,
        max: ScoreBound,
    },
    Lex {
        min: LexBound,
        max: LexBound,
    },
}

struct ScoreBound {
    value: f64,
    is_exclusive: bool,
}

enum LexBound {
    /// Below every member.
    Least,
    /// Above every member.
    Most,
    At {
        member: Vec<u8>,
        is_exclusive: bool,
    },
}

impl ScoreBound {
    fn read(word: &[u8]) -> Result<Self, ErrorReply> {
        let (word, is_exclusive) = word.strip_prefix(b"(").map_or((word, false), |rest| (rest, true));
        let value = float::parse_bound(word).ok_or(ErrorReply::Fixed("ERR min or max is not a float"))?;
        Ok(Self { value, is_exclusive })
    }
}

impl LexBound {
    fn read(word: &[u8]) -> Result<Self, ErrorReply> {
        match word {
            [b'-'] | [b'-', 0, ..] => Ok(Self::Least),
            [b'+'] | [b'+', 0, ..] => Ok(Self::Most),
            [mark @ (b'(' | b'['), member @ ..] => {
                Ok(Self::At { member: member.to_vec(), is_exclusive: *mark == b'(' })
            }
            _ => Err(ErrorReply::Fixed("ERR min or max not valid string range item")),
        }
    }
}

impl RangeBounds {
    fn read(by: RangeBy, min: &[u8], max: &[u8]) -> Result<Self, ErrorReply> {
        Ok(match by {
            RangeBy::Rank => Self::Rank { start: integer(min)?, end: integer(max)? },
            RangeBy::Score => Self::Score { min: ScoreBound::read(min)?, max: ScoreBound::read(max)? },
            RangeBy::Lex => Self::Lex { min: LexBound::read(min)?, max: LexBound::read(max)? },
        })
    }

    /// Whether a member is not below the lower bound. Every rank is taken for such.
    fn reaches(&self, (score, member): &Member) -> bool {
        match self {
            Self::Rank { .. } | Self::Lex { min: LexBound::Least, .. } => true,
            Self::Score { min, .. } => {
                if min.is_exclusive {
                    score.value() > min.value
                } else {
                    score.value() >= min.value
                }
            }
            Self::Lex { min: LexBound::Most, .. } => false,
            Self::Lex { min: LexBound::At { member: bound, is_exclusive }, .. } => {
                member > bound || !is_exclusive && member == bound
            }
        }
    }

    /// Whether a member is not above the upper bound.
    fn keeps(&self, (score, member): &Member) -> bool {
        match self {
            Self::Rank { .. } | Self::Lex { max: LexBound::Most, .. } => true,
            Self::Score { max, .. } => {
                if max.is_exclusive {
                    score.value() < max.value
                } else {
                    score.value() <= max.value
                }
            }
            Self::Lex { max: LexBound::Least, .. } => false,
            Self::Lex { max: LexBound::At { member: bound, is_exclusive }, .. } => {
                member < bound || !is_exclusive && member == bound
            }
        }
    }

    /// Whether no member can be in the range.
    fn are_empty(&self) -> bool {
        match self {
            Self::Rank { .. } => false,
            Self::Score { min, max } => {
                min.value > max.value || min.value >= max.value && (min.is_exclusive || max.is_exclusive)
            }
            Self::Lex {
                min: LexBound::At { member: min, is_exclusive: a },
                max: LexBound::At { member: max, is_exclusive: b },
            } => min > max || min == max && (*a || *b),
            // Redis takes both infinite bounds for exclusive.
            Self::Lex { min, max } => {
                matches!((min, max), (LexBound::Most, _) | (_, LexBound::Least))
            }
        }
    }

    /// The members in the range, in order or in reverse, but for the first so many, and at most so many of them if there is a limit.
    fn select<'a>(&self, set: &'a SortedSet, is_reversed: bool, (offset, limit): (i64, i64)) -> Vec<&'a Member> {
        let mut all: Vec<&Member> = set.in_order().collect();
        if is_reversed {
            all.reverse();
        }
        if let Self::Rank { start, end } = self {
            return all[list::range(*start, *end, all.len())].to_vec();
        }
        let (Some(first), Some(last)) = (all.first(), all.last()) else { return Vec::new() };
        let (lowest, highest) = if is_reversed { (last, first) } else { (first, last) };
        if self.are_empty() || !self.reaches(highest) || !self.keeps(lowest) {
            return Vec::new();
        }
        let begins = |member: &Member| if is_reversed { self.keeps(member) } else { self.reaches(member) };
        let goes_on = |member: &Member| if is_reversed { self.reaches(member) } else { self.keeps(member) };
        let Some(begin) = all.iter().position(|member| begins(member)).filter(|at| goes_on(all[*at])) else {
            return Vec::new();
        };
        // A negative offset passes over all members, and a negative limit is none.
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        all.into_iter().skip(begin).skip(offset).take_while(|member| goes_on(member)).take(limit).collect()
    }
}

/// What a command of the family of ZRANGE asks for.
struct Query {
    bounds: RangeBounds,
    is_reversed: bool,
    with_scores: bool,
    /// The members to pass over, and how many to answer; -1 for all.
    limit: (i64, i64),
}

/// Which options a command leaves to its client: those that are given are fixed.
#[derive(Clone, Copy)]
struct Fixed {
    by: Option<RangeBy>,
    is_reversed: Option<bool>,
    stores: bool,
}

impl Query {
    /// From the words after the key.
    fn read(words: &Args<'_>, fixed: Fixed) -> Result<Self, ErrorReply> {
        let Fixed { mut by, mut is_reversed, stores } = fixed;
        let (mut with_scores, mut limit, mut options) = (false, (0, -1), &words[2..]);
        while let [option, rest @ ..] = options {
            options = rest;
            match (option.to_ascii_lowercase().as_slice(), rest) {
                (b"withscores", _) if !stores => with_scores = true,
                (b"limit", [offset, most, rest @ ..]) => {
                    limit = (integer(offset)?, integer(most)?);
                    options = rest;
                }
                (b"rev", _) if is_reversed.is_none() => is_reversed = Some(true),
                (b"bylex", _) if by.is_none() => by = Some(RangeBy::Lex),
                (b"byscore", _) if by.is_none() => by = Some(RangeBy::Score),
                _ => return Err(SYNTAX),
            }
        }
        let (by, is_reversed) = (by.unwrap_or(RangeBy::Rank), is_reversed.unwrap_or(false));
        if limit.1 != -1 && by == RangeBy::Rank {
            return Err(ErrorReply::Fixed(
                "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
            ));
        }
        if with_scores && by == RangeBy::Lex {
            return Err(ErrorReply::Fixed("ERR syntax error, WITHSCORES not supported in combination with BYLEX"));
        }
        // In reverse, the higher bound comes first.
        let (min, max) =
            if is_reversed && by != RangeBy::Rank { (&words[1], &words[0]) } else { (&words[0], &words[1]) };
        Ok(Self { bounds: RangeBounds::read(by, min, max)?, is_reversed, with_scores, limit })
    }

    fn select<'a>(&self, set: &'a SortedSet) -> Vec<&'a Member> {
        self.bounds.select(set, self.is_reversed, self.limit)
    }
}

fn zrange(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    answer(call, args, Fixed { by: None, is_reversed: None, stores: false })
}

fn zrevrange(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    answer(call, args, Fixed { by: Some(RangeBy::Rank), is_reversed: Some(true), stores: false })
}

fn zrangebyscore(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    answer(call, args, Fixed { by: Some(RangeBy::Score), is_reversed: Some(false), stores: false })
}

fn zrevrangebyscore(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    answer(call, args, Fixed { by: Some(RangeBy::Score), is_reversed: Some(true), stores: false })
}

fn zrangebylex(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    answer(call, args, Fixed { by: Some(RangeBy::Lex), is_reversed: Some(false), stores: false })
}

fn zrevrangebylex(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    answer(call, args, Fixed { by: Some(RangeBy::Lex), is_reversed: Some(true), stores: false })
}

fn answer(call: &mut CommandCall<'_>, args: &Args<'_>, fixed: Fixed) -> Done {
    let query = Query::read(&args[2..], fixed)?;
    let set = call.server.database(call.session.database).sorted_set(&args[1], call.now_ms)?;
    let found = set.as_ref().map(|set| query.select(set)).unwrap_or_default();
    reply::array(call.out, found.len() * (1 + usize::from(query.with_scores)));
    for (score, member) in found {
        reply::bulk(call.out, member);
        if query.with_scores {
            reply::score(call.out, score.value());
        }
    }
    Ok(())
}

fn zrangestore(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    let query = Query::read(&args[3..], Fixed { by: None, is_reversed: None, stores: true })?;
    let now_ms = call.now_ms;
    let database = call.server.database(call.session.database);
    let found = database.sorted_set(&args[2], now_ms)?.map(|set| {
        SortedSet::of(&query.select(set).into_iter().map(|(score, member)| (member.clone(), *score)).collect())
    });
    let found = found.unwrap_or_default();
    reply::count(call.out, found.len());
    if found.len() == 0 {
        database.remove(&args[1], now_ms);
    } else {
        database.put(&args[1], KeyEntry { value: KeyData::SortedSet(Box::new(found)), expires_at_ms: None });
    }
    Ok(())
}

fn zcount(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    count(call, args, RangeBy::Score)
}

fn zlexcount(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    count(call, args, RangeBy::Lex)
}

fn count(call: &mut CommandCall<'_>, args: &Args<'_>, by: RangeBy) -> Done {
    let bounds = RangeBounds::read(by, &args[2], &args[3])?;
    let set = call.server.database(call.session.database).sorted_set(&args[1], call.now_ms)?;
    reply::count(call.out, set.map_or(0, |set| bounds.select(set, false, (0, -1)).len()));
    Ok(())
}

fn zremrangebyrank(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    remove(call, args, RangeBy::Rank)
}

fn zremrangebyscore(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    remove(call, args, RangeBy::Score)
}

fn zremrangebylex(call: &mut CommandCall<'_>, args: &Args<'_>) -> Done {
    remove(call, args, RangeBy::Lex)
}

fn remove(call: &mut CommandCall<'_>, args: &Args<'_>, by: RangeBy) -> Done {
    let bounds = RangeBounds::read(by, &args[2], &args[3])?;
    let now_ms = call.now_ms;
    let database = call.server.database(call.session.database);
    let mut removed = 0;
    if let Some(set) = database.sorted_set(&args[1], now_ms)? {
        let found: Vec<_> = bounds.select(set, false, (0, -1)).into_iter().map(|(_, member)| member.clone()).collect();
        removed = found.iter().filter(|member| set.remove(member)).count();
    }
    if removed > 0 {
        database.written(&args[1], now_ms);
    }
    reply::count(call.out, removed);
    Ok(())
}
