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
    run::Run,
    scenario::{ScenarioOf, bed_of},
    system::Workload,
    testing::{SHRINK_RUNS_MAX, scenario_of, size},
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
    fn faults(&self) -> Vec<&'static str>;
    /// Plays seeds, and prints what was found.
    #[doc(hidden)]
    fn run(&self, name: &str, arguments: &RunArguments) -> Result<Code, String>;
    #[doc(hidden)]
    fn replay(&self, name: &str, seed_or_file: &str, history: Option<&Path>) -> Result<Code, String>;
    #[doc(hidden)]
    fn shrink(&self, name: &str, seed_or_file: &str, out: &Path) -> Result<Code, String>;
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
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Tell the beds, their guarantees and their kinds of faults
    List,
    /// Play seeds and check them
    Run(RunArguments),
    /// Play one seed or replay file, and tell its history
    Replay {
        /// A seed, or a replay file
        seed_or_file: String,
        #[command(flatten)]
        bed: OfBed,
        /// Write the history to this file, one event a line
        #[arg(long, value_name = "FILE")]
        history: Option<PathBuf>,
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
    /// Of the bed's own checkers run only these, separated by commas. The checks of every run are made in any case
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    guarantees: Vec<String>,
    /// Draw only these kinds of faults, separated by commas
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    faults: Vec<String>,
    /// The folder for replay files of failures
    #[arg(long, env = "SEEDBED_OUT", value_name = "FOLDER", default_value = "target/seedbed")]
    out: PathBuf,
    /// Tell what was found as JSON
    #[arg(long)]
    json: bool,
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

fn dispatch(command: Command, beds: &[(&str, &dyn AnyBed)]) -> Result<Code, String> {
    match command {
        Command::List => {
            for (name, bed) in beds {
                say(&format!(
                    "{name}\n  guarantees: {}\n  faults: {}",
                    bed.guarantees().join(", "),
                    bed.faults().join(", ")
                ));
            }
            Ok(Code::Passed)
        }
        Command::Run(arguments) => {
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
        Command::Replay { seed_or_file, bed, history } => {
            let (name, bed) = of(beds, bed.bed.as_deref(), &seed_or_file)?;
            bed.replay(name, &seed_or_file, history.as_deref())
        }
        Command::Shrink { seed_or_file, bed, out } => {
            let (name, bed) = of(beds, bed.bed.as_deref(), &seed_or_file)?;
            bed.shrink(name, &seed_or_file, &out)
        }
        Command::Check { file, bed } => one(beds, bed.bed.as_deref())?.1.check(&file),
        Command::Determinism { bed, seed, seeds } => one(beds, bed.bed.as_deref())?.1.determinism(seed, seeds),
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

/// Prints to standard output. A reader that has seen enough (`| head`) is no error.
fn say(text: &str) {
    let _ = writeln!(io::stdout(), "{text}");
}

impl<W: Workload> Bed<W> {
    fn narrowed(&self, arguments: &RunArguments) -> Result<Self, String> {
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

    fn save_shrunk(&self, name: &str, scenario: &ScenarioOf<W>, label: &str, out: &Path) -> Result<bool, String> {
        let Some(small) = self.shrink(scenario, SHRINK_RUNS_MAX) else { return Ok(false) };
        let run = self.play(&small.scenario);
        let guarantee = run.violation().map_or("", |(guarantee, ..)| guarantee);
        let file = out.join(format!("{name}-{label}.json"));
        small.scenario.save(name, guarantee, &file).map_err(|error| error.to_string())?;
        say(&run.text());
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
    } else if explored.found.is_empty() && explored.idle().next().is_none() {
        Code::Passed
    } else {
        Code::Unknown
    }
}

impl<W: Workload> AnyBed for Bed<W> {
    fn guarantees(&self) -> Vec<String> {
        Bed::guarantees(self)
    }

    fn faults(&self) -> Vec<&'static str> {
        let draw_from = self.scenario(Seed(0));
        self.faults.of_use(&self.frame(&draw_from.plan))
    }

    fn run(&self, name: &str, arguments: &RunArguments) -> Result<Code, String> {
        if arguments.seeds == 0 && arguments.minutes.is_none() {
            return Err("--seeds is 0: give at least one seed".to_owned());
        }
        let bed = self.narrowed(arguments)?;
        let limit = arguments.minutes.map(|minutes| Duration::from_secs(minutes.saturating_mul(60)));
        let seeds = if limit.is_some() { u64::MAX } else { arguments.seeds };
        let begun = now();
        let mut explored = bed.explore(arguments.seed, seeds, |_, _| {
            let is_over = limit.is_some_and(|limit| begun.elapsed() >= limit);
            if is_over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        // A kind that was asked for and has nothing to strike here shows.
        for kind in &arguments.faults {
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
        let first = explored.violations().next().map(|(seed, _)| seed);
        if let Some(seed) = first {
            say(&format!("seed {seed}, shrunk:\n"));
            bed.save_shrunk(name, &bed.scenario(Seed(seed)), &seed.to_string(), &arguments.out)?;
        }
        Ok(code_of(&explored))
    }

    fn replay(&self, name: &str, seed_or_file: &str, history: Option<&Path>) -> Result<Code, String> {
        let run = self.play(&scenario_of(self, name, seed_or_file)?);
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
        if self.save_shrunk(name, &scenario, &label, out)? {
            return Ok(Code::Violated);
        }
        say("nothing to shrink: the run violates nothing");
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
        let run = Run::<W> { verdicts: self.verdicts(&history), history, trace: 0 };
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
