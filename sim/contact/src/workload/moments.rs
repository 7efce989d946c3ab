//! Plain work on few records, with lists over several pages in some runs: the faults beside it strike at moments of the protocol,
//! so that there have to be many of each.

use rand::RngExt;

use super::{Mix, Planner, WorkloadPlan, fields, large, numbered};
use crate::{history::Call, seed::Stream};

pub(super) fn plan(draw: &mut Stream) -> WorkloadPlan {
    let instances = draw.random_range(1..=4);
    // A page of SCAN is of 500 keys.
    let many = draw.random_bool(0.25);
    let uids = numbered("m", if many { draw.random_range(520..600) } else { draw.random_range(2..12) });
    let mix = Mix { upsert: 8, get: 5, remove: draw.random_range(0..3), list: draw.random_range(1..4), clear: 0 };
    let workers = draw.random_range(1..=4);
    let length_us = draw.random_range(4_000_000..20_000_000);
    let count = draw.random_range(60..160);
    let mut planner = Planner::new(draw, vec!["moments".to_owned(); instances]);
    for uid in uids.iter().filter(|_| many) {
        let (at_us, instance) =
            (planner.draw.random_range(0..length_us / 4), planner.draw.random_range(0..planner.instances()));
        let patch = fields(planner.draw, &planner.tag(instance, uid));
        planner.push(at_us, instance, Call::upsert(uid, patch));
    }
    let has_large = planner.draw.random_bool(0.15);
    planner.mixed(count, length_us, &mix, &uids, |draw, tag| {
        if has_large && draw.random_bool(0.1) { large::large(draw, tag) } else { fields(draw, tag) }
    });
    planner.syncs(3, length_us);
    planner.finish(workers, length_us)
}
