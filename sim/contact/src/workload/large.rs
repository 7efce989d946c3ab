//! Records with hundreds of contact points and values of 100 kB: do they fit through every tier, in time and whole?

use std::sync::Arc;

use rand::{
    RngExt,
    seq::{IndexedRandom, IteratorRandom},
};
use serde_json::{Value as Json, json};

use super::{Mix, Planner, WorkloadPlan, fields, numbered};
use crate::{
    history::{Call, Patch},
    seed::Stream,
};

pub(super) fn plan(draw: &mut Stream) -> WorkloadPlan {
    let instances = draw.random_range(1..=3);
    let uids = numbered("large", draw.random_range(1..=2));
    let mix = Mix { upsert: 4, get: 4, remove: draw.random_range(0..2), list: 0, clear: 0 };
    let workers = draw.random_range(1..=2);
    let length_us = draw.random_range(2_000_000..12_000_000);
    let count = draw.random_range(6..20);
    let mut planner = Planner::new(draw, vec!["big".to_owned(); instances]);
    planner.mixed(count, length_us, &mix, &uids, large);
    planner.finish(workers, length_us)
}

/// Many cells, one large cell, or a few small ones beside them.
pub(super) fn large(draw: &mut Stream, tag: &Json) -> Patch {
    let mut patch = Patch::default();
    match draw.random_range(0..3) {
        0 => {
            // More than Lua unpacks at once, in the largest.
            let count = *[100, 300, 700].choose(draw).expect("three");
            let first = draw.random_range(0..2) * count;
            patch.contacts = (first..first + count).map(|number| point(number, tag)).collect();
        }
        1 => {
            let piece = *["x", "\"", "\u{0}", "🦀"].choose(draw).expect("four");
            let text = piece.repeat(100_000 / piece.len());
            patch.metadata.insert("notes".to_owned(), json!({"tag": tag, "payload": text}));
        }
        _ => patch = fields(draw, tag),
    }
    patch
}

/// How many contact points the largest record has: half of the client's limit.
const POINTS_MOST: usize = 5_000;

/// In one run of eight, one upsert of contact points has thousands.
pub(super) fn enlarge(plan: &mut WorkloadPlan, draw: &mut Stream) {
    if !draw.random_bool(0.125) || plan.operations.iter().any(|planned| takes_its_room(&planned.call)) {
        return;
    }
    let upserts = plan.operations.iter_mut().filter_map(|planned| Arc::make_mut(&mut planned.call).patch_mut());
    let Some(patch) = upserts.filter(|patch| patch.contacts.len() > 1).choose(draw) else { return };
    let label = patch.contacts[0]["label"].clone();
    patch.contacts = (0..POINTS_MOST).map(|number| point(number, &label)).collect();
}

/// Whether a call writes a value that takes six times its size as JSON: with thousands of contact points the record would be too large.
fn takes_its_room(call: &Call) -> bool {
    let Call::Upsert { patch, .. } = call else { return false };
    patch.metadata.get("notes").and_then(|notes| notes["payload"].as_str()).is_some_and(|text| text.starts_with('\0'))
}

fn point(number: usize, label: &Json) -> Json {
    json!({"type": "tel", "value": format!("+49 {number}"), "label": label})
}
