//! Many runs: grown from seeds, on all cores, judged and counted.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use crate::{
    checker::{Guarantee, Judgement, Verdict, judge},
    faults::KIND_NAMES,
    history::{Answer, History, Outcome, Placement, Source, What},
    runner::{self, Panicked},
    scenario::Scenario,
    seed::Seed,
    subject::SubjectKind,
    workload::Workload,
};

/// How long a run may take on the machine's clock. The simulated clock cannot end a run that spins without letting time
/// pass, and a thread cannot be ended from outside: the process is.
const STUCK_AFTER: Duration = Duration::from_mins(2);

/// What a thread is at, and since when.
type Running = Arc<Mutex<Option<(Task, Instant)>>>;

/// One seed of one workload.
pub type Task = (Workload, Seed);

/// What all runs of an exploration have in common.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Common {
    /// What is under test.
    pub subject: SubjectKind,
    /// Whether faults go beyond the budget.
    pub beyond_budget: bool,
}

impl Common {
    /// The scenario of a task.
    pub fn scenario(self, (workload, seed): Task) -> Scenario {
        Scenario { subject: self.subject, ..Scenario::generate_within(workload, seed, self.beyond_budget) }
    }

    /// These as arguments of the command line, each with a blank before it.
    pub fn arguments(self) -> String {
        let subject = if self.subject == SubjectKind::default() { "" } else { &format!(" --subject {}", self.subject) };
        format!("{subject}{}", if self.beyond_budget { " --beyond-budget" } else { "" })
    }
}

/// What a judged run left behind.
#[derive(Clone, Debug)]
pub struct Judged {
    /// Which run.
    pub task: Task,
    /// What it had in common with the others.
    pub common: Common,
    /// The hash of its event stream, and what it was judged; or the panic that ended it.
    pub outcome: Result<Outcomes, Panicked>,
}

/// The outcomes of one run.
#[derive(Clone, Debug)]
pub struct Outcomes {
    /// [`runner::Run::hash`].
    pub hash: u64,
    /// Verdicts by guarantee.
    pub judgements: Vec<Judgement>,
    /// What happened in it, counted.
    pub counts: Counts,
}

/// What happened in runs, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Operations invoked, by how they ended: outcome, and tier where there is one.
    pub operations: BTreeMap<&'static str, u64>,
    /// Faults injected, by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Those that had an effect that a client could see.
    pub effective: BTreeMap<&'static str, u64>,
    /// Marks, by how often they were reached.
    pub marks: BTreeMap<&'static str, u64>,
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
                    *counts.operations.entry(ending(outcome)).or_default() += 1;
                }
                What::Cancelled { .. } => {
                    completed += 1;
                    *counts.operations.entry("given up by its caller").or_default() += 1;
                }
                What::FaultBegin { fault, what } => {
                    kinds.insert(*fault, what.kind());
                    *counts.faults.entry(what.kind()).or_default() += 1;
                }
                What::FaultEnd { fault, effects: 1.. } => {
                    if let Some(kind) = kinds.get(fault) {
                        *counts.effective.entry(kind).or_default() += 1;
                    }
                }
                _ => {}
            }
        }
        if invoked > completed {
            counts.operations.insert("cut off by a crash", invoked - completed);
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
                *sum.entry(kind).or_default() += count;
            }
        }
    }
}

impl Counts {
    /// The kinds of faults that never came, or never had an effect that a client could see.
    pub fn uncovered(&self) -> Vec<&'static str> {
        KIND_NAMES.into_iter().filter(|kind| !self.effective.contains_key(kind)).collect()
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
            Answer::Listed { source: Source::Shared, .. } => "listed shared",
            Answer::Listed { source: Source::Merged, .. } => "listed merged",
            Answer::Listed { source: Source::Local, .. } => "listed local",
            Answer::Cleared { placement: Placement::Shared, .. } => "cleared shared",
            Answer::Cleared { placement: Placement::Local, .. } => "cleared local",
            Answer::Synced { .. } => "synced",
        },
    }
}

impl Judged {
    /// The worst of it, a panic being the worst of all.
    pub fn worst(&self) -> Verdict {
        match &self.outcome {
            Ok(outcomes) => worst(&outcomes.judgements),
            Err(panic) => Verdict::Violation { message: panic.to_string(), ops: Vec::new() },
        }
    }
}

/// The worst verdict of a run.
pub fn worst(judgements: &[Judgement]) -> Verdict {
    judgements.iter().map(|judgement| judgement.verdict.clone()).fold(Verdict::Pass, Verdict::merge)
}

/// Runs and judges one seed.
pub fn judge_seed(task: Task, common: Common) -> Judged {
    judge_scenario(&common.scenario(task)).0
}

/// Runs and judges one scenario; gives its history as well.
pub fn judge_scenario(scenario: &Scenario) -> (Judged, Option<History>) {
    let task = (scenario.workload, scenario.seed);
    let common = Common { subject: scenario.subject, beyond_budget: scenario.beyond_budget };
    match runner::run(scenario) {
        Ok(run) => {
            let outcomes = Outcomes { hash: run.hash, judgements: judge(&run.history), counts: Counts::of(&run) };
            (Judged { task, common, outcome: Ok(outcomes) }, Some(run.history))
        }
        Err(panic) => (Judged { task, common, outcome: Err(panic) }, None),
    }
}

/// Runs and judges all tasks on `jobs` threads; `each` sees every result, in the order in which they are done.
#[expect(clippy::disallowed_methods, reason = "outside of any run: real threads and a real clock for the watchdog")]
pub fn explore(tasks: &[Task], common: Common, jobs: usize, mut each: impl FnMut(Judged)) {
    let next = AtomicUsize::new(0);
    let (done, results) = mpsc::channel();
    let running: Vec<_> = (0..jobs).map(|_| Running::default()).collect();
    std::thread::scope(|scope| {
        for slot in &running {
            let (done, next) = (done.clone(), &next);
            scope.spawn(move || {
                while let Some(task) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
                    *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some((*task, Instant::now()));
                    if done.send(judge_seed(*task, common)).is_err() {
                        return;
                    }
                }
                *slot.lock().unwrap_or_else(PoisonError::into_inner) = None;
            });
        }
        drop(done);
        loop {
            match results.recv_timeout(Duration::from_secs(1)) {
                Ok(judged) => each(judged),
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
                Err(mpsc::RecvTimeoutError::Timeout) => end_if_stuck(&running, common),
            }
        }
    });
}

fn end_if_stuck(running: &[Running], common: Common) {
    for slot in running {
        if let Some(((workload, seed), since)) = *slot.lock().unwrap_or_else(PoisonError::into_inner)
            && since.elapsed() > STUCK_AFTER
        {
            eprintln!("error: seed {seed} of {workload} is stuck: it spins without letting simulated time pass.");
            eprintln!("Watch it with: {}", replay_command((workload, seed), common));
            std::process::exit(i32::from(crate::report::ExitCode::Unknown));
        }
    }
}

/// The command that shows a run again, complete.
pub fn replay_command((workload, seed): Task, common: Common) -> String {
    format!("cargo run --release -- replay {seed} --workload {workload}{}", common.arguments())
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

/// Verdicts by guarantee, over many runs.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Runs in which it held.
    pub pass: u64,
    /// Runs of which it could not be said.
    pub unknown: u64,
    /// Runs in which it was broken.
    pub violation: u64,
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
    pub tallies: BTreeMap<Guarantee, Tally>,
    /// Runs that did not pass, by seed.
    pub failed: BTreeMap<Seed, Verdict>,
}

impl Summary {
    /// Takes a run in.
    pub fn add(&mut self, judged: &Judged) {
        self.seeds += 1;
        self.common = judged.common;
        if judged.worst() != Verdict::Pass {
            self.failed.insert(judged.task.1, judged.worst());
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
        }
    }

    /// The worst verdict of all runs.
    pub fn worst(&self) -> Verdict {
        self.failed.values().cloned().fold(Verdict::Pass, Verdict::merge)
    }
}
