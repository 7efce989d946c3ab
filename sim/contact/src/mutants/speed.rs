//! How soon planted bugs are found: runs and processor time until the first catch, from several base seeds.

use std::{fmt::Write as _, fs, path::Path};

use super::{MutantTrouble, catches::Catch, patch::MutantPatch};
use crate::{seed::Seed, workload::Workload};

/// The distance between base seeds: more than the number of seeds that a search runs.
const APART: u64 = 1_000_000;

/// Ticks of the kernel in a second, as `/proc` counts them.
const TICKS_PER_SECOND: f64 = 100.0;

/// One search for a bug, from one base seed.
#[derive(Clone, Debug, PartialEq)]
pub struct BugSearch {
    /// Runs until the first catch of any guarantee; all runs of the search if it had no catch.
    pub runs: u64,
    /// Processor time until then, in seconds, of all processes.
    pub cpu_seconds: f64,
    /// The workload of the catch.
    pub workload: Option<Workload>,
}

/// All searches for a bug.
#[derive(Clone, Debug)]
pub struct Speed {
    /// The bug.
    pub patch: MutantPatch,
    /// By base seed.
    pub searches: Vec<BugSearch>,
}

impl BugSearch {
    /// From the output of a program that stopped after the chunk of runs with the first catch.
    pub(super) fn of(first: Option<&Catch>, runs: u64, cpu_seconds: f64) -> Self {
        match first {
            #[expect(clippy::cast_precision_loss, reason = "thousands of runs")]
            Some(catch) => Self {
                runs: catch.run,
                cpu_seconds: cpu_seconds * catch.run as f64 / runs.max(1) as f64,
                workload: Some(catch.workload),
            },
            None => Self { runs, cpu_seconds, workload: None },
        }
    }
}

impl Speed {
    /// The median of the runs.
    pub fn runs(&self) -> u64 {
        let mut runs: Vec<_> = self.searches.iter().map(|search| search.runs).collect();
        runs.sort_unstable();
        runs[runs.len() / 2]
    }

    /// The median of the processor time, in seconds.
    pub fn cpu_seconds(&self) -> f64 {
        let mut seconds: Vec<_> = self.searches.iter().map(|search| search.cpu_seconds).collect();
        seconds.sort_unstable_by(f64::total_cmp);
        seconds[seconds.len() / 2]
    }
}

/// The k-th base seed.
pub(super) fn base(number: u64) -> Seed {
    Seed(number * APART)
}

/// Processor time of all processes that this one has started and that have ended, in seconds.
pub(super) fn cpu_seconds_of_children() -> Result<f64, MutantTrouble> {
    let path = Path::new("/proc/self/stat");
    let stat = fs::read_to_string(path).map_err(MutantTrouble::io("read", path))?;
    // The name, in brackets, may hold anything. Then cutime and cstime are the 14th and 15th.
    let after = stat.rsplit(')').next().unwrap_or_default();
    let ticks = after.split_whitespace().skip(13).take(2).filter_map(|field| field.parse::<f64>().ok());
    Ok(ticks.sum::<f64>() / TICKS_PER_SECOND)
}

/// For a terminal and for docs: bugs by how long they take, the slowest first.
pub fn table(speeds: &[Speed]) -> String {
    let mut text = "| bug | median runs | median CPU s | runs from each base seed | of workloads |\n\
                    | --- | --- | --- | --- | --- |\n"
        .to_owned();
    let mut sorted: Vec<_> = speeds.iter().collect();
    sorted.sort_by_key(|speed| std::cmp::Reverse(speed.runs()));
    for speed in sorted {
        let runs: Vec<_> = speed
            .searches
            .iter()
            .map(|search| format!("{}{}", if search.workload.is_none() { "over " } else { "" }, search.runs))
            .collect();
        let mut workloads: Vec<_> =
            speed.searches.iter().filter_map(|search| Some(search.workload?.to_string())).collect();
        workloads.sort_unstable();
        workloads.dedup();
        let (name, median, seconds) = (&speed.patch.name, speed.runs(), speed.cpu_seconds());
        let _ =
            writeln!(text, "| `{name}` | {median} | {seconds:.1} | {} | {} |", runs.join(", "), workloads.join(", "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::Guarantee;

    #[test]
    fn a_bug_that_is_not_found_counts_with_all_runs_that_were_made() {
        let catch = Catch {
            guarantee: Guarantee::Session,
            run: 10,
            seconds: 3.0,
            workload: Workload::Mixed,
            seed: Seed(0),
            message: String::new(),
        };
        let searches = [(Some(&catch), 40), (None, 500), (Some(&catch), 40)];
        let searches = searches.into_iter().map(|(catch, runs)| BugSearch::of(catch, runs, 4.0)).collect();
        let patch = MutantPatch {
            name: "late".to_owned(),
            guarantee: "G6".to_owned(),
            bug: String::new(),
            stands_for: String::new(),
            waits_for: None,
        };
        let speed = Speed { patch, searches };
        assert_eq!((speed.runs(), speed.cpu_seconds()), (10, 1.0));
        assert!(table(&[speed]).contains("| `late` | 10 | 1.0 | 10, over 500, 10 | mixed |"));
    }
}
