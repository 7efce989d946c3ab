//! Runs in processes of their own. A system under test that exits, aborts, overflows its stack, runs out of memory or spins
//! ends one worker process; the exploration goes on and names the seed.
//!
//! - here: what a worker process does. It reads requests from its standard input, one JSON value a line, and answers each with
//!   a line, in their order.
//! - `process`: the side that starts worker processes, and tells how they ended.
//! - `planted`: ends for the tests of all this.

mod planted;
mod process;

use std::{
    io::{self, BufRead, BufWriter, Write},
    path::PathBuf,
};

use rustix::process::{Resource, Rlimit};
use serde::{Deserialize, Serialize};

pub use self::{
    planted::{Planted, PlantedRun},
    process::{End, Options, Worker},
};
use crate::{
    explore::{Common, Outcomes, Task, judge_scenario},
    history::History,
    report::pcap,
    runner::{self, Panicked},
    scenario::Scenario,
    world::net::Capture,
};

/// Address space of a worker process, in bytes. A run uses some hundred megabytes at most; one that grows without bound ends
/// here, before the machine swaps. Address space rather than resident memory, which Linux does not limit.
pub const MEMORY_BYTES_MAX: u64 = 4 << 30;

/// One run to make.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    /// Which.
    pub what: What,
    /// How it ends before its time, in tests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub planted: Option<Planted>,
}

/// Which run to make.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum What {
    /// The run of a seed.
    Task(Task, Common),
    /// The run of a scenario.
    Scenario(Box<Scenario>),
    /// The same. The history is wanted as well, and what crossed the network in this file, if one is named.
    Shown(Box<Scenario>, Option<PathBuf>),
}

/// What came of a run.
#[derive(Debug, Serialize, Deserialize)]
pub struct Reply {
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
    // A process that started this one and is gone can end no run that spins.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    let limit = Rlimit { current: Some(MEMORY_BYTES_MAX), maximum: Some(MEMORY_BYTES_MAX) };
    rustix::process::setrlimit(Resource::As, limit)?;
    // What the system under test prints must not pass for a reply.
    let mut replies = BufWriter::new(std::fs::File::from(rustix::io::dup(io::stdout())?));
    rustix::stdio::dup2_stdout(io::stderr())?;
    for line in io::stdin().lock().lines() {
        let Request { what, planted } = serde_json::from_str(&line?)?;
        if let Some(planted) = planted {
            planted.happen();
        }
        serde_json::to_writer(&mut replies, &reply(what))?;
        replies.write_all(b"\n")?;
        replies.flush()?;
    }
    Ok(())
}

fn reply(what: What) -> Reply {
    let (scenario, traffic, is_shown) = match what {
        What::Task(task, common) => (common.scenario(task), None, false),
        What::Scenario(scenario) => (*scenario, None, false),
        What::Shown(scenario, traffic) => (*scenario, traffic, true),
    };
    let (outcome, history) = judge_scenario(&scenario);
    let packets = traffic.map(|path| write_traffic(&scenario, &path).map_err(|cause| cause.to_string()));
    Reply { outcome, history: history.filter(|_| is_shown), packets }
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
