//! What many runs come to: verdicts by guarantee, counts, and the seeds that did not pass.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{JudgedRun, Unjudged};
use crate::{
    checker::{Account, Guarantee, Verdict},
    outcomes::{Common, Counts},
    report::ExitCode,
    seed::Seed,
    worker::ProcessEnd,
};

/// Seeds that are kept of those that did not pass; their number is always known.
const KEPT: usize = 1_000;

/// Verdicts by guarantee, over many runs.
#[derive(Clone, Debug, Default, Serialize)]
pub struct VerdictTally {
    /// Runs in which it held.
    pub pass: u64,
    /// Runs of which it could not be said.
    pub unknown: u64,
    /// Runs in which it was broken.
    pub violation: u64,
    /// What these verdicts rest on.
    pub account: Account,
}

impl VerdictTally {
    fn rests_on(&mut self, account: &Account) {
        self.account.add(account);
    }
}

/// All runs of one workload.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Runs.
    pub seeds: u64,
    /// What they had in common.
    pub common: Common,
    /// What happened in them.
    pub counts: Counts,
    /// Verdicts by guarantee.
    pub tallies: BTreeMap<Guarantee, VerdictTally>,
    /// Runs that did not pass.
    pub failures: u64,
    /// Their verdicts by seed: at most some thousand, violations before others.
    pub failed: BTreeMap<Seed, Verdict>,
    /// Runs that ended their process, or had to be ended with it.
    pub ends: u64,
    /// How, by seed: at most some thousand.
    pub ended: BTreeMap<Seed, ProcessEnd>,
}

impl Summary {
    /// Takes a run in.
    pub fn add(&mut self, judged: &JudgedRun) {
        self.seeds += 1;
        self.common = judged.common;
        let worst = judged.worst();
        self.failures += u64::from(worst != Verdict::Pass);
        match &judged.outcome {
            Err(Unjudged::Ended(end)) => {
                self.ends += 1;
                self.keep_end(judged.task.1, end.clone());
            }
            _ if worst != Verdict::Pass => self.keep(judged.task.1, worst),
            _ => {}
        }
        let Ok(outcomes) = &judged.outcome else { return };
        self.counts.add(&outcomes.counts);
        for judgement in &outcomes.judgements {
            let tally = self.tallies.entry(judgement.guarantee).or_default();
            match judgement.verdict {
                Verdict::Pass => tally.pass += 1,
                Verdict::Unknown { .. } => tally.unknown += 1,
                Verdict::Violation { .. } => tally.violation += 1,
            }
            tally.rests_on(&judgement.account);
        }
    }

    /// Takes the runs of another workload in. Of failing seeds that are the same number the worse is kept.
    pub fn merge(&mut self, other: &Self) {
        self.seeds += other.seeds;
        self.counts.add(&other.counts);
        for (guarantee, tally) in &other.tallies {
            let sum = self.tallies.entry(*guarantee).or_default();
            sum.pass += tally.pass;
            sum.unknown += tally.unknown;
            sum.violation += tally.violation;
            sum.rests_on(&tally.account);
        }
        self.failures += other.failures;
        self.ends += other.ends;
        for (seed, verdict) in &other.failed {
            self.keep(*seed, verdict.clone());
        }
        for (seed, end) in &other.ended {
            self.keep_end(*seed, end.clone());
        }
    }

    fn keep(&mut self, seed: Seed, verdict: Verdict) {
        let worst = self.failed.remove(&seed).unwrap_or(Verdict::Pass).merge(verdict);
        self.failed.insert(seed, worst);
        if self.failed.len() > KEPT {
            let unknown = self.failed.iter().rev().find(|(_, verdict)| matches!(verdict, Verdict::Unknown { .. }));
            let last = unknown.or(self.failed.last_key_value()).map(|(seed, _)| *seed);
            last.and_then(|seed| self.failed.remove(&seed));
        }
    }

    fn keep_end(&mut self, seed: Seed, end: ProcessEnd) {
        self.ended.insert(seed, end);
        if self.ended.len() > KEPT {
            self.ended.pop_last();
        }
    }

    /// The worst verdict of all runs.
    pub fn worst(&self) -> Verdict {
        if self.seeds == 0 {
            return Verdict::Unknown { why: "no run was made".to_owned() };
        }
        let ended = self.ended.values().map(|end| Verdict::Violation { message: end.to_string(), ops: Vec::new() });
        ended.chain(self.failed.values().cloned()).fold(Verdict::Pass, Verdict::merge)
    }

    /// How the program ends after these runs: a run that ended its process comes before all else, since what it would have
    /// shown is not known.
    pub fn exit_code(&self) -> ExitCode {
        if self.ends > 0 { ExitCode::RunEnded } else { ExitCode::from(&self.worst()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::Workload;

    fn judged(seed: u64, outcome: Result<crate::outcomes::Outcomes, Unjudged>) -> JudgedRun {
        JudgedRun { task: (Workload::Mixed, Seed(seed)), common: Common::default(), outcome }
    }

    #[test]
    fn no_run_is_no_pass() {
        assert_eq!(Summary::default().exit_code(), ExitCode::Unknown);
    }

    #[test]
    fn a_run_that_ended_its_process_has_an_exit_code_of_its_own() {
        let mut summary = Summary::default();
        summary.add(&judged(7, Err(ProcessEnd::Exited(0).into())));
        assert_eq!((summary.exit_code(), summary.failures, summary.ends), (ExitCode::RunEnded, 1, 1));
        let mut total = Summary::default();
        total.merge(&summary);
        assert_eq!((total.exit_code(), total.ended.len()), (ExitCode::RunEnded, 1));
    }

    #[test]
    fn of_countless_failures_the_first_violations_are_kept() {
        let mut summary = Summary::default();
        for seed in (0..3 * KEPT as u64).rev() {
            summary.failures += 1;
            let violation = Verdict::Violation { message: String::new(), ops: Vec::new() };
            let unknown = Verdict::Unknown { why: String::new() };
            summary.keep(Seed(seed), if seed % 3 == 0 { violation } else { unknown });
        }
        assert_eq!(summary.failed.len(), KEPT);
        assert!(summary.failed.keys().all(|seed| seed.0 % 3 == 0), "{:?}", summary.failed.keys());
        assert_eq!(summary.failures, 3 * KEPT as u64);
    }
}
