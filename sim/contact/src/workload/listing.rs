//! Lists and clears beside writes: of few records that change all the time, or of so many that a list takes several pages
//! of SCAN. Is what is there listed, once, and nothing cleared that nobody saw?

use rand::{RngExt, seq::IndexedRandom};

use super::{Mix, Planner, WorkloadPlan, fields, numbered};
use crate::{history::Call, seed::Stream};

pub(super) fn plan(draw: &mut Stream) -> WorkloadPlan {
    let instances = draw.random_range(1..=3);
    let prefixes: Vec<_> =
        (0..instances).map(|_| (*["list", "list", "list*"].choose(draw).expect("three")).to_owned()).collect();
    // A page is of 500 keys that SCAN looked at, whosever they are.
    let many = draw.random_bool(0.25);
    let uids = numbered("u", if many { draw.random_range(300..700) } else { draw.random_range(4..40) });
    let mix = Mix { upsert: 6, get: 1, remove: 2, list: 5, clear: draw.random_range(0..2) };
    let workers = draw.random_range(1..=4);
    let length_us = draw.random_range(3_000_000..20_000_000);
    let count = draw.random_range(50..140);
    let mut planner = Planner::new(draw, prefixes);
    for uid in uids.iter().filter(|_| many) {
        let (at_us, instance) =
            (planner.draw.random_range(0..length_us / 3), planner.draw.random_range(0..planner.instances()));
        let patch = fields(planner.draw, &planner.tag(instance, uid));
        planner.push(at_us, instance, Call::upsert(uid, patch));
    }
    planner.mixed(count, length_us, &mix, &uids, fields);
    planner.finish(workers, length_us)
}
