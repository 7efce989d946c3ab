//! Few cells of one or two records, many instances, everything at the same moments: does what was answered `Shared` stay
//! one copy when writes meet at every step of each other's way?

use rand::{RngExt, seq::IndexedRandom};
use serde_json::{Value as Json, json};

use super::{Mix, Planner, WorkloadPlan, numbered};
use crate::{history::Patch, seed::Stream};

pub(super) fn plan(draw: &mut Stream) -> WorkloadPlan {
    let instances = draw.random_range(3..=8);
    let uids = numbered("hot", draw.random_range(1..=2));
    let mix = Mix { upsert: 6, get: 5, remove: draw.random_range(0..2), list: 0, clear: 0 };
    let workers = draw.random_range(2..=6);
    let bursts = draw.random_range(4..=12);
    let burst_us = *[0, 500, 5_000, 50_000].choose(draw).expect("four") + 1;
    let length_us = draw.random_range(2_000_000..12_000_000);
    let mut planner = Planner::new(draw, vec!["hot".to_owned(); instances]);
    for _ in 0..bursts {
        let begins_us = planner.draw.random_range(0..length_us);
        for _ in 0..planner.draw.random_range(3..=16) {
            let at_us = begins_us + planner.draw.random_range(0..burst_us);
            planner.one_of(at_us, &mix, &uids, few);
        }
    }
    planner.finish(workers, length_us)
}

/// One of three cells, or several.
fn few(draw: &mut Stream, tag: &Json) -> Patch {
    let mut patch = Patch::default();
    let which = draw.random_range(1..8);
    if which & 1 != 0 {
        patch.profile.insert("name".to_owned(), tag.clone());
    }
    if which & 2 != 0 {
        patch.contacts.push(json!({"type": "email", "value": "a@x.org", "label": tag}));
    }
    if which & 4 != 0 {
        patch.metadata.insert("source".to_owned(), tag.clone());
    }
    patch
}
