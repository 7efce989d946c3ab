//! Records with a short time to live, renewed by some writes and forgotten by others, while Redis is away and while it is
//! there; in some runs for longer than removals and expiries are remembered. Does a record go when its time is over, for
//! everybody, and not before?

use rand::{RngExt, seq::IndexedRandom};

use super::{Mix, Planner, WorkloadPlan, fields, numbered};
use crate::{history::Tuning, seed::Stream};

/// The least that the faults of a plan, one after the other, leave something of: see the budget.
const TOMBSTONE_TTL_MS: u64 = 120_000;

pub(super) fn plan(draw: &mut Stream) -> WorkloadPlan {
    let instances = draw.random_range(1..=4);
    let uids = numbered("u", draw.random_range(1..=4));
    let mix = Mix {
        upsert: 5,
        get: 6,
        remove: draw.random_range(0..2),
        list: draw.random_range(0..2),
        clear: draw.random_range(0..2),
    };
    let workers = draw.random_range(1..=3);
    let forgets = draw.random_bool(0.4);
    let length_us =
        if forgets { draw.random_range(150_000_000..400_000_000) } else { draw.random_range(8_000_000..60_000_000) };
    // From shorter than the pauses between two writes to longer than most of them.
    let record_ttl_ms = *[2_000, 3_000, 5_000, 10_000, 20_000].choose(draw).expect("five");
    let count = draw.random_range(50..160);
    let mut planner = Planner::new(draw, vec!["brief".to_owned(); instances]);
    planner.mixed(count, length_us, &mix, &uids, fields);
    planner.syncs(3, length_us);
    let tuning = Tuning {
        record_ttl_ms: Some(record_ttl_ms),
        tombstone_ttl_ms: forgets.then_some(TOMBSTONE_TTL_MS),
        ..Tuning::default()
    };
    WorkloadPlan { tuning, ..planner.finish(workers, length_us) }
}

/// In one of four of the runs that soon forget removals, records have no end.
pub(super) fn outlive(plan: &mut WorkloadPlan, draw: &mut Stream) {
    if draw.random_bool(0.25) && plan.tuning.tombstone_ttl_ms.is_some() {
        plan.tuning.record_ttl_ms = None;
    }
}
