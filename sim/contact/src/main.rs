//! The command line of the test bed. Without arguments: explore.

/// Prints a line. A reader that has seen enough (`| head`) is no error: what follows is not printed.
macro_rules! say {
    ($($argument:tt)*) => {
        $crate::say(format_args!($($argument)*))
    };
}

/// Prints a line to standard error, if anybody reads it.
macro_rules! tell {
    ($($argument:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($argument)*);
    }};
}

mod check;
mod replay;

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal, Write as _},
    net::{Ipv4Addr, SocketAddr},
    ops::ControlFlow,
    process::ExitCode as ProcessExit,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use clap::{Args, Parser, Subcommand};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use seedbed_contact::{
    bench::{self, instructions},
    determinism,
    explore::{JudgedRun, Summary, Tasks, explore, floors::Floors, summary},
    marks, mutants,
    outcomes::{Common, replay_command},
    report::ExitCode,
    seed::Seed,
    selection::{Guarantees, Kinds, Selection},
    subject::{SUBJECTS, SubjectKind},
    worker::{self, PlantedRun, WorkerOptions},
    workload::{ALL, VALIDATIONS, Workload},
};

/// A run grows a history on a thread of its own, which the C library's allocator makes expensive: it asks the kernel for
/// every few pages of a second arena.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Seeds of each workload in an exploration without arguments: over two thousand runs, within a minute on two cores.
const SEEDS_DEFAULT: u64 = 200;

/// A deterministic test bed for the contact cache: grows whole runs from seeds, judges them, replays them.
#[derive(Parser)]
#[command(name = "seedbed", version, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Option<SeedbedCommand>,
}

/// How long a run may take: a thousand times as long as most take.
const STUCK_SECONDS: u64 = 120;

const EXIT_CODES: &str = "Exit codes: 0 every guarantee held, 1 a violation, 2 bad input, 3 could not be judged, \
                          4 not deterministic, 5 a run ended its process or took too long";

#[derive(Subcommand)]
enum SeedbedCommand {
    /// Explore seeds of all workloads, or of one, and report (what happens without a command)
    Run(Explore),
    /// Show one run again, event by event, with its verdicts
    Replay(replay::Replay),
    /// Make a failing run small: take out faults and operations as long as the same guarantee of the same record is broken
    Shrink(replay::Shrink),
    /// Judge a history from a file, as `replay --history` writes it
    Check(check::Check),
    /// Run seeds in separate processes, in batches and alone, and compare the event streams
    Determinism(Determinism),
    /// Serve the simulated Redis on a real loopback port, until interrupted
    RedisServer(RedisServer),
    /// Measure what the bed costs: an operation, judging, an idle instance
    Bench(Bench),
    /// Plant the bugs of `mutants/` in the client, one after the other, and see that the checkers catch them
    Mutants(mutants::MutantArguments),
    /// List workloads, guarantees and kinds of faults
    List,
    /// Print the hashes of runs: what `determinism` compares
    #[command(hide = true)]
    Hashes(Explore),
    /// Print the first run that breaks each guarantee: what `mutants` reads
    #[command(hide = true)]
    Catches(Catches),
    /// Make runs for another process: requests from standard input, replies to standard output
    #[command(hide = true)]
    Work,
}

#[derive(Args, Clone)]
struct Explore {
    /// Only this workload, one of those that `list` names
    #[arg(long, value_name = "NAME")]
    workload: Option<Workload>,
    /// The first seed
    #[arg(long, value_name = "SEED", default_value = "0")]
    seed: Seed,
    /// How many seeds of each workload
    #[arg(long, value_name = "N", default_value_t = SEEDS_DEFAULT, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// How many runs at the same time; all cores if not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
    #[command(flatten)]
    common: CommonArguments,
    #[command(flatten)]
    workers: WorkerArguments,
    /// Fail if a kind of fault never came, or never had an effect that a client could see, a mark was never reached, or a
    /// checker judged less than its floor in `sim/contact/floors.json`
    #[arg(long, conflicts_with_all = ["guarantees", "faults"])]
    require_coverage: bool,
    /// Tell runs by verdict and the account of what was judged and excused as JSON, by workload and guarantee, and no report
    #[arg(long, conflicts_with_all = ["require_coverage", "marks"])]
    json: bool,
    /// Tell how often each mark was reached
    #[arg(long)]
    marks: bool,
}

/// Of an exploration, or of a seed to replay; a replay file says these itself.
#[derive(Args, Clone, Copy)]
pub(crate) struct CommonArguments {
    /// What is under test: contact-cache, or legacy, the Python client that came before
    #[arg(long, value_name = "NAME", default_value_t)]
    subject: SubjectKind,
    /// Let faults go beyond what every guarantee survives, and judge only those that still hold
    #[arg(long)]
    beyond_budget: bool,
    /// Check only these guarantees, separated by commas: `G5,session`
    #[arg(long, value_name = "NAMES")]
    guarantees: Option<Guarantees>,
    /// Only faults of these kinds, separated by commas; `list` names them. All others are left out of the plan
    #[arg(long, value_name = "NAMES")]
    faults: Option<Kinds>,
}

impl CommonArguments {
    pub(crate) fn selection(self) -> Selection {
        Selection::new(self.guarantees, self.faults)
    }
}

impl From<CommonArguments> for Common {
    fn from(arguments: CommonArguments) -> Self {
        let CommonArguments { subject, beyond_budget, .. } = arguments;
        Self { subject, beyond_budget, selection: arguments.selection() }
    }
}

/// Of the processes that runs are made in.
#[derive(Args, Clone)]
pub(crate) struct WorkerArguments {
    /// End a run that takes longer than so many seconds on the machine's clock, and name it
    #[arg(long, value_name = "SECONDS", default_value_t = STUCK_SECONDS, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    stuck_after: u64,
    /// The run of this seed exits, aborts, overflows its stack, takes all memory or spins: for tests of this program
    #[arg(long, value_name = "SEED=END", hide = true)]
    planted: Vec<PlantedRun>,
}

impl WorkerArguments {
    pub(crate) fn options(&self) -> WorkerOptions {
        WorkerOptions {
            stuck_after: Duration::from_secs(self.stuck_after),
            planted: self.planted.clone(),
            silent: false,
        }
    }
}

#[derive(Args)]
struct Determinism {
    #[command(flatten)]
    explore: Explore,
    /// How many seeds of each workload are run in a process of their own as well
    #[arg(long, value_name = "N", default_value_t = 10)]
    alone: u64,
}

#[derive(Args)]
struct Catches {
    #[command(flatten)]
    explore: Explore,
    #[command(flatten)]
    until: mutants::catches::Until,
}

#[derive(Args)]
struct RedisServer {
    /// The port on 127.0.0.1; 0 takes a free one
    #[arg(long, default_value_t = 6379)]
    port: u16,
}

#[derive(Args)]
struct Bench {
    /// How often everything is measured
    #[arg(long, value_name = "N", default_value_t = bench::ROUNDS, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Measure nothing: do the work of the rows of this name, under a profiler ("get, whole bed, 5 clients")
    #[arg(long, value_name = "ROW")]
    exercise: Option<String>,
    /// With --exercise: so many operations
    #[arg(long, value_name = "N", default_value_t = bench::EXERCISED, requires = "exercise")]
    operations: u32,
    /// Count instructions instead, with valgrind; exit code 1 if an operation costs more than it may
    #[arg(long, conflicts_with = "exercise")]
    instructions: bool,
}

/// What cannot be used, and what to do instead.
pub(crate) struct BadInput(String);

impl<E: std::error::Error> From<E> for BadInput {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

fn main() -> ProcessExit {
    let cli = Cli::parse();
    // madsim tells what its scheduler does; without RUST_LOG nothing is said. No times: those of a run are simulated.
    let silent = tracing_subscriber::filter::LevelFilter::OFF;
    let filter = tracing_subscriber::EnvFilter::builder().with_default_directive(silent.into()).from_env_lossy();
    let colours = io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(colours).without_time().init();
    let code = match cli.command {
        None => Explore::parse_from_nothing().and_then(|explore| run(&explore)),
        Some(SeedbedCommand::Run(explore)) => run(&explore),
        Some(SeedbedCommand::Work) => worker::serve().map(|()| ExitCode::Held).map_err(BadInput::from),
        Some(SeedbedCommand::Replay(replay_arguments)) => replay::replay(&replay_arguments),
        Some(SeedbedCommand::Shrink(arguments)) => replay::shrink_run(&arguments),
        Some(SeedbedCommand::Check(arguments)) => check::check(&arguments).map(|(text, code)| {
            say!("{text}");
            code
        }),
        Some(SeedbedCommand::Determinism(arguments)) => compare(&arguments),
        Some(SeedbedCommand::RedisServer(arguments)) => serve(&arguments),
        Some(SeedbedCommand::Bench(arguments)) => measure(&arguments),
        Some(SeedbedCommand::List) => Ok(list()),
        Some(SeedbedCommand::Hashes(explore)) => hashes(&explore),
        Some(SeedbedCommand::Mutants(arguments)) => plant(&arguments),
        Some(SeedbedCommand::Catches(arguments)) => catches(&arguments),
    };
    match code {
        Ok(code) => code.into(),
        Err(BadInput(message)) => {
            tell!("error: {message}");
            ExitCode::BadInput.into()
        }
    }
}

impl Explore {
    /// The defaults.
    fn parse_from_nothing() -> Result<Self, BadInput> {
        #[derive(Parser)]
        struct Nothing {
            #[command(flatten)]
            explore: Explore,
        }
        Ok(Nothing::try_parse_from(["seedbed"])?.explore)
    }

    fn workloads(&self) -> Vec<Workload> {
        match (self.workload, self.common.subject) {
            (Some(workload), _) => vec![workload],
            (None, SubjectKind::ContactCache) => ALL.to_vec(),
            // What its report had claimed, and nothing that it never did.
            (None, SubjectKind::Legacy) => VALIDATIONS.to_vec(),
        }
    }

    fn tasks(&self) -> Tasks {
        Tasks::new(self.workloads(), self.seed, self.seeds)
    }

    fn jobs(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        self.jobs.map_or_else(cores, usize::from)
    }
}

fn run(explore_arguments: &Explore) -> Result<ExitCode, BadInput> {
    let tasks = explore_arguments.tasks();
    if !explore_arguments.json {
        say!("{}\n", announced(explore_arguments));
    }
    let progress = progress(tasks.count(), "runs");
    let mut summaries = BTreeMap::<Workload, Summary>::new();
    let (common, options) = (explore_arguments.common.into(), explore_arguments.workers.options());
    explore(&tasks, common, explore_arguments.jobs(), &options, |judged: JudgedRun| {
        let summary = summaries.entry(judged.task.0).or_default();
        summary.add(&judged);
        progress.inc(1);
        let failed: u64 = summaries.values().map(|summary| summary.failures).sum();
        if failed > 0 {
            progress.set_message(format!("{failed} did not pass"));
        }
        ControlFlow::Continue(())
    })?;
    progress.finish_and_clear();
    let total = summary::total(&summaries);
    if explore_arguments.json {
        say!("{}", summary::json(&summaries));
        return Ok(total.exit_code());
    }
    say!("{}", summary::text(&summaries).trim_end());
    if explore_arguments.marks {
        say!("\n{}", summary::marks(&summaries).trim_end());
    }
    Ok(if explore_arguments.require_coverage { covered(&summaries, &total) } else { total.exit_code() })
}

/// What is being explored, for a reader who waits.
fn announced(explore_arguments: &Explore) -> String {
    let last = Seed(explore_arguments.seed.0.wrapping_add(explore_arguments.seeds - 1));
    format!(
        "Exploring seeds {} to {last} of {}{}, {} at a time.",
        explore_arguments.seed,
        explore_arguments.workloads().iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        of_subject(explore_arguments.common.subject),
        explore_arguments.jobs()
    )
}

/// How the program ends where faults, marks and what was judged have to be enough; says what is not.
fn covered(summaries: &BTreeMap<Workload, Summary>, total: &Summary) -> ExitCode {
    let uncovered = total.counts.uncovered();
    let missed = marks::missed(&total.counts.marks);
    let unjudged = Floors::recorded().map_or_else(|wrong| vec![wrong], |floors| floors.missed(summaries));
    for what in &unjudged {
        say!("FAILED: {what}");
    }
    for mark in &missed {
        say!("FAILED: no run reached: {mark}");
    }
    for kind in &uncovered {
        let injected = total.counts.faults.get(*kind).copied().unwrap_or_default();
        say!("FAILED: {kind} was injected {injected} times and had no effect that a client could see");
    }
    let is_enough = uncovered.is_empty() && missed.is_empty() && unjudged.is_empty();
    match total.exit_code() {
        ExitCode::Held | ExitCode::Unknown if !is_enough => ExitCode::Violation,
        code => code,
    }
}

/// Said where it is not the one that goes without saying.
fn of_subject(subject: SubjectKind) -> String {
    if subject == SubjectKind::default() { String::new() } else { format!(" with the subject {subject}") }
}

/// A bar on a terminal, nothing elsewhere.
fn progress(count: u64, what: &str) -> ProgressBar {
    let target = if io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let style =
        ProgressStyle::with_template(&format!("{{bar:40}} {{pos}}/{{len}} {what}  {{per_sec}}  {{eta}} left  {{msg}}"));
    ProgressBar::with_draw_target(Some(count), target).with_style(style.expect("a constant template"))
}

fn hashes(arguments: &Explore) -> Result<ExitCode, BadInput> {
    let options = arguments.workers.options();
    explore(&arguments.tasks(), arguments.common.into(), arguments.jobs(), &options, |judged| {
        let hash = judged.outcome.map_or_else(|why| why.to_string(), |outcomes| format!("{:016x}", outcomes.hash));
        say!("{} {hash}", judged.task.1);
        if is_read() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    Ok(ExitCode::Held)
}

fn compare(arguments: &Determinism) -> Result<ExitCode, BadInput> {
    let plan = determinism::ComparedSeeds {
        workloads: arguments.explore.workloads(),
        base: arguments.explore.seed,
        seeds: arguments.explore.seeds,
        alone: arguments.alone,
        common: arguments.explore.common.into(),
    };
    let comparison = determinism::compare(&std::env::current_exe()?, &plan)?;
    for difference in comparison.differences.iter().take(10) {
        let determinism::Difference { task, first, other } = difference;
        say!("seed {} of {}: {} with {}, {} with {}", task.1, task.0, first.1, first.0, other.1, other.0);
        say!("  {}", replay_command(*task, plan.common));
    }
    let count = comparison.differences.len();
    say!(
        "{}: {} runs in two processes (--jobs 1 and 2), {} of each workload alone: {count} differences",
        if count == 0 { "PASSED" } else { "FAILED" },
        comparison.runs,
        plan.alone.min(plan.seeds)
    );
    Ok(if count == 0 { ExitCode::Held } else { ExitCode::NotDeterministic })
}

fn plant(arguments: &mutants::MutantArguments) -> Result<ExitCode, BadInput> {
    if let Some(list) = &arguments.listed {
        let outcomes = mutants::listed::survey(arguments, list, |how_far| tell!("{how_far}"))?;
        say!("{}", mutants::listed::text(&outcomes).trim_end());
        return Ok(ExitCode::Held);
    }
    if let Some(bases) = arguments.speed {
        let speeds = mutants::measure(arguments, bases, |how_far| tell!("{how_far}"))?;
        say!("{}", mutants::speed::table(&speeds).trim_end());
        return Ok(ExitCode::Held);
    }
    let tried = mutants::try_all(arguments, |how_far| tell!("{how_far}"))?;
    if arguments.markdown {
        say!("{}", mutants::table::markdown(&tried).trim_end());
    } else {
        say!("{}", mutants::table::text(&tried));
    }
    say!("{}", mutants::table::conclusion(&tried).trim_end());
    Ok(if tried.iter().all(|tried| tried.wrong().is_none()) { ExitCode::Held } else { ExitCode::Violation })
}

fn catches(Catches { explore, until }: &Catches) -> Result<ExitCode, BadInput> {
    let options = explore.workers.options();
    mutants::catches::find(&explore.tasks(), until, explore.jobs(), &options, |line| {
        say!("{}", serde_json::to_string(line).expect("plain data becomes JSON"));
    })?;
    Ok(ExitCode::Held)
}

#[tokio::main(flavor = "current_thread")]
async fn serve(arguments: &RedisServer) -> Result<ExitCode, BadInput> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, arguments.port));
    let listener = tokio::net::TcpListener::bind(address).await.map_err(|error| {
        BadInput(format!("failed to listen on {address}: {error}; name another port with --port, 0 for a free one"))
    })?;
    say!("redis://{}/", listener.local_addr()?);
    seedbed_redis::serve_tcp::serve(listener).await?;
    Ok(ExitCode::Held)
}

fn measure(arguments: &Bench) -> Result<ExitCode, BadInput> {
    if let Some(row) = &arguments.exercise {
        return match bench::exercise(row, arguments.operations) {
            0 => Err(BadInput(format!("no row of the bench is called {row:?}: \"get\" is a part of one, or \"echo\""))),
            _ => Ok(ExitCode::Held),
        };
    }
    if arguments.instructions {
        let progress = progress(instructions::steps(), "counted");
        let counted = instructions::count(|| progress.inc(1))?;
        progress.finish_and_clear();
        say!("{}", counted.text().trim_end());
        return Ok(if counted.is_within_limits() { ExitCode::Held } else { ExitCode::Violation });
    }
    let progress = progress(bench::steps(arguments.rounds), "measured");
    let measured = bench::measure(arguments.rounds, || progress.inc(1));
    progress.finish_and_clear();
    say!("{}", measured.text().trim_end());
    Ok(ExitCode::Held)
}

fn list() -> ExitCode {
    say!("Workloads\n");
    for workload in ALL {
        say!("  {:<15}{}", workload.name(), workload.about());
    }
    say!("\nSubjects\n");
    for subject in SUBJECTS {
        say!("  {:<15}{}", subject.name(), subject.about());
    }
    say!("\nGuarantees\n");
    for guarantee in seedbed_contact::checker::Guarantee::ALL {
        say!("  {guarantee}");
    }
    say!("\nFaults\n");
    for kind in seedbed_contact::faults::KIND_NAMES {
        say!("  {kind}");
    }
    say!("\nMarks\n");
    for mark in &marks::ALL {
        say!("  {}", mark.name);
    }
    ExitCode::Held
}

/// Whether standard output still has a reader.
static READ: AtomicBool = AtomicBool::new(true);

fn is_read() -> bool {
    READ.load(Ordering::Relaxed)
}

/// What the macro of this name does.
pub(crate) fn say(line: std::fmt::Arguments<'_>) {
    if !is_read() {
        return;
    }
    if let Err(error) = writeln!(io::stdout(), "{line}") {
        if error.kind() != io::ErrorKind::BrokenPipe {
            tell!("error: failed to write to the standard output: {error}");
            std::process::exit(ExitCode::BadInput.into());
        }
        READ.store(false, Ordering::Relaxed);
    }
}
