//! Where runs are played: in this process, or in worker processes, which a run may end without ending anything else.

use std::io;

use seedbed_world::seed::Seed;
use serde::{Deserialize, Serialize};

use crate::{
    bed::Bed,
    checkers::{Judged, RUN_ENDS, Verdict},
    history::{Event, Log},
    run::{Run, RunCounts},
    scenario::ScenarioOf,
    system::{OpOf, RetOf, Workload},
    worker::{self, ProcessEnd, Program, Worker},
};

/// Where the runs of a bed are played.
#[derive(Clone)]
pub(crate) enum RunPlace {
    /// In this process.
    Here,
    /// In worker processes of this program. Only runs that are asked for with their history bring one.
    Workers(Program),
}

/// Plays one run after the other.
pub(crate) struct Player<'b, W: Workload> {
    bed: &'b Bed<W>,
    worker: Option<WorkerOf<W>>,
    was_stuck: bool,
}

type WorkerOf<W> = Worker<PlayRequest<ScenarioOf<W>>, PlayReply<OpOf<W>, RetOf<W>>>;

/// A run that a worker process is asked for.
#[derive(Serialize, Deserialize)]
struct PlayRequest<S> {
    scenario: SeedOr<S>,
    with_history: bool,
}

#[derive(Serialize, Deserialize)]
enum SeedOr<S> {
    Seed(Seed),
    Scenario(S),
}

/// A run, as a worker process tells it.
#[derive(Serialize, Deserialize)]
struct PlayReply<Op, Ret> {
    verdicts: Vec<(String, Judged)>,
    trace: u64,
    counts: RunCounts,
    events: Vec<Event<Op, Ret>>,
}

impl RunPlace {
    pub(crate) fn player<'b, W: Workload>(&self, bed: &'b Bed<W>) -> Player<'b, W> {
        let worker = match self {
            Self::Here => None,
            Self::Workers(program) => Some(Worker::new(program.clone())),
        };
        Player { bed, worker, was_stuck: false }
    }

    /// The same, with the output of the runs on standard error.
    pub(crate) fn heard(&self) -> Self {
        match self {
            Self::Here => Self::Here,
            Self::Workers(program) => Self::Workers(Program { is_silent: false, ..program.clone() }),
        }
    }
}

impl<W: Workload> Player<'_, W> {
    /// Plays the run of a seed.
    pub(crate) fn seed(&mut self, seed: Seed) -> Run<W> {
        self.play(SeedOr::Seed(seed), false)
    }

    /// Plays a scenario that can be played on the bed.
    pub(crate) fn scenario(&mut self, scenario: &ScenarioOf<W>, with_history: bool) -> Run<W> {
        self.play(SeedOr::Scenario(scenario.clone()), with_history)
    }

    /// Whether the last run was ended, since it took too long.
    pub(crate) fn was_stuck(&self) -> bool {
        self.was_stuck
    }

    fn play(&mut self, scenario: SeedOr<ScenarioOf<W>>, with_history: bool) -> Run<W> {
        let Some(worker) = &mut self.worker else { return self.bed.play_either(scenario) };
        let reply = worker.run(PlayRequest { scenario, with_history });
        self.was_stuck = matches!(reply, Ok(Err(ProcessEnd::Stuck(_))));
        match reply {
            Ok(Ok(PlayReply { verdicts, trace, counts, events })) => {
                Run { history: Log { events }, verdicts, trace, counts }
            }
            Ok(Err(end)) => without_history(Judged::violated("", end.to_string())),
            Err(error) => {
                let why = format!("{error}; with SEEDBED_IN_PROCESS=1 runs are played in this process");
                without_history(Judged { verdict: Verdict::Unknown { why }, ..Judged::held(0) })
            }
        }
    }
}

/// A run of which only its end is known.
fn without_history<W: Workload>(judged: Judged) -> Run<W> {
    let history = Log { events: Vec::new() };
    Run { history, verdicts: vec![(RUN_ENDS.to_owned(), judged)], trace: 0, counts: RunCounts::default() }
}

impl<W: Workload> Bed<W> {
    /// The life of a worker process.
    ///
    /// # Errors
    /// The standard streams cannot be used.
    pub(crate) fn serve(&self) -> io::Result<()> {
        worker::serve(|PlayRequest { scenario, with_history }| {
            let Run { history, verdicts, trace, counts } = self.play_either(scenario);
            PlayReply { verdicts, trace, counts, events: if with_history { history.events } else { Vec::new() } }
        })
    }

    fn play_either(&self, scenario: SeedOr<ScenarioOf<W>>) -> Run<W> {
        match scenario {
            SeedOr::Seed(seed) => self.run(seed),
            SeedOr::Scenario(scenario) => self.play(&scenario),
        }
    }
}
