//! Long phases, mostly writes and reads of an instance's own records and a few shared ones, and now and then a sync:
//! does everything go on without Redis, and is everything there afterwards?

use rand::{RngExt, seq::IndexedRandom};

use super::{Mix, Planner, WorkloadPlan, fields, numbered};
use crate::{history::Call, seed::Stream};

pub(super) fn plan(draw: &mut Stream) -> WorkloadPlan {
    let instances = draw.random_range(1..=4);
    let shared = numbered("shared", draw.random_range(0..=2));
    let workers = draw.random_range(1..=4);
    let length_us = draw.random_range(20_000_000..90_000_000);
    let mut planner = Planner::new(draw, vec!["app".to_owned(); instances]);
    let mix = Mix { upsert: 4, get: 4, remove: planner.draw.random_range(0..2), list: 1, clear: 0 };
    let mut uids = shared;
    uids.extend((0..instances).flat_map(|instance| numbered(&format!("own{instance}-"), 2)));
    let count = planner.draw.random_range(40..120);
    planner.mixed(count, length_us, &mix, &uids, fields);
    for _ in 0..planner.draw.random_range(0..4) {
        let at_us = planner.draw.random_range(0..length_us);
        let instance = *(0..planner.instances()).collect::<Vec<_>>().choose(planner.draw).expect("an instance");
        planner.push(at_us, instance, Call::Sync);
    }
    planner.finish(workers, length_us)
}
