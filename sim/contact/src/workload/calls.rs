//! The calls and settings that the other workloads leave out: reads that ask for Redis's word or for a copy of some age, reads
//! of several records, writes for Redis alone, imports, and patches that remove contact points and fields. Is each given what it asked
//! for, or told that it cannot be had?

use rand::{RngExt, seq::IndexedRandom};
use serde_json::Value as Json;

use super::{Mix, Planner, WorkloadPlan, fields, numbered};
use crate::{
    history::{Call, Freshness, Patch, Tuning},
    seed::Stream,
};

/// How often a caller asks for more than any answer.
const DEMANDS: f64 = 0.5;

pub(super) fn plan(draw: &mut Stream) -> WorkloadPlan {
    let instances = draw.random_range(1..=4);
    let uids = numbered("u", draw.random_range(1..=5));
    let mix = Mix {
        upsert: 6,
        get: 6,
        remove: draw.random_range(0..2),
        list: draw.random_range(0..2),
        clear: draw.random_range(0..2),
    };
    let workers = draw.random_range(1..=4);
    let length_us = *[3_000_000, 15_000_000, 60_000_000].choose(draw).expect("three");
    let count = draw.random_range(60..160);
    let mut planner = Planner::new(draw, vec!["calls".to_owned(); instances]);
    planner.mixed(count, length_us, &mix, &uids, with_removals);
    planner.syncs(3, length_us);
    for planned in &mut planner.operations {
        if let Some(call) = demanding(planner.draw, &planned.call, &uids) {
            planned.call = call.into();
        }
    }
    imports(&mut planner, length_us, &uids);
    let tuning = settings(planner.draw);
    WorkloadPlan { tuning, ..planner.finish(workers, length_us) }
}

/// Each setting in some of the runs.
fn settings(draw: &mut Stream) -> Tuning {
    Tuning {
        pending_bytes_max: draw.random_bool(0.15).then(|| draw.random_range(600..3_000)),
        // Room for a few records.
        copies_bytes_max: draw.random_bool(0.15).then(|| draw.random_range(1_000..4_000)),
        syncs_every_write: draw.random_bool(0.3),
        accepts_losses: draw.random_bool(0.2),
        ..Tuning::default()
    }
}

/// Fields that are written, and others that are removed.
fn with_removals(draw: &mut Stream, tag: &Json) -> Patch {
    let mut patch = fields(draw, tag);
    for value in ["a@x.org", "b@x.org"] {
        if draw.random_bool(0.15) && patch.contacts.iter().all(|contact| contact["value"] != *value) {
            patch.without_contacts.push(("email".to_owned(), value.to_owned()));
        }
    }
    for name in ["name", "title"] {
        if draw.random_bool(0.2) && !patch.profile.contains_key(name) {
            patch.without_profile.push(name.to_owned());
        }
    }
    if patch.metadata.is_empty() && draw.random_bool(0.2) {
        patch.without_metadata.push("source".to_owned());
    }
    // Some that write no value at all: their record is there all the same.
    if patch.removes_cells() && draw.random_bool(0.2) {
        patch.contacts.clear();
        patch.profile.clear();
        patch.metadata.clear();
    }
    patch
}

/// Imports, some of them of the same record again.
fn imports(planner: &mut Planner<'_>, length_us: u64, uids: &[String]) {
    const YEAR_MS: u64 = 365 * 24 * 3_600_000;
    let mut imported: Vec<Call> = Vec::new();
    for _ in 0..planner.draw.random_range(0..=12) {
        let (at_us, instance) =
            (planner.draw.random_range(0..length_us), planner.draw.random_range(0..planner.instances()));
        let again = imported.choose(planner.draw).filter(|_| planner.draw.random_bool(0.3)).cloned();
        let call = again.unwrap_or_else(|| {
            let uid = uids.choose(planner.draw).expect("at least one uid").clone();
            let tag = planner.tag(instance, &uid);
            let mut patch = fields(planner.draw, &tag);
            if planner.draw.random_bool(0.6) {
                // No upsert writes or removes it: it stays, unless the record is removed.
                patch.profile.insert("company".to_owned(), tag);
            }
            // From long before the run to long after it: the stamps of imports lie below all others all the same.
            let last_updated_ms = planner.draw.random_range(0..100 * YEAR_MS);
            let first_revealed_ms = planner.draw.random_range(0..=last_updated_ms);
            Call::Import { uid, patch, first_revealed_ms, last_updated_ms, preview: planner.draw.random_bool(0.2) }
        });
        imported.push(call.clone());
        planner.push(at_us, instance, call);
    }
}

/// The same call with a demand, if it gets one.
fn demanding(draw: &mut Stream, call: &Call, uids: &[String]) -> Option<Call> {
    if !draw.random_bool(DEMANDS) {
        return None;
    }
    match call {
        Call::Upsert { uid, patch, .. } => Some(Call::Upsert { uid: uid.clone(), patch: patch.clone(), shared: true }),
        Call::Remove { uid, .. } => Some(Call::Remove { uid: uid.clone(), shared: true }),
        Call::Get { uid, .. } => {
            let freshness = freshness(draw);
            if draw.random() {
                return Some(Call::Get { uid: uid.clone(), freshness });
            }
            let mut many = vec![uid.clone()];
            many.extend(uids.iter().filter(|other| *other != uid && draw.random_bool(0.6)).cloned());
            // One that is never written.
            many.extend(draw.random_bool(0.2).then(|| "nobody".to_owned()));
            Some(Call::GetMany { uids: many, freshness })
        }
        Call::GetMany { .. } | Call::Import { .. } | Call::List | Call::Clear | Call::Sync => None,
    }
}

/// Ages from less than a round trip to more than a run.
fn freshness(draw: &mut Stream) -> Freshness {
    const AGES_MS: [u64; 7] = [0, 20, 300, 1_000, 4_000, 20_000, 3_600_000];
    match draw.random_range(0..5) {
        0 => Freshness::Any,
        1 | 2 => Freshness::Shared,
        _ => Freshness::WithinMs(*AGES_MS.choose(draw).expect("seven")),
    }
}
