//! Records with hundreds of contact points and values of 100 kB: do they fit through every tier, in time and whole?

use rand::{RngExt, seq::IndexedRandom};
use serde_json::{Value as Json, json};

use super::{Mix, Plan, Planner, fields, numbered};
use crate::{history::Patch, seed::Stream};

pub(super) fn plan(draw: &mut Stream) -> Plan {
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
            let point = |number| json!({"type": "tel", "value": format!("+49 {number}"), "label": tag});
            patch.contacts = (first..first + count).map(point).collect();
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
