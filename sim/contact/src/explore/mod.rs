//! Many runs: grown from seeds, on all cores, judged and counted. `tally` sums them up, `floors` says how much has to be judged,
//! `selection` which guarantees and faults are meant.

pub mod floors;
mod selection;
mod tally;

use std::{
    borrow::Cow,
    collections::{BTreeMap, VecDeque},
    io,
    ops::{ControlFlow, Range},
    path::Path,
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
};

use serde::{Deserialize, Serialize};

pub use self::{
    selection::{Guarantees, Kinds, Selection},
    tally::{Summary, Tally},
};
use crate::{
    checker::{Judgement, Verdict, judge},
    faults::KIND_NAMES,
    history::{Answer, History, Imported, Outcome, Placement, Source, What},
    runner::{self, Panicked},
    scenario::Scenario,
    seed::Seed,
    subject::SubjectKind,
    worker::{self, End, Options},
    workload::Workload,
};

/// Runs that a worker process is given ahead, so that it never waits for the next.
const AHEAD: usize = 2;

/// One seed of one workload.
pub type Task = (Workload, Seed);

/// The runs of an exploration, by number: seed by seed rather than workload by workload, so that a short look at the progress
/// has seen all of them. They are never all in memory.
#[derive(Clone, Debug)]
pub struct Tasks {
    /// Of each of these.
    pub workloads: Vec<Workload>,
    /// The first seed. After the largest comes 0.
    pub base: Seed,
    /// The numbers of the runs.
    pub numbers: Range<u64>,
}

impl Tasks {
    /// So many seeds of each workload, as far as they can be counted.
    pub fn new(workloads: Vec<Workload>, base: Seed, seeds: u64) -> Self {
        let count = seeds.saturating_mul(workloads.len() as u64);
        Self { workloads, base, numbers: 0..count }
    }

    /// How many.
    pub fn count(&self) -> u64 {
        self.numbers.end - self.numbers.start
    }

    /// The first so many, and the rest.
    #[must_use]
    pub fn split_at(&self, count: u64) -> (Self, Self) {
        let Range { start, end } = self.numbers;
        let middle = start.saturating_add(count).min(end);
        (Self { numbers: start..middle, ..self.clone() }, Self { numbers: middle..end, ..self.clone() })
    }

    /// Each, in the order of their numbers.
    pub fn each(&self) -> impl Iterator<Item = Task> {
        self.numbers.clone().map(|number| self.task(number))
    }

    fn task(&self, number: u64) -> Task {
        let count = self.workloads.len() as u64;
        let workload = usize::try_from(number % count).expect("one of a few workloads");
        (self.workloads[workload], Seed(self.base.0.wrapping_add(number / count)))
    }
}

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
    pub fn scenario(self, (workload, seed): Task) -> Scenario {
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

/// What a judged run left behind.
#[derive(Clone, Debug)]
pub struct Judged {
    /// Which run.
    pub task: Task,
    /// What it had in common with the others.
    pub common: Common,
    /// The hash of its event stream, and what it was judged; or why there is neither.
    pub outcome: Result<Outcomes, Unjudged>,
}

/// Why a run was not judged.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Unjudged {
    /// It panicked.
    #[error(transparent)]
    Panicked(#[from] Panicked),
    /// It ended its process, or had to be ended with it.
    #[error(transparent)]
    Ended(#[from] End),
}

/// The outcomes of one run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcomes {
    /// [`runner::Run::hash`].
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
    fn of(run: &runner::Run) -> Self {
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

impl Judged {
    /// Of a scenario.
    pub fn of(scenario: &Scenario, outcome: Result<Outcomes, Unjudged>) -> Self {
        let Scenario { subject, beyond_budget, .. } = *scenario;
        let common = Common { subject, beyond_budget, ..Common::default() };
        Self { task: (scenario.workload, scenario.seed), common, outcome }
    }

    /// The worst of it. A run without verdicts is a violation.
    pub fn worst(&self) -> Verdict {
        match &self.outcome {
            Ok(outcomes) => worst(&outcomes.judgements),
            Err(why) => Verdict::Violation { message: why.to_string(), ops: Vec::new() },
        }
    }
}

/// The worst verdict of a run.
pub fn worst(judgements: &[Judgement]) -> Verdict {
    judgements.iter().map(|judgement| judgement.verdict.clone()).fold(Verdict::Pass, Verdict::merge)
}

/// Runs and judges one seed, within this process.
pub fn judge_seed(task: Task, common: Common) -> Judged {
    Judged::of(&common.scenario(task), judge_scenario(&common.scenario(task)).0.map_err(Unjudged::from))
}

/// Runs and judges one scenario; gives its history as well.
pub fn judge_scenario(scenario: &Scenario) -> (Result<Outcomes, Panicked>, Option<History>) {
    match runner::run(scenario) {
        Ok(run) => (Ok(Outcomes::of(&run)), Some(run.history)),
        Err(panic) => (Err(panic), None),
    }
}

impl Outcomes {
    fn of(run: &runner::Run) -> Self {
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

/// Runs and judges all tasks in `jobs` worker processes; `each` sees every result, in the order in which they are done, and
/// can end the exploration.
///
/// # Errors
/// A worker process cannot be started.
pub fn explore(
    tasks: &Tasks,
    common: Common,
    jobs: usize,
    options: &Options,
    mut each: impl FnMut(Judged) -> ControlFlow<()>,
) -> io::Result<()> {
    let next = AtomicU64::new(tasks.numbers.start);
    let (done, results) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..jobs.min(usize::try_from(tasks.count()).unwrap_or(jobs)) {
            let (done, next) = (done.clone(), &next);
            scope.spawn(move || {
                let told = work(tasks, common, options, next, &done);
                if let Err(error) = told {
                    // Nobody listens any more if another worker has failed too.
                    let _ = done.send(Err(error));
                }
            });
        }
        drop(done);
        for judged in results {
            if each(judged?).is_break() {
                break;
            }
        }
        Ok(())
    })
}

/// Feeds one worker process, until there are no more tasks or nobody wants results.
fn work(
    tasks: &Tasks,
    common: Common,
    options: &Options,
    next: &AtomicU64,
    done: &mpsc::Sender<io::Result<Judged>>,
) -> io::Result<()> {
    let mut worker = options.worker();
    let mut under_way = VecDeque::new();
    loop {
        while under_way.len() < AHEAD {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= tasks.numbers.end {
                break;
            }
            let task = tasks.task(number);
            worker.send(options.request(worker::What::Task(task, common)))?;
            under_way.push_back(task);
        }
        let Some(task) = under_way.pop_front() else { return Ok(()) };
        let outcome = match worker.receive()? {
            Ok(reply) => reply.outcome.map_err(Unjudged::from),
            Err(end) => Err(end.into()),
        };
        if done.send(Ok(Judged { task, common, outcome })).is_err() {
            return Ok(());
        }
    }
}

/// The command that shows a run again, complete.
pub fn replay_command((workload, seed): Task, common: Common) -> String {
    let arguments = common.arguments().into_iter().map(|argument| format!(" {}", quoted(&argument)));
    format!("cargo run --release -- replay {seed} --workload {workload}{}", arguments.collect::<String>())
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
    fn runs_are_numbered_seed_by_seed_and_never_all_in_memory() {
        let tasks = Tasks::new(vec![Workload::Mixed, Workload::Large], Seed(u64::MAX), u64::MAX);
        assert_eq!(tasks.count(), u64::MAX);
        let (first, rest) = tasks.split_at(3);
        let expected =
            [(Workload::Mixed, Seed(u64::MAX)), (Workload::Large, Seed(u64::MAX)), (Workload::Mixed, Seed(0))];
        assert!(first.each().eq(expected));
        assert_eq!(rest.each().next(), Some((Workload::Large, Seed(0))));
        assert_eq!(first.split_at(9).1.count(), 0);
    }

    #[test]
    fn a_run_in_which_no_operation_returned_passes_nothing() {
        let mut scenario = Scenario::generate(Workload::Isolation, Seed(1));
        scenario.operations.clear();
        let outcomes = judge_scenario(&scenario).0.expect("no panic");
        assert!(matches!(worst(&outcomes.judgements), Verdict::Unknown { .. }), "{outcomes:?}");
    }
}
