//! The commands `replay` and `shrink`: one run, shown or made small.

use std::{io, path::PathBuf};

use clap::Args;
use seedbed_contact::{
    explore::{JudgedRun, Unjudged},
    outcomes::{Common, replay_file_command, worst},
    report::{ExitCode, timeline, word},
    scenario::{ReplayFile, Scenario},
    seed::Seed,
    selection::Selection,
    shrink::{ViolationKept, shrink},
    subject::SubjectKind,
    worker::{ContactWorker, RunAsked, RunReply, WorkerOptions},
    workload::Workload,
};

use crate::{BadInput, CommonArguments, WorkerArguments, check};

#[derive(Args)]
pub(crate) struct Replay {
    /// A seed, or a replay file
    #[arg(value_name = "SEED|FILE")]
    what: String,
    /// The workload of the seed
    #[arg(long, value_name = "NAME")]
    workload: Option<Workload>,
    #[command(flatten)]
    common: CommonArguments,
    #[command(flatten)]
    workers: WorkerArguments,
    /// Write the run to a replay file
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Write what crossed the network to a pcap file
    #[arg(long, value_name = "FILE")]
    pcap: Option<PathBuf>,
    /// Write what happened to a file, for `check`
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct Shrink {
    /// A seed, or a replay file
    #[arg(value_name = "SEED|FILE")]
    what: String,
    /// The workload of the seed
    #[arg(long, value_name = "NAME")]
    workload: Option<Workload>,
    #[command(flatten)]
    common: CommonArguments,
    #[command(flatten)]
    workers: WorkerArguments,
    /// The replay file to write; shrunk-WORKLOAD-SEED.json if not given
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Shows one run.
pub(crate) fn replay(arguments: &Replay) -> Result<ExitCode, BadInput> {
    let scenario = scenario_of(&arguments.what, arguments.workload, arguments.common)?;
    if let Some(path) = &arguments.save {
        ReplayFile::of(scenario.clone()).write(path)?;
        tell!("wrote {}", path.display());
    }
    let options = arguments.workers.options();
    let selection = arguments.common.selection();
    let what = RunAsked::Shown(Box::new(scenario.clone()), selection, arguments.pcap.clone());
    let RunReply { outcome, history, packets } = match options.worker().run(options.request(what))? {
        Ok(reply) => reply,
        Err(end) => {
            say!("ENDED: seed {} of {}: {end}", scenario.seed, scenario.workload);
            return Ok(ExitCode::RunEnded);
        }
    };
    if let (Some(path), Some(packets)) = (&arguments.pcap, packets) {
        let path = path.display();
        let packets = packets.map_err(|cause| BadInput(format!("failed to write pcap file \"{path}\": {cause}")))?;
        tell!("wrote {packets} packets to {path}");
    }
    match (&arguments.history, &history) {
        (Some(path), Some(history)) => {
            check::write(history, path)?;
            tell!("wrote {} events to {}", history.events.len(), path.display());
        }
        (Some(path), None) => tell!("wrote nothing to {}: the run ended in a panic", path.display()),
        (None, _) => {}
    }
    if let Some(history) = history {
        if scenario.subject != SubjectKind::default() {
            say!("Subject: {}", scenario.subject);
        }
        say!("{}", timeline::text(&history).trim_end());
    }
    match &outcome {
        Ok(outcomes) => {
            let worst = worst(&outcomes.judgements);
            say!("\nVerdicts\n\n{}", timeline::verdicts(&outcomes.judgements));
            say!("{}: event stream {:016x}", word(&worst), outcomes.hash);
            Ok(ExitCode::from(&worst))
        }
        Err(panic) => {
            say!("\nFAILED: {panic}");
            Ok(ExitCode::Violation)
        }
    }
}

/// The scenario that a user means: by its seed and workload, or in a replay file.
fn scenario_of(what: &str, workload: Option<Workload>, common: CommonArguments) -> Result<Scenario, BadInput> {
    match what.parse::<Seed>() {
        Ok(seed) => {
            let Some(workload) = workload else {
                let names = seedbed_contact::workload::names();
                return Err(BadInput(format!("which workload of seed {seed}? Add --workload NAME, one of {names}")));
            };
            Ok(Common::from(common).scenario((workload, seed)))
        }
        Err(not_a_seed) => {
            let path = PathBuf::from(what);
            if !path.exists() {
                return Err(BadInput(format!("{not_a_seed}, and there is no replay file of that name")));
            }
            let file = ReplayFile::read(&path)?;
            for difference in file.differences() {
                tell!("warning: {what}: {difference}; the run may differ");
            }
            let mut scenario = file.scenario;
            common.selection().keep_faults(&mut scenario.faults);
            Ok(scenario)
        }
    }
}

/// Makes a failing run small.
pub(crate) fn shrink_run(arguments: &Shrink) -> Result<ExitCode, BadInput> {
    let scenario = scenario_of(&arguments.what, arguments.workload, arguments.common)?;
    // Thousands of candidates would each print their panics.
    let options = WorkerOptions { silent: true, ..arguments.workers.options() };
    let (mut worker, selection) = (options.worker(), arguments.common.selection());
    let judged = judge(&mut worker, &options, selection, &scenario)?;
    let Some(target) = ViolationKept::of(&judged, &scenario) else {
        let worst = judged.worst();
        say!("{}: no guarantee is broken, so there is no violation to keep", word(&worst));
        return Ok(ExitCode::from(&worst));
    };
    let default = || PathBuf::from(format!("shrunk-{}-{}.json", scenario.workload, scenario.seed));
    let path = arguments.out.clone().unwrap_or_else(default);
    // From the beginning: a file that cannot be written is an error now, and whoever interrupts has what was reached.
    ReplayFile::of(scenario.clone()).write(&path)?;
    tell!("{}: {target}", sizes(&scenario));
    let mut judge = |candidate: &Scenario| {
        judge(&mut worker, &options, selection, candidate).unwrap_or_else(|error| {
            tell!("error: {error}");
            std::process::exit(ExitCode::BadInput.into())
        })
    };
    let shrunk = shrink(&scenario, &target, &mut judge, |smaller, runs| {
        let written = ReplayFile::of(smaller.clone()).write(&path).is_ok();
        tell!("{} after {runs} runs{}", sizes(smaller), if written { "" } else { ", not written yet" });
    });
    ReplayFile::of(shrunk.scenario.clone()).write(&path)?;
    say!("FAILED: {target}");
    say!("{} are left of {}, after {} runs. Replay them with:", sizes(&shrunk.scenario), sizes(&scenario), shrunk.runs);
    say!("  {}", replay_file_command(&path));
    Ok(if matches!(judged.outcome, Err(Unjudged::Ended(_))) { ExitCode::RunEnded } else { ExitCode::Violation })
}

fn judge(
    worker: &mut ContactWorker,
    options: &WorkerOptions,
    selection: Selection,
    scenario: &Scenario,
) -> io::Result<JudgedRun> {
    let outcome = match worker.run(options.request(RunAsked::Scenario(Box::new(scenario.clone()), selection)))? {
        Ok(reply) => reply.outcome.map_err(Unjudged::from),
        Err(end) => Err(end.into()),
    };
    Ok(JudgedRun::of(scenario, outcome))
}

/// `4 operations and 2 faults`.
fn sizes(scenario: &Scenario) -> String {
    let count = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    format!("{} and {}", count(scenario.operations.len(), "operation"), count(scenario.faults.len(), "fault"))
}
