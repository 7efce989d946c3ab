//! Instances of several prefixes in one Redis, prefixes and uids chosen to collide if anything lets them, and clears
//! beside writes: does any prefix see, change or clear another's data?

use rand::{RngExt, seq::IndexedRandom};

use super::{Mix, Planner, WorkloadPlan, fields};
use crate::seed::Stream;

/// Families of prefixes of which one could be taken for a part or a pattern of another.
pub(super) const FAMILIES: [&[&str]; 6] = [
    &["a", "a:b", "a:"],
    &["user", "user*", "user?"],
    &["[ab]", "a", "b"],
    &["", ":", "%3A"],
    &["x{y}", "x{z}", "x"],
    &["ü\n", "u", "\\u"],
];

pub(super) const UIDS: [&str; 12] = ["u", "b:u", "*", "?", "[^x]", "\\", "", "%", "a:u", "{u}", "line\nbreak", "🦀"];

pub(super) fn plan(draw: &mut Stream) -> WorkloadPlan {
    let family = *FAMILIES.choose(draw).expect("six");
    let count = draw.random_range(2..=family.len());
    let chosen: Vec<_> = family.sample(draw, count).copied().collect();
    let each = draw.random_range(1..=2);
    let prefixes = chosen.into_iter().flat_map(|prefix| vec![prefix.to_owned(); each]).collect();
    let mut uids: Vec<_> = UIDS.iter().filter(|_| draw.random_bool(0.4)).map(|uid| (*uid).to_owned()).collect();
    uids.push(if draw.random_bool(0.1) { "long".repeat(500) } else { "plain".to_owned() });
    let workers = draw.random_range(1..=2);
    let length_us = draw.random_range(2_000_000..20_000_000);
    let count = draw.random_range(40..140);
    let mix = Mix { upsert: 8, get: 5, remove: 1, list: 2, clear: draw.random_range(0..2) };
    let mut planner = Planner::new(draw, prefixes);
    planner.mixed(count, length_us, &mix, &uids, fields);
    planner.finish(workers, length_us)
}
