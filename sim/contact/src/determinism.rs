//! The proof that a seed is a run: the same seeds in separate processes, in batches of different shape and alone, and
//! the hashes of their event streams compared.
//!
//! Within one process this could not be shown: state that leaks from one run into the next (hash seeds, process-wide
//! counters) would leak in the same way twice.

use std::{
    collections::BTreeMap,
    io::{self, BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use crate::{
    outcomes::{Common, SeedTask},
    seed::Seed,
    workload::Workload,
};

/// Hashes of event streams, or the message of the panic, by run.
pub type Hashes = BTreeMap<SeedTask, String>;

/// Which seeds are compared.
#[derive(Clone, Debug)]
pub struct ComparedSeeds {
    /// Of each of these.
    pub workloads: Vec<Workload>,
    /// From this seed on.
    pub base: Seed,
    /// So many.
    pub seeds: u64,
    /// So many of each workload are run in a process of their own as well.
    pub alone: u64,
    /// What they have in common.
    pub common: Common,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Comparison {
    /// Runs compared.
    pub runs: u64,
    /// Runs whose hashes differ: which, how each was made, and its hash.
    pub differences: Vec<Difference>,
}

/// A run that came out differently.
#[derive(Clone, Debug)]
pub struct Difference {
    /// Which.
    pub task: SeedTask,
    /// How it was run the first time, and what came out.
    pub first: (String, String),
    /// And the other time.
    pub other: (String, String),
}

/// Compares: one process with one job, one with two jobs that says all it does in its log, and single runs. `seedbed`
/// is the program that they run.
pub fn compare(seedbed: &Path, plan: &ComparedSeeds) -> io::Result<Comparison> {
    let mut comparison = Comparison::default();
    for workload in &plan.workloads {
        let batch = |jobs: &str, log: &str| child(seedbed, plan.common, (*workload, plan.base), plan.seeds, jobs, log);
        let first = batch("1", "off")?;
        let second = batch("2", "debug")?;
        comparison.runs += first.len() as u64;
        comparison.note("--jobs 1", &first, "--jobs 2", &second);
        for offset in 0..plan.alone.min(plan.seeds) {
            let seed = Seed(plan.base.0.wrapping_add(offset * (plan.seeds / plan.alone.max(1)).max(1)));
            let alone = child(seedbed, plan.common, (*workload, seed), 1, "1", "off")?;
            comparison.note("alone", &alone, "--jobs 1", &first);
        }
    }
    Ok(comparison)
}

impl Comparison {
    /// Every run of `first` must be in `other`, with the same hash.
    fn note(&mut self, first_name: &str, first: &Hashes, other_name: &str, other: &Hashes) {
        for (task, hash) in first {
            let there = other.get(task).map_or("missing", String::as_str);
            if hash != there {
                self.differences.push(Difference {
                    task: *task,
                    first: (first_name.to_owned(), hash.clone()),
                    other: (other_name.to_owned(), there.to_owned()),
                });
            }
        }
    }
}

/// The hashes that a process of its own finds.
fn child(
    seedbed: &Path,
    common: Common,
    (workload, base): SeedTask,
    seeds: u64,
    jobs: &str,
    log: &str,
) -> io::Result<Hashes> {
    let mut child = Command::new(seedbed)
        .args(["hashes", "--workload", workload.name(), "--jobs", jobs])
        .args(["--seed", &base.to_string(), "--seeds", &seeds.to_string()])
        .args(common.arguments())
        .env("RUST_LOG", log)
        // The log is not what is compared; without one, an error there is for the reader.
        .stderr(if log == "off" { Stdio::inherit() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .spawn()?;
    let mut hashes = Hashes::new();
    for line in BufReader::new(child.stdout.take().expect("piped")).lines() {
        let line = line?;
        if let Some((seed, hash)) = line.split_once(' ')
            && let Ok(seed) = seed.parse()
        {
            hashes.insert((workload, seed), hash.to_owned());
        }
    }
    let status = child.wait()?;
    if !status.success() {
        return Err(io::Error::other(format!("the process that ran {workload} from seed {base} ended with {status}")));
    }
    Ok(hashes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_different_hash_and_a_missing_run_are_differences() {
        let task = |seed| (Workload::Fallback, Seed(seed));
        let first = Hashes::from([(task(1), "a".to_owned()), (task(2), "b".to_owned()), (task(3), "c".to_owned())]);
        let other = Hashes::from([(task(1), "a".to_owned()), (task(2), "x".to_owned())]);
        let mut comparison = Comparison::default();
        comparison.note("one", &first, "two", &other);
        let found: Vec<_> = comparison.differences.iter().map(|difference| difference.task).collect();
        assert_eq!(found, [task(2), task(3)]);
    }
}
