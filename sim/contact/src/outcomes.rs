//! What a run comes to: its verdicts, and what happened in it, counted; and the commands that show it again.

use std::{borrow::Cow, collections::BTreeMap, path::Path};

use serde::{Deserialize, Serialize};

use crate::{
    checker::{Judgement, Verdict, judge},
    faults::KIND_NAMES,
    history::{Answer, History, Imported, Outcome, Placement, Source, What},
    runner::{self, Panicked},
    scenario::Scenario,
    seed::Seed,
    selection::Selection,
    subject::SubjectKind,
    workload::Workload,
};

/// One seed of one workload.
pub type SeedTask = (Workload, Seed);

/// What all runs of an exploration have in common.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Common {
    /// What is under test.
    pub subject: SubjectKind,
    /// Whether faults go beyond the budget.
    pub beyond_budget: bool,
    /// Which guarantees and faults.
    #[serde(default, skip_serializing_if = "Selection::is_all")]
    pub selection: Selection,
}

impl Common {
    /// The scenario of a task.
    pub fn scenario(self, (workload, seed): SeedTask) -> Scenario {
        let mut scenario = Scenario::generate_within(workload, seed, self.beyond_budget);
        scenario.subject = self.subject;
        self.selection.keep_faults(&mut scenario.faults);
        scenario
    }

    /// These as arguments of the command line.
    pub fn arguments(self) -> Vec<String> {
        let mut arguments = Vec::new();
        if self.subject != SubjectKind::default() {
            arguments.extend(["--subject".to_owned(), self.subject.to_string()]);
        }
        if self.beyond_budget {
            arguments.push("--beyond-budget".to_owned());
        }
        arguments.extend(self.selection.arguments());
        arguments
    }
}

/// The outcomes of one run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcomes {
    /// [`runner::FinishedRun::hash`].
    pub hash: u64,
    /// Verdicts by guarantee.
    pub judgements: Vec<Judgement>,
    /// What happened in it, counted.
    pub counts: Counts,
}

/// How often, by name.
pub type ByName = BTreeMap<Cow<'static, str>, u64>;

/// Of an operation whose instance went away.
const CUT_OFF: &str = "cut off by a crash";

/// Of an operation that its caller dropped.
const GIVEN_UP: &str = "given up by its caller";

/// What happened in runs, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Operations invoked, by how they ended: outcome, and tier where there is one.
    pub operations: ByName,
    /// Faults injected, by kind.
    pub faults: ByName,
    /// Those that had an effect that a client could see.
    pub effective: ByName,
    /// Marks, by how often they were reached.
    pub marks: ByName,
    /// Simulated time, in microseconds.
    pub simulated_us: u64,
}

impl Counts {
    fn of(run: &runner::FinishedRun) -> Self {
        let mut counts = Self { simulated_us: run.simulated_us, marks: run.marks.clone(), ..Self::default() };
        let (mut invoked, mut completed) = (0, 0);
        let mut kinds = BTreeMap::new();
        for event in &run.history.events {
            match &event.what {
                What::Invoke { .. } => invoked += 1,
                What::Complete { outcome, .. } => {
                    completed += 1;
                    *counts.operations.entry(ending(outcome).into()).or_default() += 1;
                }
                What::Cancelled { .. } => {
                    completed += 1;
                    *counts.operations.entry(GIVEN_UP.into()).or_default() += 1;
                }
                What::FaultBegin { fault, what, .. } => {
                    kinds.insert(*fault, what.kind());
                    *counts.faults.entry(what.kind().into()).or_default() += 1;
                }
                What::FaultEnd { fault, effects: 1.. } => {
                    if let Some(kind) = kinds.get(fault) {
                        *counts.effective.entry(Cow::Borrowed(*kind)).or_default() += 1;
                    }
                }
                _ => {}
            }
        }
        if invoked > completed {
            counts.operations.insert(CUT_OFF.into(), invoked - completed);
        }
        counts
    }

    /// Adds others up.
    pub fn add(&mut self, other: &Self) {
        self.simulated_us += other.simulated_us;
        for (sum, addends) in [
            (&mut self.operations, &other.operations),
            (&mut self.faults, &other.faults),
            (&mut self.effective, &other.effective),
            (&mut self.marks, &other.marks),
        ] {
            for (kind, count) in addends {
                *sum.entry(kind.clone()).or_default() += count;
            }
        }
    }
}

impl Counts {
    /// Operations that returned to their callers.
    fn returned(&self) -> u64 {
        let returned = self.operations.iter().filter(|(ending, _)| ![CUT_OFF, GIVEN_UP].contains(&ending.as_ref()));
        returned.map(|(_, count)| count).sum()
    }

    /// The kinds of faults that never came, or never had an effect that a client could see.
    pub fn uncovered(&self) -> Vec<&'static str> {
        KIND_NAMES.into_iter().filter(|kind| !self.effective.contains_key(*kind)).collect()
    }
}

/// How an operation ended, in the words of reports.
pub fn ending(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Fail { .. } => "failed, no effect",
        Outcome::Info { .. } => "failed, effect unknown",
        Outcome::Ok { answer } => match answer {
            Answer::Written { placement: Placement::Shared, .. } => "written shared",
            Answer::Written { placement: Placement::Local, .. } => "written local",
            Answer::Read { source: Source::Shared, .. } => "read shared",
            Answer::Read { source: Source::Merged, .. } => "read merged",
            Answer::Read { source: Source::Local, .. } => "read local",
            Answer::ReadMany { .. } => "read many",
            Answer::Listed { source: Source::Shared, .. } => "listed shared",
            Answer::Listed { source: Source::Merged, .. } => "listed merged",
            Answer::Listed { source: Source::Local, .. } => "listed local",
            Answer::Cleared { placement: Placement::Shared, .. } => "cleared shared",
            Answer::Cleared { placement: Placement::Local, .. } => "cleared local",
            Answer::Imported { became: Imported::Created } => "imported, created",
            Answer::Imported { became: Imported::Joined } => "imported, joined",
            Answer::Imported { became: Imported::Present } => "imported, was present",
            Answer::Imported { became: Imported::Removed } => "imported, stays removed",
            Answer::Synced { .. } => "synced",
        },
    }
}

/// The worst verdict of a run.
pub fn worst(judgements: &[Judgement]) -> Verdict {
    judgements.iter().map(|judgement| judgement.verdict.clone()).fold(Verdict::Pass, Verdict::merge)
}

/// Runs and judges one scenario; gives its history as well.
pub fn judge_scenario(scenario: &Scenario) -> (Result<Outcomes, Panicked>, Option<History>) {
    match runner::run(scenario) {
        Ok(run) => (Ok(Outcomes::of(&run)), Some(run.history)),
        Err(panic) => (Err(panic), None),
    }
}

impl Outcomes {
    fn of(run: &runner::FinishedRun) -> Self {
        let (mut judgements, counts) = (judge(&run.history), Counts::of(run));
        if counts.returned() == 0 {
            // A checker that has seen no operation has found no violation either.
            for judgement in judgements.iter_mut().filter(|judgement| judgement.verdict == Verdict::Pass) {
                let why = "no operation returned, so that nothing was judged: give the scenario some".to_owned();
                judgement.verdict = Verdict::Unknown { why };
            }
        }
        Self { hash: run.hash, judgements, counts }
    }
}

/// The command that shows a run again, complete.
pub fn replay_command((workload, seed): SeedTask, common: Common) -> String {
    let mut command = format!("cargo run --release -- replay {seed} --workload {workload}");
    for argument in common.arguments() {
        command.push(' ');
        command += &if argument.starts_with("--") { argument } else { quoted(&argument) };
    }
    command
}

/// The command that replays a file, complete.
pub fn replay_file_command(path: &Path) -> String {
    format!("cargo run --release -- replay {}", quoted(&path.display().to_string()))
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "-_./+:@%".contains(character);
    if !word.is_empty() && !word.starts_with('-') && word.chars().all(is_plain) {
        return word.to_owned();
    }
    let path = if word.starts_with('-') { &format!("./{word}") } else { word };
    format!("'{}'", path.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_that_shows_a_run_again_is_complete() {
        let selection = Selection::new("G5".parse().ok(), "Redis crash, data kept,jitter".parse().ok());
        let common = Common { beyond_budget: true, selection, ..Common::default() };
        assert_eq!(
            replay_command((Workload::Mixed, Seed(7)), common),
            "cargo run --release -- replay 7 --workload mixed --beyond-budget --guarantees G5 \
             --faults 'jitter,Redis crash, data kept'"
        );
    }

    #[test]
    fn a_run_in_which_no_operation_returned_passes_nothing() {
        let mut scenario = Scenario::generate(Workload::Isolation, Seed(1));
        scenario.operations.clear();
        let outcomes = judge_scenario(&scenario).0.expect("no panic");
        assert!(matches!(worst(&outcomes.judgements), Verdict::Unknown { .. }), "{outcomes:?}");
    }
}
