//! What `#[seedbed::test]` does: it plays seeds in `cargo test`, and shrinks the first violation. Runs are played in worker
//! processes, so a system that aborts or spins fails its own test and no other.
//!
//! Environment variables say what to do otherwise:
//!
//! | variable | meaning |
//! | --- | --- |
//! | `SEEDBED_SEED` | the first seed; 0 if not set |
//! | `SEEDBED_SEEDS` | how many seeds, for every test |
//! | `SEEDBED_MINUTES` | seeds for so many minutes of the machine's time, instead of a number of seeds |
//! | `SEEDBED_OUT` | the folder for replay files of failures; `target/seedbed` if not set |
//! | `SEEDBED_REPLAY` | play only the scenario of this replay file |
//! | `SEEDBED_STUCK_AFTER` | end a run after so many seconds of the machine's time; 60 if not set |
//! | `SEEDBED_IN_PROCESS` | if `1`: play runs in the process of the test, for a debugger |

use std::{
    env, fmt,
    io::{self, Write as _},
    ops::ControlFlow,
    path::{Path, PathBuf},
    process,
    str::FromStr,
    time::{Duration, Instant},
};

use seedbed_world::seed::Seed;

use crate::{
    bed::Bed,
    player::RunPlace,
    run::Run,
    scenario::{Scenario, ScenarioOf},
    system::{Data, Workload},
    worker::Program,
};

/// How many runs shrinking may take.
pub const SHRINK_RUNS_MAX: u64 = 500;
/// How long a run may take, in seconds of the machine's clock: a thousand times as long as most take.
pub(crate) const STUCK_SECONDS: u64 = 60;
/// The variable by which a worker process knows its test.
const WORKER: &str = "SEEDBED_WORKER";

/// Plays so many seeds of a bed.
///
/// # Panics
/// If a run violates a guarantee, or it cannot be said whether it does; and if a variable or a file cannot be used. The message
/// has what happened, and the command that replays it.
pub fn check<W: Workload>(name: &str, seeds: u64, bed: &Bed<W>) {
    if let Some(test) = env::var_os(WORKER) {
        if test == name {
            work(bed);
        }
        // A worker of another bed of the same test.
        return;
    }
    let place = place(name);
    if let Some(file) = env::var_os("SEEDBED_REPLAY") {
        let file = PathBuf::from(file);
        let scenario = bed.load(name, &file).unwrap_or_else(|error| panic!("{error}"));
        let run = place.heard().player(bed).scenario(&scenario, true);
        assert!(passes(&run), "{}", run.text_of(&scenario));
        return;
    }
    let first = Seed(number("SEEDBED_SEED").unwrap_or(0));
    let limit = number("SEEDBED_MINUTES").map(|minutes: u64| Duration::from_secs(minutes.saturating_mul(60)));
    // Of fewer seeds than the test asks for nothing may be left to judge.
    let enough = seeds;
    let seeds = if limit.is_some() { u64::MAX } else { number("SEEDBED_SEEDS").unwrap_or(seeds) };
    assert!(seeds > 0, "SEEDBED_SEEDS is 0: give at least one seed");
    let begun = now();
    let is_over = || limit.is_some_and(|limit| begun.elapsed() >= limit);
    let explored = bed.explore_at(&place, first, seeds, |_, run| {
        if passes(run) && !is_over() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    if let Some((seed, found)) = explored.found.first_key_value() {
        let (seed, runs) = (Seed(*seed), explored.runs);
        let message = if found.is_violation {
            shrunk(name, bed, &place, seed, runs)
        } else {
            format!("seed {seed}: it cannot be said whether {} holds: {}", found.guarantee, found.what)
        };
        panic!("{message}");
    }
    assert!(explored.calls > 0, "{name}: no call was made in {} runs, so nothing was tested", explored.runs);
    if let Some(idle) = explored.idle().next().filter(|_| explored.runs >= enough) {
        panic!(
            "{name}: {idle:?} judged nothing in {} runs, so it was not tested: plan what it is about",
            explored.runs
        );
    }
    if let Some(missed) = explored.missed().next().filter(|_| explored.runs >= enough) {
        panic!("{name}: none of {} runs met the coverage point {missed:?}: plan for it", explored.runs);
    }
}

/// Serves runs to the process of the test, and ends with it.
fn work<W: Workload>(bed: &Bed<W>) -> ! {
    let served = bed.serve();
    if let Err(error) = &served {
        let _ = writeln!(io::stderr(), "error: a worker process failed: {error}");
    }
    process::exit(i32::from(served.is_err()))
}

/// In worker processes: the same test program, which runs this test alone.
fn place(name: &str) -> RunPlace {
    if env::var_os("SEEDBED_IN_PROCESS").is_some_and(|value| value == "1") {
        return RunPlace::Here;
    }
    // Without the name of the crate, as the test harness has it.
    let test = name.split_once("::").map_or(name, |(_, test)| test);
    let options = ["--exact", "--include-ignored", "--nocapture", "--test-threads=1"];
    RunPlace::Workers(Program {
        arguments: [test].into_iter().chain(options).map(ToOwned::to_owned).collect(),
        variables: vec![(WORKER.to_owned(), name.to_owned())],
        stuck_after: Duration::from_secs(number("SEEDBED_STUCK_AFTER").unwrap_or(STUCK_SECONDS)),
        is_silent: true,
    })
}

fn passes<W: Workload>(run: &Run<W>) -> bool {
    run.violation().is_none() && run.unknown().is_none()
}

/// Shrinks the run of a seed, writes its replay file, and says what happened.
fn shrunk<W: Workload>(name: &str, bed: &Bed<W>, place: &RunPlace, seed: Seed, runs: u64) -> String {
    let whole = bed.scenario(seed);
    let small = bed.shrink_at(place, &whole, SHRINK_RUNS_MAX);
    let scenario = small.map_or_else(|| whole.clone(), |small| small.scenario);
    let run = place.heard().player(bed).scenario(&scenario, true);
    let guarantee = run.violation().map_or("", |(guarantee, ..)| guarantee);
    let file = out().join(format!("{}-{seed}.json", name.replace("::", "-")));
    let saved = save(name, guarantee, &scenario, &file);
    let ([whole, small], text) = ([size(&whole), size(&scenario)], run.text_of(&scenario));
    format!(
        "seed {seed} violates {guarantee:?} (run {runs} of this test); {whole}, shrunk to {small}:\n\n{text}\n{saved}"
    )
}

/// `1 call and 2 faults`.
pub(crate) fn size<Op, T>(scenario: &Scenario<Op, T>) -> String {
    let counted = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let calls = scenario.plan.calls.len() + scenario.plan.last.len();
    format!("{} and {}", counted(calls, "call"), counted(scenario.faults.len(), "fault"))
}

fn save<Op: Data, T: Data>(name: &str, guarantee: &str, scenario: &Scenario<Op, T>, file: &Path) -> String {
    let test = name.split_once("::").map_or(name, |(_, test)| test);
    match scenario.save(name, guarantee, file) {
        Ok(()) => format!("replay it: SEEDBED_REPLAY={} cargo test {test}", file.display()),
        Err(error) => format!("{error}"),
    }
}

/// The folder for replay files: absolute, so that the command works from anywhere.
fn out() -> PathBuf {
    let folder = env::var_os("SEEDBED_OUT").map_or_else(|| PathBuf::from("target/seedbed"), PathBuf::from);
    env::current_dir().map_or(folder.clone(), |here| here.join(folder))
}

/// A variable that is a number.
fn number<T: FromStr<Err: fmt::Display>>(name: &str) -> Option<T> {
    let value = env::var_os(name)?;
    let value = value.to_string_lossy().into_owned();
    Some(value.parse().unwrap_or_else(|error| panic!("{name} is {value:?}, which is no whole number: {error}")))
}

#[expect(clippy::disallowed_methods, reason = "outside of any run")]
fn now() -> Instant {
    Instant::now()
}

/// The scenario of a seed, or of a replay file: whichever the text is.
pub(crate) fn scenario_of<W: Workload>(bed: &Bed<W>, name: &str, seed_or_file: &str) -> Result<ScenarioOf<W>, String> {
    match seed_or_file.parse::<Seed>() {
        Ok(seed) => Ok(bed.scenario(seed)),
        Err(_) if Path::new(seed_or_file).exists() => {
            bed.load(name, Path::new(seed_or_file)).map_err(|error| error.to_string())
        }
        Err(_) => Err(format!("{seed_or_file:?} is neither a seed nor a file that exists")),
    }
}
