//! Several instances of one prefix, few records, so that writes meet: do the instances agree?

use rand::RngExt;

use super::{Mix, Planner, WorkloadPlan, fields, numbered};
use crate::seed::Stream;

pub(super) fn plan(draw: &mut Stream) -> WorkloadPlan {
    let instances = draw.random_range(2..=5);
    let uids = numbered("u", draw.random_range(1..=4));
    let mix = Mix {
        upsert: draw.random_range(2..10),
        get: draw.random_range(2..10),
        remove: draw.random_range(0..3),
        list: draw.random_range(0..2),
        clear: 0,
    };
    let workers = draw.random_range(1..=6);
    let length_us = draw.random_range(2_000_000..30_000_000);
    let count = draw.random_range(40..160);
    let mut planner = Planner::new(draw, vec!["crm".to_owned(); instances]);
    planner.mixed(count, length_us, &mix, &uids, fields);
    planner.finish(workers, length_us)
}
