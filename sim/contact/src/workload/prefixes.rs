//! Many prefixes in one Redis, each with an instance or two: names from every family of `isolation` at the same time, and
//! made-up ones of the characters that patterns, escapes and keys give a meaning to.

use rand::{RngExt, seq::IndexedRandom};

use super::{Mix, Planner, WorkloadPlan, fields, isolation};
use crate::seed::Stream;

/// What names are made of: separators, patterns, escapes, line ends, the widest and the strangest of Unicode.
const PIECES: [&str; 22] = [
    "a",
    "b",
    ":",
    "*",
    "?",
    "[",
    "]",
    "^",
    "-",
    "\\",
    "%",
    "%3A",
    "{",
    "}",
    "\r\n",
    "\0",
    " ",
    "cc1",
    "ü",
    "u\u{308}",
    "🦀",
    "\u{10ffff}",
];

pub(super) fn plan(draw: &mut Stream) -> WorkloadPlan {
    let mut names: Vec<String> = isolation::FAMILIES.concat().into_iter().map(ToOwned::to_owned).collect();
    names.extend((0..12).map(|_| name(draw)));
    // As long as one may be, and almost alike.
    names.extend(["y".repeat(1_024), "y".repeat(1_023)]);
    names.sort();
    names.dedup();
    let count = draw.random_range(6..=16);
    let chosen: Vec<_> = names.sample(draw, count).cloned().collect();
    let prefixes: Vec<_> =
        chosen.into_iter().flat_map(|prefix| vec![prefix; if draw.random_bool(0.3) { 2 } else { 1 }]).collect();
    let mut uids: Vec<_> = (0..draw.random_range(1..=3)).map(|_| name(draw)).collect();
    uids.extend(isolation::UIDS.choose(draw).map(|uid| (*uid).to_owned()));
    let mix = Mix { upsert: 8, get: 6, remove: 1, list: 3, clear: draw.random_range(0..3) };
    let workers = draw.random_range(1..=2);
    let length_us = draw.random_range(2_000_000..15_000_000);
    let count = draw.random_range(80..200);
    let mut planner = Planner::new(draw, prefixes);
    planner.mixed(count, length_us, &mix, &uids, fields);
    planner.finish(workers, length_us)
}

fn name(draw: &mut Stream) -> String {
    (0..draw.random_range(0..6)).map(|_| *PIECES.choose(draw).expect("pieces")).collect()
}
