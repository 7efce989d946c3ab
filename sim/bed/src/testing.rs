//! What `#[seedbed::test]` does: it plays seeds in `cargo test`, and shrinks the first violation.
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

use std::{
    env, fmt,
    ops::ControlFlow,
    path::{Path, PathBuf},
    str::FromStr,
    time::{Duration, Instant},
};

use seedbed_world::seed::Seed;

use crate::{
    bed::Bed,
    run::Run,
    scenario::{Scenario, ScenarioOf},
    system::{Data, Workload},
};

/// How many runs shrinking may take.
pub const SHRINK_RUNS_MAX: u64 = 500;

/// Plays so many seeds of a bed.
///
/// # Panics
/// If a run violates a guarantee, or it cannot be said whether it does; and if a variable or a file cannot be used. The message
/// has what happened, and the command that replays it.
pub fn check<W: Workload>(name: &str, seeds: u64, bed: &Bed<W>) {
    if let Some(file) = env::var_os("SEEDBED_REPLAY") {
        let file = PathBuf::from(file);
        let scenario = bed.load(name, &file).unwrap_or_else(|error| panic!("{error}"));
        let run = bed.play(&scenario);
        assert!(passes(&run), "{}", run.text());
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
    let explored = bed.explore(first, seeds, |_, run| {
        if passes(run) && !is_over() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    if let Some((seed, found)) = explored.found.first_key_value() {
        let (seed, runs) = (Seed(*seed), explored.runs);
        let message = if found.is_violation {
            shrunk(name, bed, seed, runs)
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
}

fn passes<W: Workload>(run: &Run<W>) -> bool {
    run.violation().is_none() && run.unknown().is_none()
}

/// Shrinks the run of a seed, writes its replay file, and says what happened.
fn shrunk<W: Workload>(name: &str, bed: &Bed<W>, seed: Seed, runs: u64) -> String {
    let whole = bed.scenario(seed);
    let small = bed.shrink(&whole, SHRINK_RUNS_MAX);
    let scenario = small.map_or_else(|| whole.clone(), |small| small.scenario);
    let run = bed.play(&scenario);
    let guarantee = run.violation().map_or("", |(guarantee, ..)| guarantee);
    let file = out().join(format!("{}-{seed}.json", name.replace("::", "-")));
    let saved = save(name, guarantee, &scenario, &file);
    let [whole, small] = [size(&whole), size(&scenario)];
    format!(
        "seed {seed} violates {guarantee:?} (run {runs} of this test); {whole}, shrunk to {small}:\n\n{}\n{saved}",
        run.text()
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
