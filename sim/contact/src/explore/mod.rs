//! Many runs: grown from seeds, on all cores, judged and counted. `tally` sums them up, `floors` says how much has
//! to be judged, `summary` is the report.

pub mod floors;
pub mod summary;
mod tally;

use std::{
    collections::VecDeque,
    io,
    ops::{ControlFlow, Range},
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
};

pub use self::tally::{Summary, VerdictTally};
use crate::{
    checker::Verdict,
    outcomes::{Common, Outcomes, SeedTask, judge_scenario, worst},
    runner::Panicked,
    scenario::Scenario,
    seed::Seed,
    worker::{self, ProcessEnd, WorkerOptions},
    workload::Workload,
};

/// Runs that a worker process is given ahead, so that it never waits for the next.
const AHEAD: usize = 2;

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
    pub fn each(&self) -> impl Iterator<Item = SeedTask> {
        self.numbers.clone().map(|number| self.task(number))
    }

    fn task(&self, number: u64) -> SeedTask {
        let count = self.workloads.len() as u64;
        let workload = usize::try_from(number % count).expect("one of a few workloads");
        (self.workloads[workload], Seed(self.base.0.wrapping_add(number / count)))
    }
}

/// What a judged run left behind.
#[derive(Clone, Debug)]
pub struct JudgedRun {
    /// Which run.
    pub task: SeedTask,
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
    Ended(#[from] ProcessEnd),
}

impl JudgedRun {
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

/// Runs and judges one seed, within this process.
pub fn judge_seed(task: SeedTask, common: Common) -> JudgedRun {
    JudgedRun::of(&common.scenario(task), judge_scenario(&common.scenario(task)).0.map_err(Unjudged::from))
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
    options: &WorkerOptions,
    mut each: impl FnMut(JudgedRun) -> ControlFlow<()>,
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
    options: &WorkerOptions,
    next: &AtomicU64,
    done: &mpsc::Sender<io::Result<JudgedRun>>,
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
            worker.send(options.request(worker::RunAsked::Task(task, common)))?;
            under_way.push_back(task);
        }
        let Some(task) = under_way.pop_front() else { return Ok(()) };
        let outcome = match worker.receive()? {
            Ok(reply) => reply.outcome.map_err(Unjudged::from),
            Err(end) => Err(end.into()),
        };
        if done.send(Ok(JudgedRun { task, common, outcome })).is_err() {
            return Ok(());
        }
    }
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
}
