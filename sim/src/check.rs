//! The command `check`: judges a history that somebody wrote to a file.

use std::{
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
};

use clap::Args;
use seedbed::{
    checker::judge,
    explore::worst,
    history::{FileError, History, file},
    report::{ExitCode, timeline, word},
};

use crate::BadInput;

/// Judge a history.
#[derive(Args)]
pub(crate) struct Check {
    /// A history as `replay --history` writes it; - for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// What to print, and how to end.
pub(crate) fn check(arguments: &Check) -> Result<(String, ExitCode), BadInput> {
    let name = arguments.file.display().to_string();
    Ok(native(&file::read(&name, open(&arguments.file)?)?))
}

/// Writes the history of a run to a file.
#[expect(clippy::disallowed_methods, reason = "outside of any run")]
pub(crate) fn write(history: &History, path: &Path) -> Result<(), FileError> {
    let to = std::fs::File::create(path).map(io::BufWriter::new);
    let written = to.and_then(|mut to| file::write(history, &mut to));
    written.map_err(|cause| FileError::Io { verb: "write", file: path.display().to_string(), cause })
}

#[expect(clippy::disallowed_methods, reason = "outside of any run")]
fn open(path: &Path) -> Result<Box<dyn BufRead>, FileError> {
    if path == Path::new("-") {
        return Ok(Box::new(io::stdin().lock()));
    }
    let file = std::fs::File::open(path);
    let file = file.map_err(|cause| FileError::Io { verb: "open", file: path.display().to_string(), cause })?;
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
