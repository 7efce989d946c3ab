//! A run as plain data: what is asked and what goes wrong. A file that holds one replays it.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    faults::PlannedFault,
    milliseconds::Ms,
    system::{OpOf, Plan, Workload},
};

/// The version of the format of files.
const FORMAT: u32 = 1;

/// A run of a workload, before it is played.
pub type ScenarioOf<W> = Scenario<OpOf<W>, <W as Workload>::Tuning>;

/// A run, before it is played.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario<Op, T> {
    /// What all chance of the world and of the instances grows from.
    pub seed: u64,
    /// What the order of tasks that could all go on grows from.
    pub scheduler_seed: u64,
    /// What is asked.
    pub plan: Plan<Op, T>,
    /// What goes wrong.
    pub faults: Vec<PlannedFault>,
}

/// For people: calls and faults in the order of their times.
impl<Op: fmt::Debug, T> fmt::Display for Scenario<Op, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let calls = self.plan.calls.iter().map(|call| (call.at_us, format!("{:>3}  {:?}", call.instance, call.op)));
        let faults = self.faults.iter().map(|fault| (fault.start_us, format!("     fault: {fault}")));
        let mut lines: Vec<_> = calls.chain(faults).collect();
        lines.sort();
        for (at_us, line) in lines {
            writeln!(f, "{:>16}  {line}", Ms(at_us))?;
        }
        for call in &self.plan.last {
            writeln!(f, "{:>16}  {:>3}  {:?}", "at the end", call.instance, call.op)?;
        }
        Ok(())
    }
}

/// A file with a scenario.
#[derive(Serialize, Deserialize)]
struct Saved<S> {
    format: u32,
    bed: String,
    /// What is violated, for a reader.
    violates: String,
    scenario: S,
}

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It could not be read or written.
    #[error("failed to {verb} replay file {file:?}: {cause}")]
    Io {
        /// What was tried.
        verb: &'static str,
        /// The file.
        file: PathBuf,
        /// What the operating system said.
        cause: io::Error,
    },
    /// It makes no sense.
    #[error("replay file {file:?}: {wrong}; {cure}")]
    Wrong {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        wrong: String,
        /// What to do.
        cure: String,
    },
}

impl<Op: Serialize + DeserializeOwned, T: Serialize + DeserializeOwned> Scenario<Op, T> {
    /// Writes it to a file, and makes the folder for it.
    ///
    /// # Errors
    /// The file cannot be written.
    #[expect(clippy::disallowed_methods, reason = "outside of any run")]
    pub fn save(&self, bed: &str, violates: &str, file: &Path) -> Result<(), FileError> {
        let saved = Saved { format: FORMAT, bed: bed.to_owned(), violates: violates.to_owned(), scenario: self };
        let text = serde_json::to_string_pretty(&saved).expect("a scenario is plain data") + "\n";
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
        folder.map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(file, text)).map_err(io_error("write", file))
    }
}

/// Reads a scenario of the bed of this name from a file; `check` says whether it can be played there.
///
/// # Errors
/// The file cannot be read, or holds something else.
pub(crate) fn load<Op: DeserializeOwned, T: DeserializeOwned>(
    name: &str,
    file: &Path,
    check: impl FnOnce(&Scenario<Op, T>) -> Result<(), String>,
) -> Result<Scenario<Op, T>, FileError> {
    let text = fs::read_to_string(file).map_err(io_error("read", file))?;
    let wrong = |wrong: String, cure: &str| {
        let (file, cure) = (file.to_owned(), cure.to_owned());
        FileError::Wrong { file, wrong, cure }
    };
    let saved: Saved<serde_json::Value> = serde_json::from_str(&text).map_err(|error| {
        wrong(format!("it is no replay file: {error}"), "name a file that a failed run has written")
    })?;
    if saved.format != FORMAT {
        let cure = "replay it with the version of seedbed that wrote it";
        return Err(wrong(format!("its format is {}, and this version reads {FORMAT}", saved.format), cure));
    }
    if !is_same_bed(&saved.bed, name) {
        let cure = format!("replay it as {:?}", saved.bed);
        return Err(wrong(format!("it is of the bed {:?}, and not of {name:?}", saved.bed), &cure));
    }
    let scenario = serde_json::from_value(saved.scenario).map_err(|error| {
        wrong(
            format!("its scenario makes no sense: {error}"),
            "replay it with the code that wrote it, or mend it by hand",
        )
    })?;
    check(&scenario).map_err(|error| wrong(error, "mend it by hand"))?;
    Ok(scenario)
}

/// The bed of a replay file, by the last part of its name; none if it is no such file.
pub(crate) fn bed_of(file: &Path) -> Option<String> {
    let saved: Saved<serde_json::Value> = serde_json::from_str(&fs::read_to_string(file).ok()?).ok()?;
    saved.bed.rsplit("::").next().map(ToOwned::to_owned)
}

/// A test is named with its module, a bed of a command line is not: each replays the files of the other.
fn is_same_bed(one: &str, other: &str) -> bool {
    let is_short = |short: &str, long: &str| !short.contains("::") && long.rsplit("::").next() == Some(short);
    one == other || is_short(one, other) || is_short(other, one)
}

fn io_error(verb: &'static str, file: &Path) -> impl FnOnce(io::Error) -> FileError {
    let file = file.to_owned();
    move |cause| FileError::Io { verb, file, cause }
}
