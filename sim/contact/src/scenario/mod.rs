//! Everything that determines a run, as one value: a bug report is one file of it.
//!
//! A scenario grows from a seed and a workload, and is then plain data: a shrinker may take operations and faults out
//! of it, a person may edit it, and it replays without the code that generated it. `file` reads and writes it, `check` says
//! what in it cannot be played.

mod check;
mod file;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

pub use self::file::{BUILD_COMMIT, FORMAT, ReplayFile, ReplayFileError};
use crate::{
    faults::{self, Emphasis, PlanFrame, PlannedFault},
    history::RecordName,
    seed::Seed,
    subject::{SubjectKind, Tuning},
    workload::{PlannedCall, Workload},
};

/// A run, before it is run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What is under test.
    #[serde(default)]
    pub subject: SubjectKind,
    /// The workload that the operations come from.
    pub workload: Workload,
    /// The seed of the world: latencies, the disks' choices, the clients' randomness.
    pub seed: Seed,
    /// The seed of the scheduler. It draws once for every step of a task, so a smaller run is scheduled differently
    /// however little was taken out: a shrinker tries several.
    pub scheduler_seed: u64,
    /// The key prefix of each instance.
    pub prefixes: Vec<String>,
    /// How wrong the wall clock of each instance is, in milliseconds.
    pub clock_offsets_ms: Vec<i64>,
    /// How many operations an instance has under way at the same time, at most.
    pub workers: u32,
    /// What the instances are set to.
    #[serde(default, skip_serializing_if = "Tuning::is_default")]
    pub tuning: Tuning,
    /// The operations, in the order of their times.
    pub operations: Vec<PlannedCall>,
    /// The faults, in the order of their beginning.
    pub faults: Vec<PlannedFault>,
    /// Whether they go beyond what every guarantee survives: only the others are judged then.
    #[serde(default)]
    pub beyond_budget: bool,
}

impl Scenario {
    /// The scenario that grows from a seed.
    pub fn generate(workload: Workload, seed: Seed) -> Self {
        Self::generate_within(workload, seed, false)
    }

    /// The same, with faults beyond the budget if told so.
    pub fn generate_within(workload: Workload, seed: Seed, beyond_budget: bool) -> Self {
        let plan = workload.plan(seed);
        let instances = u32::try_from(plan.prefixes.len()).expect("dozens of instances");
        let tombstone_ttl_us = plan.tuning.tombstone_ttl_ms.map(|ttl_ms| ttl_ms * 1_000);
        let frame = PlanFrame {
            instances,
            length_us: plan.length_us,
            emphasis: emphasis(workload),
            tombstone_ttl_us,
            forgets_copies: plan.tuning.copies_bytes_max.is_some(),
            expires: plan.tuning.record_ttl_ms.is_some(),
            beyond_budget,
        };
        Self {
            subject: SubjectKind::default(),
            workload,
            seed,
            scheduler_seed: rand::Rng::next_u64(&mut seed.stream("scheduler")),
            clock_offsets_ms: faults::clock_offsets_ms(seed, &frame),
            prefixes: plan.prefixes,
            workers: plan.workers,
            tuning: plan.tuning,
            operations: plan.operations,
            faults: faults::generate(seed, &frame),
            beyond_budget,
        }
    }
}

impl Scenario {
    /// Every record that an operation names.
    pub fn records(&self) -> BTreeSet<RecordName> {
        let named = self.operations.iter().flat_map(|planned| {
            let prefix = &self.prefixes[planned.instance as usize];
            planned.call.uids().iter().map(move |uid| RecordName { prefix: prefix.clone(), uid: uid.clone() })
        });
        named.collect()
    }
}

/// Which faults a workload is there to meet. Workloads know nothing of faults, and faults nothing of workloads.
fn emphasis(workload: Workload) -> Emphasis {
    match workload {
        Workload::Outages | Workload::Expiry | Workload::Calls => Emphasis::Outages,
        // Large records, so that a crash cuts one in two.
        Workload::Churn | Workload::Large => Emphasis::Churn,
        Workload::Cancelled => Emphasis::Impatience,
        Workload::Mixed => Emphasis::Any,
        Workload::Moments => Emphasis::Moments,
        Workload::Serialization
        | Workload::Fallback
        | Workload::Consistency
        | Workload::Isolation
        | Workload::Contention
        | Workload::Prefixes
        | Workload::Listing => Emphasis::None,
    }
}
