//! Everything that determines a run, as one value: a bug report is one file of it.
//!
//! A scenario grows from a seed and a workload, and is then plain data: a shrinker may take operations and faults out
//! of it, a person may edit it, and it replays without the code that generated it.

use std::{collections::BTreeSet, fs, path::Path, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    faults::{self, Emphasis, Fault, Frame, PlannedFault},
    history::{Call, RecordName},
    seed::Seed,
    subject::{SubjectKind, Tuning},
    workload::Workload,
};

/// Version of the replay file's format.
pub const FORMAT: u32 = 1;

/// A run, before it is run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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

/// An operation and its time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedCall {
    /// Simulated microseconds after the start of the phase of faults; later if its instance is busy or down then.
    pub at_us: u64,
    /// The instance that is called.
    pub instance: u32,
    /// What is asked.
    pub call: Arc<Call>,
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
        let frame = Frame {
            instances,
            length_us: plan.length_us,
            emphasis: emphasis(workload),
            tombstone_ttl_us,
            forgets_copies: plan.tuning.copies_bytes_max.is_some(),
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
        let named = self.operations.iter().filter_map(|planned| match &*planned.call {
            Call::Upsert { uid, .. } | Call::Get { uid } | Call::Remove { uid } => {
                let prefix = self.prefixes[planned.instance as usize].clone();
                Some(RecordName { prefix, uid: uid.clone() })
            }
            Call::List | Call::Clear | Call::Sync => None,
        });
        named.collect()
    }

    /// How wrong its wall clocks can be, in milliseconds.
    pub fn clock_error_ms(&self) -> u64 {
        let offset_ms = self.clock_offsets_ms.iter().map(|offset_ms| offset_ms.unsigned_abs()).max().unwrap_or(0);
        let error_ms = |planned: &PlannedFault| match &planned.fault {
            Fault::ClockStep { by_ms, .. } | Fault::RedisClockStep { by_ms } => by_ms.unsigned_abs(),
            Fault::ClockDrift { ppm, .. } => {
                ppm.unsigned_abs() * (planned.end_us - planned.start_us) / 1_000_000_000 + 1
            }
            _ => 0,
        };
        offset_ms + self.faults.iter().map(error_ms).sum::<u64>()
    }
}

/// Which faults a workload is there to meet. Workloads know nothing of faults, and faults nothing of workloads.
fn emphasis(workload: Workload) -> Emphasis {
    match workload {
        Workload::Outages | Workload::Expiry => Emphasis::Outages,
        // Large records, so that a crash cuts one in two.
        Workload::Churn | Workload::Large => Emphasis::Churn,
        Workload::Cancelled => Emphasis::Impatience,
        Workload::Mixed => Emphasis::Any,
        Workload::Serialization
        | Workload::Fallback
        | Workload::Consistency
        | Workload::Isolation
        | Workload::Contention
        | Workload::Prefixes
        | Workload::Listing => Emphasis::None,
    }
}

/// A scenario as a file: what `replay` reads and `--save` writes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReplayFile {
    /// [`FORMAT`] of the writer.
    pub format: u32,
    /// The commit that the writer was built from.
    pub commit: String,
    /// A hash of its `Cargo.lock`.
    pub lock_hash: String,
    /// The run.
    pub scenario: Scenario,
}

/// A replay file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ReplayFileError {
    /// The file could not be read or written.
    #[error("failed to {verb} replay file {path:?}: {cause}")]
    Io {
        /// What was tried.
        verb: &'static str,
        /// The file.
        path: String,
        /// What the operating system said.
        cause: std::io::Error,
    },
    /// The file is no replay file.
    #[error("{path:?} is no replay file: {cause}; write one with `replay SEED --workload NAME --save FILE`")]
    Syntax {
        /// The file.
        path: String,
        /// Where it stops making sense.
        cause: serde_json::Error,
    },
    /// The file is of another format version.
    #[error("replay file {path:?} has format version {found}, this seedbed reads {FORMAT}: build commit {commit}")]
    Format {
        /// The file.
        path: String,
        /// Its version.
        found: u64,
        /// The commit that wrote it.
        commit: String,
    },
    /// The scenario in it contradicts itself.
    #[error("replay file {path:?}: {what}")]
    Inconsistent {
        /// The file.
        path: String,
        /// What is wrong.
        what: String,
    },
}

impl ReplayFile {
    /// The scenario, with what this binary was built from.
    pub fn of(scenario: Scenario) -> Self {
        Self { format: FORMAT, commit: BUILD_COMMIT.to_owned(), lock_hash: lock_hash(), scenario }
    }

    /// Reads and checks a replay file.
    #[expect(clippy::disallowed_methods, reason = "outside of any run")]
    pub fn read(path: &Path) -> Result<Self, ReplayFileError> {
        let name = path.display().to_string();
        let bytes = fs::read(path).map_err(|cause| ReplayFileError::Io { verb: "read", path: name.clone(), cause })?;
        let syntax = |cause| ReplayFileError::Syntax { path: name.clone(), cause };
        let json: serde_json::Value = serde_json::from_slice(&bytes).map_err(syntax)?;
        // The version first: a file of another one need not parse as this one.
        if let Some(found) = json["format"].as_u64().filter(|found| *found != u64::from(FORMAT)) {
            let commit = json["commit"].as_str().unwrap_or("that wrote it").to_owned();
            return Err(ReplayFileError::Format { path: name, found, commit });
        }
        let file: Self = serde_json::from_value(json).map_err(syntax)?;
        file.scenario.check().map_err(|what| ReplayFileError::Inconsistent { path: name, what })?;
        Ok(file)
    }

    /// Writes the file.
    #[expect(clippy::disallowed_methods, reason = "outside of any run")]
    pub fn write(&self, path: &Path) -> Result<(), ReplayFileError> {
        let text = serde_json::to_string_pretty(self).expect("plain data becomes JSON");
        let io = |cause| ReplayFileError::Io { verb: "write", path: path.display().to_string(), cause };
        fs::write(path, text + "\n").map_err(io)
    }

    /// What this binary was built from that the writer was not; a replay may differ then.
    pub fn differences(&self) -> Vec<String> {
        let mut differences = Vec::new();
        if self.commit != BUILD_COMMIT {
            differences.push(format!("commit {} wrote it, this is {BUILD_COMMIT}", self.commit));
        }
        if self.lock_hash != lock_hash() {
            differences.push("its Cargo.lock was another".to_owned());
        }
        differences
    }
}

impl Scenario {
    /// Whether operations and faults name instances that exist, and end after they begin.
    pub(crate) fn check(&self) -> Result<(), String> {
        let count = self.prefixes.len();
        let known = |instance: &u32| (*instance as usize) < count;
        if self.workers == 0 || count == 0 {
            return Err("it has no instance or no worker: at least one of each is needed".to_owned());
        }
        if self.clock_offsets_ms.len() != count {
            return Err(format!("it has {count} prefixes and {} clock offsets", self.clock_offsets_ms.len()));
        }
        if let Some(planned) = self.operations.iter().find(|planned| !known(&planned.instance)) {
            return Err(format!("an operation at {} us names instance {}", planned.at_us, planned.instance));
        }
        for planned in &self.faults {
            if planned.end_us < planned.start_us {
                return Err(format!("a fault at {} us ends before it begins", planned.start_us));
            }
            if let Some(unknown) = planned.fault.instances().iter().find(|instance| !known(instance)) {
                return Err(format!("a fault at {} us names instance {unknown}", planned.start_us));
            }
        }
        Ok(())
    }
}

/// The commit that this binary was built from, with a mark if the tree was not clean.
pub const BUILD_COMMIT: &str = env!("SEEDBED_COMMIT");

fn lock_hash() -> String {
    format!("{:016x}", xxhash_rust::xxh3::xxh3_64(include_bytes!("../../Cargo.lock")))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "files of tests")]
mod tests {
    use super::*;

    fn saved(change: impl FnOnce(&mut serde_json::Value)) -> Result<ReplayFile, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("replay.json");
        let file = ReplayFile::of(Scenario::generate(Workload::Consistency, Seed(7)));
        let mut json = serde_json::to_value(&file).unwrap();
        change(&mut json);
        fs::write(&path, json.to_string()).unwrap();
        ReplayFile::read(&path).map_err(|error| error.to_string().replace(&path.display().to_string(), "FILE"))
    }

    #[test]
    fn a_scenario_comes_back_from_its_file() {
        let file = saved(|_| {}).unwrap();
        assert_eq!(file.scenario, Scenario::generate(Workload::Consistency, Seed(7)));
        assert_eq!(file.differences(), Vec::<String>::new());
    }

    #[test]
    fn every_value_that_a_workload_writes_comes_back_from_a_file() {
        // Also integers of any length, which serde's buffers lose.
        for workload in crate::workload::ALL {
            for seed in 0..8 {
                let scenario = Scenario::generate(workload, Seed(seed));
                let text = serde_json::to_string(&scenario).unwrap();
                assert_eq!(serde_json::from_str::<Scenario>(&text).unwrap(), scenario, "seed {seed} of {workload}");
            }
        }
    }

    #[test]
    fn a_file_of_another_format_version_names_the_commit_to_build() {
        let error = saved(|json| (json["format"], json["commit"]) = (99.into(), "abc".into())).unwrap_err();
        assert_eq!(error, r#"replay file "FILE" has format version 99, this seedbed reads 1: build commit abc"#);
    }

    fn crash() -> serde_json::Value {
        serde_json::json!({"fault": "instance_crash", "instance": 99, "power_loss": true})
    }

    #[test]
    fn a_fault_on_an_instance_that_is_not_there_is_an_error() {
        let error = saved(|json| json["scenario"]["faults"][0]["fault"] = crash()).unwrap_err();
        assert!(error.contains("names instance 99"), "{error}");
    }

    #[test]
    fn a_file_that_is_something_else_says_how_to_write_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        fs::write(&path, "not json").unwrap();
        let error = ReplayFile::read(&path).unwrap_err().to_string();
        assert!(error.contains("is no replay file") && error.contains("--save FILE"), "{error}");
    }
}
