//! Runs in worker processes (see [`seedbed::worker`]): what a run of the contact cache is asked for, and what comes of it.
//!
//! - here: requests, replies, and the worker's side.
//! - `planted`: ends for the tests of all this.

mod planted;

use std::{
    io::{self, BufWriter, Write},
    path::PathBuf,
    time::Duration,
};

use seedbed::worker::{self, Program};
pub use seedbed::worker::{MEMORY_BYTES_MAX, ProcessEnd};
use serde::{Deserialize, Serialize};

pub use self::planted::{PlantedEnd, PlantedRun};
use crate::{
    history::History,
    outcomes::{Common, Outcomes, SeedTask, judge_scenario},
    report::pcap,
    runner::{self, Panicked},
    scenario::Scenario,
    selection::Selection,
    world::net::Capture,
};

/// A worker process that makes runs of the contact cache.
pub type ContactWorker = worker::Worker<RunRequest, RunReply>;

/// How worker processes are started, and what is taken of them.
#[derive(Clone, Debug)]
pub struct WorkerOptions {
    /// How long a run may take on the machine's clock.
    pub stuck_after: Duration,
    /// Runs that end their process, in tests.
    pub planted: Vec<PlantedRun>,
    /// Whether panics and other words of the runs are thrown away rather than shown on standard error.
    pub silent: bool,
}

impl WorkerOptions {
    /// A worker process that is not started yet.
    pub fn worker(&self) -> ContactWorker {
        // Each run reuses the memory that the run before it freed: returning a page to the kernel in between costs as much as a call.
        let variables = vec![("MIMALLOC_PURGE_DELAY".to_owned(), "-1".to_owned())];
        let (arguments, stuck_after, is_silent) = (vec!["work".to_owned()], self.stuck_after, self.silent);
        ContactWorker::new(Program { arguments, variables, stuck_after, is_silent })
    }

    /// A request for a run, with the end that is planted in it.
    pub fn request(&self, what: RunAsked) -> RunRequest {
        let seed = match &what {
            RunAsked::Task((_, seed), _) => *seed,
            RunAsked::Scenario(scenario, _) | RunAsked::Shown(scenario, ..) => scenario.seed,
        };
        let planted = self.planted.iter().find(|planted| planted.seed == seed).map(|planted| planted.planted);
        RunRequest { what, planted }
    }
}

/// One run to make.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunRequest {
    /// Which.
    pub what: RunAsked,
    /// How it ends before its time, in tests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub planted: Option<PlantedEnd>,
}

/// Which run to make.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum RunAsked {
    /// The run of a seed.
    Task(SeedTask, Common),
    /// The run of a scenario, judged by these guarantees.
    Scenario(Box<Scenario>, Selection),
    /// The same. The history is wanted as well, and what crossed the network in this file, if one is named.
    Shown(Box<Scenario>, Selection, Option<PathBuf>),
}

/// What came of a run.
#[derive(Debug, Serialize, Deserialize)]
pub struct RunReply {
    /// Its hash, verdicts and counts, or its panic.
    pub outcome: Result<Outcomes, Panicked>,
    /// Its history, if that was wanted and it has one.
    pub history: Option<History>,
    /// How many packets were written, if that was wanted, or why they were not.
    pub packets: Option<Result<usize, String>>,
}

/// The life of a worker process: until its standard input ends.
///
/// # Errors
/// The standard streams cannot be used.
pub fn serve() -> io::Result<()> {
    worker::serve(|RunRequest { what, planted }| {
        if let Some(planted) = planted {
            planted.happen();
        }
        reply(what)
    })
}

fn reply(what: RunAsked) -> RunReply {
    let (scenario, selection, traffic, is_shown) = match what {
        RunAsked::Task(task, common) => (common.scenario(task), common.selection, None, false),
        RunAsked::Scenario(scenario, selection) => (*scenario, selection, None, false),
        RunAsked::Shown(scenario, selection, traffic) => (*scenario, selection, traffic, true),
    };
    let (mut outcome, history) = judge_scenario(&scenario);
    if let Ok(outcomes) = &mut outcome {
        selection.keep_judgements(&mut outcomes.judgements);
    }
    let packets = traffic.map(|path| write_traffic(&scenario, &path).map_err(|cause| cause.to_string()));
    RunReply { outcome, history: history.filter(|_| is_shown), packets }
}

/// Runs the scenario once more, and writes what crossed its network. Says how many packets.
#[expect(clippy::disallowed_methods, reason = "outside of any run")]
fn write_traffic(scenario: &Scenario, path: &std::path::Path) -> io::Result<usize> {
    let capture = Capture::default();
    // Also of a run that panics: what it sent until then.
    let _ = runner::run_recorded(scenario, &capture);
    let packets = capture.take();
    let mut file = BufWriter::new(std::fs::File::create(path)?);
    pcap::write(&packets, &mut file)?;
    file.flush()?;
    Ok(packets.len())
}
