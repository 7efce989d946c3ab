//! Up to dozens of instances of one prefix, of which some come and go at any time: does it matter to anybody which of them
//! are there?

use rand::RngExt;

use super::{Mix, Planner, WorkloadPlan, fields, numbered};
use crate::seed::Stream;

pub(super) fn plan(draw: &mut Stream) -> WorkloadPlan {
    let instances = draw.random_range(4..=24);
    let uids = numbered("u", draw.random_range(2..=5));
    let mix = Mix { upsert: 6, get: 5, remove: draw.random_range(0..2), list: draw.random_range(0..2), clear: 0 };
    let workers = draw.random_range(1..=3);
    let length_us = draw.random_range(5_000_000..40_000_000);
    let count = draw.random_range(60..180);
    let mut planner = Planner::new(draw, vec!["fleet".to_owned(); instances]);
    planner.mixed(count, length_us, &mix, &uids, fields);
    planner.syncs(4, length_us);
    planner.finish(workers, length_us)
}
