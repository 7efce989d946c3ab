//! Up to most of an hour, few operations: Redis is away for minutes at a time, instances restart meanwhile, and what they
//! may keep for it is limited in some runs. Is everything that was acknowledged there in the end?

use rand::RngExt;

use super::{Mix, Planner, WorkloadPlan, fields, numbered};
use crate::{history::Tuning, seed::Stream};

pub(super) fn plan(draw: &mut Stream) -> WorkloadPlan {
    let instances = draw.random_range(1..=3);
    let mut uids = numbered("shared", draw.random_range(1..=3));
    uids.extend((0..instances).flat_map(|instance| numbered(&format!("own{instance}-"), 2)));
    let mix = Mix { upsert: 6, get: 4, remove: 1, list: 1, clear: draw.random_range(0..2) };
    let workers = draw.random_range(1..=2);
    let length_us = draw.random_range(600_000_000..2_400_000_000);
    let count = draw.random_range(30..90);
    // Room for a record or two.
    let pending_bytes_max = draw.random_bool(0.3).then(|| draw.random_range(400..1_500));
    let mut planner = Planner::new(draw, vec!["app".to_owned(); instances]);
    planner.mixed(count, length_us, &mix, &uids, fields);
    planner.syncs(4, length_us);
    let plan = planner.finish(workers, length_us);
    let copies_bytes_max = draw.random_bool(0.2).then(|| draw.random_range(1_000..3_000));
    WorkloadPlan { tuning: Tuning { pending_bytes_max, copies_bytes_max, ..Tuning::default() }, ..plan }
}
