//! Something of everything: each run draws its sizes, names, values and settings from all the other workloads.

use rand::{RngExt, seq::IndexedRandom};
use serde_json::Value as Json;

use super::{Mix, Planner, WorkloadPlan, fields, isolation, large, numbered, serialization};
use crate::{
    history::{Patch, Tuning},
    seed::Stream,
};

/// Makes what an upsert writes from its tag.
type Patches = fn(&mut Stream, &Json) -> Patch;

pub(super) fn plan(draw: &mut Stream) -> WorkloadPlan {
    let instances = *[1, 2, 2, 3, 4, 6, 10].choose(draw).expect("seven");
    let prefixes: Vec<_> = if draw.random_bool(0.3) {
        let family = *isolation::FAMILIES.choose(draw).expect("six");
        (0..instances).map(|_| (*family.choose(draw).expect("three")).to_owned()).collect()
    } else {
        vec!["mixed".to_owned(); instances]
    };
    let mut uids = numbered("u", draw.random_range(1..=6));
    uids.extend(isolation::UIDS.iter().filter(|_| draw.random_bool(0.1)).map(|uid| (*uid).to_owned()));
    let mix = Mix {
        upsert: draw.random_range(2..10),
        get: draw.random_range(2..10),
        remove: draw.random_range(0..3),
        list: draw.random_range(0..3),
        clear: draw.random_range(0..2),
    };
    let workers = draw.random_range(1..=6);
    let length_us = *[2_000_000, 10_000_000, 40_000_000, 200_000_000].choose(draw).expect("four");
    let count = draw.random_range(40..140);
    let patches: Patches =
        *[fields as Patches, fields, serialization::hostile, rarely_large].choose(draw).expect("four");
    let tuning = Tuning {
        record_ttl_ms: draw.random_bool(0.2).then(|| draw.random_range(2_000..60_000)),
        pending_bytes_max: draw.random_bool(0.1).then(|| draw.random_range(600..3_000)),
        ..Tuning::default()
    };
    let mut planner = Planner::new(draw, prefixes);
    planner.mixed(count, length_us, &mix, &uids, patches);
    planner.syncs(3, length_us);
    let plan = planner.finish(workers, length_us);
    // Room for a few records.
    let copies_bytes_max = draw.random_bool(0.1).then(|| draw.random_range(1_000..4_000));
    WorkloadPlan { tuning: Tuning { copies_bytes_max, ..tuning }, ..plan }
}

fn rarely_large(draw: &mut Stream, tag: &Json) -> Patch {
    if draw.random_bool(0.1) { large::large(draw, tag) } else { fields(draw, tag) }
}
