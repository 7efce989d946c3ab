//! The command `check`: judges a history that somebody wrote to a file.

use std::{
    fmt::Write as _,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
    str::FromStr,
};

use clap::Args;
use seedbed_contact::{
    checker::judge,
    history::{History, HistoryFileError, file},
    outcomes::worst,
    report::{ExitCode, timeline, word},
};

use seedbed_linearize::foreign::{self, BrokenKey, Foreign, Linearizable, ModelName, Reading, named};

use crate::BadInput;

/// Judge a history.
#[derive(Args)]
pub(crate) struct Check {
    /// A history as `replay --history` writes it; - for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Whose history it is: contact-cache, or in the form of foreign ones register, cas-register or key-value
    #[arg(long, value_name = "NAME", default_value = "contact-cache")]
    model: HistoryKind,
    /// The values are [key, value], as jepsen.independent writes them
    #[arg(long)]
    independent: bool,
}

/// What is judged.
#[derive(Clone, Copy)]
enum HistoryKind {
    /// Every guarantee, over a native history.
    ContactCache,
    /// Linearizability, over a foreign one.
    Model(ModelName),
}

/// A name that neither the contact cache nor a model has.
#[derive(Debug, thiserror::Error)]
#[error("unknown model {0:?}: there are contact-cache, register, cas-register and key-value")]
struct UnknownJudge(String);

impl FromStr for HistoryKind {
    type Err = UnknownJudge;

    fn from_str(name: &str) -> Result<Self, UnknownJudge> {
        if name == "contact-cache" {
            return Ok(Self::ContactCache);
        }
        name.parse().map(Self::Model).map_err(|_| UnknownJudge(name.to_owned()))
    }
}

/// Of an order, so many of its last operations are printed.
const ORDER_SHOWN: usize = 10;

/// What to print, and how to end.
pub(crate) fn check(arguments: &Check) -> Result<(String, ExitCode), BadInput> {
    let name = arguments.file.display().to_string();
    let is_independent = arguments.independent;
    if is_independent && matches!(arguments.model, HistoryKind::ContactCache) {
        return Err(BadInput("--independent is of foreign histories: name their --model".to_owned()));
    }
    let input = open(&arguments.file)?;
    Ok(match arguments.model {
        HistoryKind::ContactCache => native(&file::read(&name, input)?),
        HistoryKind::Model(model) => {
            let reading = Reading { model, is_independent };
            of_model(&foreign::read(&name, input, reading)?, model)
        }
    })
}

/// Writes the history of a run to a file.
#[expect(clippy::disallowed_methods, reason = "outside of any run")]
pub(crate) fn write(history: &History, path: &Path) -> Result<(), HistoryFileError> {
    let to = std::fs::File::create(path).map(io::BufWriter::new);
    let written = to.and_then(|mut to| file::write(history, &mut to));
    written.map_err(|cause| HistoryFileError::Io { verb: "write", file: path.display().to_string(), cause })
}

#[expect(clippy::disallowed_methods, reason = "outside of any run")]
fn open(path: &Path) -> Result<Box<dyn BufRead>, HistoryFileError> {
    if path == Path::new("-") {
        return Ok(Box::new(io::stdin().lock()));
    }
    let file = std::fs::File::open(path);
    let file = file.map_err(|cause| HistoryFileError::Io { verb: "open", file: path.display().to_string(), cause })?;
    Ok(Box::new(BufReader::new(file)))
}

fn native(history: &History) -> (String, ExitCode) {
    let judgements = judge(history);
    let worst = worst(&judgements);
    let History { header, events } = history;
    let text = format!(
        "Verdicts\n\n{}\n{}: {} events of seed {} of {}",
        timeline::verdicts(&judgements),
        word(&worst),
        events.len(),
        header.seed,
        header.workload
    );
    (text, ExitCode::from(&worst))
}

fn of_model(history: &Foreign, model: ModelName) -> (String, ExitCode) {
    let (operations, keys) = history.counts();
    let judged = format!("{operations} operations on {keys} keys, {model}");
    match history.judge() {
        Linearizable::Pass => (format!("PASSED: {judged}: linearizable"), ExitCode::Held),
        Linearizable::Unknown { why } => (format!("UNKNOWN: {judged}: {why}"), ExitCode::Unknown),
        Linearizable::Violation(broken) => {
            (format!("{}\nFAILED: {judged}: not linearizable", evidence(&broken).trim_end()), ExitCode::Violation)
        }
    }
}

fn evidence(broken: &BrokenKey) -> String {
    let mut text = format!("No order explains the operations on {}.\n\n", named(&broken.key));
    let how = if broken.is_smallest {
        "These alone have none, and without one of those that only look they would"
    } else {
        "These alone have none; fewer may have none either"
    };
    let _ = writeln!(text, "{how}:\n");
    for operation in &broken.shown {
        let _ = writeln!(text, "  {operation}");
    }
    if let Some(stuck) = &broken.stuck {
        let _ = writeln!(text, "\nNo order gets past the return of\n\n  {stuck}\n");
        let first = broken.order.len().saturating_sub(ORDER_SHOWN);
        let _ =
            writeln!(text, "Up to there, {} operations are explained in an order that ends with\n", broken.order.len());
        for operation in &broken.order[first..] {
            let _ = writeln!(text, "  {operation}");
        }
    }
    text + "\n"
}
