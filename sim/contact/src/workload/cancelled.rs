//! Callers that lose patience: most calls are given up at some await, while Redis is slow, and others go on beside them.
//! Is what was left half done ever seen half done, or taken for the answer to something else?

use rand::RngExt;

use super::{Mix, Planner, WorkloadPlan, fields, numbered};
use crate::seed::Stream;

pub(super) fn plan(draw: &mut Stream) -> WorkloadPlan {
    let instances = draw.random_range(1..=4);
    let uids = numbered("u", draw.random_range(1..=4));
    let mix = Mix { upsert: 6, get: 6, remove: 1, list: 1, clear: draw.random_range(0..2) };
    let workers = draw.random_range(2..=6);
    let length_us = draw.random_range(3_000_000..20_000_000);
    let count = draw.random_range(60..180);
    let mut planner = Planner::new(draw, vec!["hasty".to_owned(); instances]);
    planner.mixed(count, length_us, &mix, &uids, fields);
    planner.syncs(3, length_us);
    planner.finish(workers, length_us)
}
