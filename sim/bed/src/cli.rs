//! A command line for one's own beds, behind [`main!`](crate::main).

use std::{
    io::{self, Write as _},
    ops::ControlFlow,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::{Args, Parser, Subcommand};
use seedbed_world::seed::Seed;

use crate::{
    bed::Bed,
    explore::Exploration,
    history::Log,
    player::RunPlace,
    run::{Run, RunCounts},
    scenario::{ScenarioOf, bed_of},
    system::Workload,
    testing::{SHRINK_RUNS_MAX, STUCK_SECONDS, scenario_of, size},
    worker::Program,
};

/// Makes the `main` of a program that runs these beds: each a function without arguments that returns a [`Bed`], or a name and a
/// bed. It has the commands `list`, `run`, `replay`, `shrink`, `check` and `determinism`.
///
/// ```no_run
/// # mod beds {
/// # use seedbed::{Bed, Instance, Outcome, Plan, SimEnv, Stream, System, Workload};
/// # pub struct Nothing;
/// # impl System for Nothing {
/// #     type Op = ();
/// #     type Ret = ();
/// #     async fn call(&self, _: &()) -> Outcome<()> { Outcome::Ok(()) }
/// # }
/// # pub struct Idle;
/// # impl Workload for Idle {
/// #     type System = Nothing;
/// #     type Tuning = ();
/// #     fn plan(&self, _: &mut Stream) -> Plan<()> { Plan { instances: 1, ..Plan::default() } }
/// #     async fn open(&self, _: SimEnv, _: &Instance) -> Result<Nothing, String> { Ok(Nothing) }
/// # }
/// # pub fn lock() -> Bed<Idle> { Bed::new(Idle) }
/// # }
/// # use beds::lock;
/// seedbed::main!(lock, quiet = lock().faults(seedbed::Faults::none()));
/// ```
#[macro_export]
macro_rules! main {
    (@bed $name:ident) => { $name() };
    (@bed $name:ident $bed:expr) => { $bed };
    ($($name:ident $(= $bed:expr)?),+ $(,)?) => {
        fn main() -> ::std::process::ExitCode {
            $crate::cli::main(&[$((stringify!($name), &$crate::main!(@bed $name $($bed)?) as &dyn $crate::cli::AnyBed)),+])
        }
    };
}

/// A bed of any workload.
pub trait AnyBed: sealed::Sealed {
    /// The names of its guarantees.
    fn guarantees(&self) -> Vec<String>;
    /// The names of its kinds of faults, without those that have nothing to strike in it.
    fn faults(&self) -> Vec<String>;
    /// The names of its coverage points.
    fn points(&self) -> Vec<String>;
    /// Plays seeds, and prints what was found.
    #[doc(hidden)]
    fn run(&self, name: &str, arguments: &RunArguments) -> Result<Code, String>;
    #[doc(hidden)]
    fn replay(&self, name: &str, replayed: &ReplayArguments) -> Result<Code, String>;
    #[doc(hidden)]
    fn shrink(&self, name: &str, seed_or_file: &str, out: &Path) -> Result<Code, String>;
    #[doc(hidden)]
    fn work(&self, narrowing: &Narrowing) -> Result<Code, String>;
    #[doc(hidden)]
    fn check(&self, file: &Path) -> Result<Code, String>;
    #[doc(hidden)]
    fn determinism(&self, first: Seed, seeds: u64) -> Result<Code, String>;
}

mod sealed {
    pub trait Sealed {}

    impl<W: crate::system::Workload> Sealed for crate::bed::Bed<W> {}
}

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[doc(hidden)]
pub enum Code {
    /// Everything held.
    Passed = 0,
    /// Something did not.
    Violated = 1,
    /// The arguments or a file cannot be used.
    Usage = 2,
    /// It cannot be said.
    Unknown = 3,
}

#[derive(Parser)]
#[command(about = "Plays runs of a distributed system in a simulated world, with faults, and checks them")]
struct Arguments {
    #[command(subcommand)]
    command: BedCommand,
}

#[derive(Subcommand)]
enum BedCommand {
    /// Tell the beds, their guarantees and their kinds of faults
    List,
    /// Play seeds and check them
    Run(RunArguments),
    /// Play one seed or replay file, and print its history
    Replay {
        #[command(flatten)]
        bed: OfBed,
        #[command(flatten)]
        replayed: ReplayArguments,
    },
    /// Leave out of a failing run what its violation does not need, and write a replay file
    Shrink {
        /// A seed, or a replay file
        seed_or_file: String,
        #[command(flatten)]
        bed: OfBed,
        /// The folder for the replay file
        #[arg(long, value_name = "FOLDER", default_value = "target/seedbed")]
        out: PathBuf,
    },
    /// Check a history that `replay --history` has written
    Check {
        /// The file
        file: PathBuf,
        #[command(flatten)]
        bed: OfBed,
    },
    /// Play each seed twice and compare the runs
    Determinism {
        #[command(flatten)]
        bed: OfBed,
        /// The first seed
        #[arg(long, default_value_t = Seed(0))]
        seed: Seed,
        /// How many seeds
        #[arg(long, default_value_t = 100)]
        seeds: u64,
    },
    /// Play runs for another process: requests from standard input, replies to standard output
    #[command(hide = true)]
    Work {
        #[command(flatten)]
        bed: OfBed,
        #[command(flatten)]
        narrowing: Narrowing,
    },
}

#[derive(Args)]
struct OfBed {
    /// Which bed; not needed if there is one, nor for a replay file
    #[arg(long, value_name = "NAME")]
    bed: Option<String>,
}

/// What to play.
#[derive(Args, Clone, Debug)]
#[doc(hidden)]
pub struct RunArguments {
    /// Only this bed
    #[arg(long, value_name = "NAME")]
    bed: Option<String>,
    /// The first seed
    #[arg(long, env = "SEEDBED_SEED", default_value_t = Seed(0))]
    seed: Seed,
    /// How many seeds
    #[arg(long, env = "SEEDBED_SEEDS", default_value_t = 200)]
    seeds: u64,
    /// Seeds for so many minutes of the machine's time, instead of a number of seeds
    #[arg(long = "for", env = "SEEDBED_MINUTES", value_name = "MINUTES")]
    minutes: Option<u64>,
    #[command(flatten)]
    narrowing: Narrowing,
    /// End a run that takes longer than so many seconds on the machine's clock
    #[arg(long, env = "SEEDBED_STUCK_AFTER", value_name = "SECONDS", default_value_t = STUCK_SECONDS,
        value_parser = clap::value_parser!(u64).range(1..=86_400))]
    stuck_after: u64,
    /// The folder for replay files of failures
    #[arg(long, env = "SEEDBED_OUT", value_name = "FOLDER", default_value = "target/seedbed")]
    out: PathBuf,
    /// Tell what was found as JSON
    #[arg(long)]
    json: bool,
}

/// Which part of a bed.
#[derive(Args, Clone, Debug, Default)]
#[doc(hidden)]
pub struct Narrowing {
    /// Of the bed's own checkers run only these, separated by commas. The checks of every run are made in any case
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    guarantees: Vec<String>,
    /// Only faults of these kinds, separated by commas. Of a replay file, all others are left out
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    faults: Vec<String>,
}

/// What to replay.
#[derive(Args, Clone, Debug, Default)]
#[doc(hidden)]
pub struct ReplayArguments {
    /// A seed, or a replay file
    pub seed_or_file: String,
    #[command(flatten)]
    pub narrowing: Narrowing,
    /// Write the history to this file, one event a line
    #[arg(long, value_name = "FILE")]
    pub history: Option<PathBuf>,
}

/// The `main` of a program with these beds.
#[doc(hidden)]
pub fn main(beds: &[(&str, &dyn AnyBed)]) -> ExitCode {
    let code = match dispatch(Arguments::parse().command, beds) {
        Ok(code) => code,
        Err(error) => {
            // Whoever reads neither output learns it from the code.
            let _ = writeln!(io::stderr(), "error: {error}");
            Code::Usage
        }
    };
    ExitCode::from(code as u8)
}

fn dispatch(command: BedCommand, beds: &[(&str, &dyn AnyBed)]) -> Result<Code, String> {
    match command {
        BedCommand::List => {
            for (name, bed) in beds {
                let lists =
                    [("guarantees", bed.guarantees()), ("faults", bed.faults()), ("coverage points", bed.points())];
                let lists = lists.into_iter().filter(|(_, names)| !names.is_empty());
                let lines = lists.map(|(what, names)| format!("\n  {what}: {}", names.join(", ")));
                say(&format!("{name}{}", lines.collect::<String>()));
            }
            Ok(Code::Passed)
        }
        BedCommand::Run(arguments) => {
            let chosen: Vec<_> = match &arguments.bed {
                Some(_) => vec![one(beds, arguments.bed.as_deref())?],
                None => beds.to_vec(),
            };
            let mut worst = Code::Passed;
            for (name, bed) in chosen {
                let code = bed.run(name, &arguments)?;
                worst = if worst == Code::Violated || code == Code::Passed { worst } else { code };
            }
            Ok(worst)
        }
        BedCommand::Replay { bed, replayed } => {
            let (name, bed) = of(beds, bed.bed.as_deref(), &replayed.seed_or_file)?;
            bed.replay(name, &replayed)
        }
        BedCommand::Shrink { seed_or_file, bed, out } => {
            let (name, bed) = of(beds, bed.bed.as_deref(), &seed_or_file)?;
            bed.shrink(name, &seed_or_file, &out)
        }
        BedCommand::Check { file, bed } => one(beds, bed.bed.as_deref())?.1.check(&file),
        BedCommand::Determinism { bed, seed, seeds } => one(beds, bed.bed.as_deref())?.1.determinism(seed, seeds),
        BedCommand::Work { bed, narrowing } => one(beds, bed.bed.as_deref())?.1.work(&narrowing),
    }
}

/// The bed of this name, or the only one.
fn one<'b>(beds: &[(&'b str, &'b dyn AnyBed)], name: Option<&str>) -> Result<(&'b str, &'b dyn AnyBed), String> {
    let names = || beds.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    match (name, beds) {
        (Some(name), _) => {
            let found = beds.iter().find(|(its, _)| *its == name);
            found.copied().ok_or_else(|| format!("no bed is called {name:?}: there are {}", names()))
        }
        (None, [only]) => Ok(*only),
        (None, _) => Err(format!("say which bed: --bed, with one of {}", names())),
    }
}

/// The bed of this name, or of this replay file, or the only one.
fn of<'b>(
    beds: &[(&'b str, &'b dyn AnyBed)],
    name: Option<&str>,
    seed_or_file: &str,
) -> Result<(&'b str, &'b dyn AnyBed), String> {
    let its = name.is_none().then(|| bed_of(Path::new(seed_or_file))).flatten();
    one(beds, name.or(its.as_deref().filter(|its| beds.iter().any(|(name, _)| name == its))))
}

/// The command that ran this program, as far as it can be typed again.
fn program() -> String {
    std::env::args().next().unwrap_or_default()
}

/// Worker processes of this program, for a part of a bed.
fn place(name: &str, narrowing: &Narrowing, stuck_after: u64) -> RunPlace {
    let mut arguments = ["work", "--bed", name].map(ToOwned::to_owned).to_vec();
    for (option, names) in [("--guarantees", &narrowing.guarantees), ("--faults", &narrowing.faults)] {
        if !names.is_empty() {
            arguments.extend([option.to_owned(), names.join(",")]);
        }
    }
    let stuck_after = Duration::from_secs(stuck_after);
    RunPlace::Workers(Program { arguments, variables: Vec::new(), stuck_after, is_silent: true })
}

/// Prints to standard output. A reader that has seen enough (`| head`) is no error.
fn say(text: &str) {
    let _ = writeln!(io::stdout(), "{text}");
}

impl<W: Workload> Bed<W> {
    fn narrowed(&self, arguments: &Narrowing) -> Result<Self, String> {
        let mut bed = self.clone();
        if !arguments.guarantees.is_empty() {
            let known = self.guarantees();
            if let Some(unknown) = arguments.guarantees.iter().find(|name| !known.contains(name)) {
                return Err(format!("no guarantee is called {unknown:?}: there are {}", known.join(", ")));
            }
            bed.checkers.retain(|checker| arguments.guarantees.iter().any(|name| name == checker.name()));
        }
        if !arguments.faults.is_empty() {
            bed.faults = bed.faults.only(&arguments.faults)?;
        }
        Ok(bed)
    }

    fn save_shrunk(
        &self,
        name: &str,
        place: &RunPlace,
        scenario: &ScenarioOf<W>,
        (label, out): (&str, &Path),
    ) -> Result<bool, String> {
        let Some(small) = self.shrink_at(place, scenario, SHRINK_RUNS_MAX) else { return Ok(false) };
        let run = place.heard().player(self).scenario(&small.scenario, true);
        let guarantee = run.violation().map_or("", |(guarantee, ..)| guarantee);
        let file = out.join(format!("{name}-{label}.json"));
        small.scenario.save(name, guarantee, &file).map_err(|error| error.to_string())?;
        say(&run.text_of(&small.scenario));
        say(&format!(
            "shrunk in {} runs to {}{}; replay it with: {} replay {}",
            small.runs,
            size(&small.scenario),
            if small.is_smallest { "" } else { ", and could be smaller" },
            program(),
            file.display()
        ));
        Ok(true)
    }
}

fn code_of_run<W: Workload>(run: &Run<W>) -> Code {
    match (run.violation(), run.unknown()) {
        (Some(_), _) => Code::Violated,
        (None, Some(_)) => Code::Unknown,
        (None, None) => Code::Passed,
    }
}

fn code_of(explored: &Exploration) -> Code {
    if explored.violations().next().is_some() {
        Code::Violated
    } else if explored.found.is_empty() && explored.idle().next().is_none() && explored.missed().next().is_none() {
        Code::Passed
    } else {
        Code::Unknown
    }
}

impl<W: Workload> AnyBed for Bed<W> {
    fn guarantees(&self) -> Vec<String> {
        Bed::guarantees(self)
    }

    fn faults(&self) -> Vec<String> {
        let draw_from = self.scenario(Seed(0));
        self.faults.of_use(&self.frame(&draw_from.plan)).into_iter().map(ToOwned::to_owned).collect()
    }

    fn points(&self) -> Vec<String> {
        self.coverage_points().into_iter().map(ToOwned::to_owned).collect()
    }

    fn run(&self, name: &str, arguments: &RunArguments) -> Result<Code, String> {
        if arguments.seeds == 0 && arguments.minutes.is_none() {
            return Err("--seeds is 0: give at least one seed".to_owned());
        }
        let bed = self.narrowed(&arguments.narrowing)?;
        let place = place(name, &arguments.narrowing, arguments.stuck_after);
        let limit = arguments.minutes.map(|minutes| Duration::from_secs(minutes.saturating_mul(60)));
        let seeds = if limit.is_some() { u64::MAX } else { arguments.seeds };
        let begun = now();
        let mut explored = bed.explore_at(&place, arguments.seed, seeds, |_, _| {
            let is_over = limit.is_some_and(|limit| begun.elapsed() >= limit);
            if is_over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        // A kind that was asked for and has nothing to strike here shows.
        for kind in &arguments.narrowing.faults {
            explored.faults.entry(kind.clone()).or_default();
        }
        if arguments.json {
            say(&serde_json::json!({ "bed": name, "found": explored }).to_string());
            return Ok(code_of(&explored));
        }
        say(&format!("{name}: {explored}\n{}", explored.seeds()));
        for idle in explored.idle() {
            say(&format!("UNKNOWN: {idle:?} judged nothing in any run"));
        }
        for missed in explored.missed() {
            say(&format!("UNKNOWN: no run met {missed:?}"));
        }
        let first = explored.violations().next().map(|(seed, _)| seed);
        if let Some(seed) = first {
            say(&format!("seed {seed}, shrunk:\n"));
            bed.save_shrunk(name, &place, &bed.scenario(Seed(seed)), (&seed.to_string(), &arguments.out))?;
        }
        Ok(code_of(&explored))
    }

    fn replay(&self, name: &str, replayed: &ReplayArguments) -> Result<Code, String> {
        let ReplayArguments { seed_or_file, narrowing, history } = replayed;
        let bed = self.narrowed(narrowing)?;
        let mut scenario = if seed_or_file.parse::<Seed>().is_ok() {
            scenario_of(&bed, name, seed_or_file)?
        } else {
            scenario_of(self, name, seed_or_file)?
        };
        scenario.faults.retain(|fault| bed.faults.kind(&fault.kind).is_some());
        // In this process: whoever replays may want a debugger, and sees where it ends.
        let run = bed.play(&scenario);
        if let Some(file) = history {
            let lines = run.history.events.iter().map(|event| serde_json::to_string(event).expect("plain data") + "\n");
            write(file, &lines.collect::<String>())
                .map_err(|error| format!("failed to write {}: {error}", file.display()))?;
        }
        say(&run.text());
        Ok(code_of_run(&run))
    }

    fn shrink(&self, name: &str, seed_or_file: &str, out: &Path) -> Result<Code, String> {
        let scenario = scenario_of(self, name, seed_or_file)?;
        let label = format!("{}-shrunk", scenario.seed);
        let place = place(name, &Narrowing::default(), STUCK_SECONDS);
        if self.save_shrunk(name, &place, &scenario, (&label, out))? {
            return Ok(Code::Violated);
        }
        say("nothing to shrink: the run violates nothing");
        Ok(Code::Passed)
    }

    fn work(&self, narrowing: &Narrowing) -> Result<Code, String> {
        self.narrowed(narrowing)?.serve().map_err(|error| format!("a worker process failed: {error}"))?;
        Ok(Code::Passed)
    }

    fn check(&self, file: &Path) -> Result<Code, String> {
        let text = read(file).map_err(|error| format!("failed to read history {}: {error}", file.display()))?;
        let mut events = Vec::new();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let wrong = |error| {
                let place = format!("history {}, line {}", file.display(), number + 1);
                format!("{place}: it is no event: {error}; name a file that `replay --history` has written")
            };
            events.push(serde_json::from_str(line).map_err(wrong)?);
        }
        let history = Log { events };
        if history.events.is_empty() {
            return Err(format!("history {} holds no events", file.display()));
        }
        let (verdicts, counts) = (self.verdicts(&history), RunCounts::of(self, &history));
        let run = Run::<W> { verdicts, history, trace: 0, counts };
        say(&run.text());
        Ok(code_of_run(&run))
    }

    fn determinism(&self, first: Seed, seeds: u64) -> Result<Code, String> {
        for number in 0..seeds {
            let seed = Seed(first.0.wrapping_add(number));
            if let Err(differs) = self.is_determined(seed) {
                say(&format!("seed {seed} gives two different runs:\n{differs}"));
                return Ok(Code::Violated);
            }
        }
        say(&format!("{seeds} seeds gave the same run twice"));
        Ok(Code::Passed)
    }
}

#[expect(clippy::disallowed_methods, reason = "outside of any run")]
fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "outside of any run")]
fn write(file: &Path, text: &str) -> io::Result<()> {
    std::fs::write(file, text)
}

fn read(file: &Path) -> io::Result<String> {
    std::fs::read_to_string(file)
}
