//! What a person, or a script, is told: the timeline of a run, its traffic, exit codes, what verdicts rest on.

pub mod account;
pub mod pcap;
pub mod timeline;

use crate::checker::Verdict;

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// Every guarantee held in every run.
    Held = 0,
    /// A guarantee was broken, or a run panicked.
    Violation = 1,
    /// Arguments, a file or the environment cannot be used.
    BadInput = 2,
    /// No violation, but of some run it could not be said.
    Unknown = 3,
    /// The same seed gave two different runs.
    NotDeterministic = 4,
    /// A run ended its process, or took too long and was ended: its verdicts are not known.
    RunEnded = 5,
}

impl From<ExitCode> for i32 {
    fn from(code: ExitCode) -> Self {
        code as i32
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code as u8)
    }
}

impl From<&Verdict> for ExitCode {
    fn from(verdict: &Verdict) -> Self {
        match verdict {
            Verdict::Pass => Self::Held,
            Verdict::Unknown { .. } => Self::Unknown,
            Verdict::Violation { .. } => Self::Violation,
        }
    }
}

/// `PASSED`, `FAILED` or `UNKNOWN`.
pub fn word(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "PASSED",
        Verdict::Unknown { .. } => "UNKNOWN",
        Verdict::Violation { .. } => "FAILED",
    }
}

/// Simulated time for people: `12.345678 s`, the unit that makes a microsecond visible and an hour readable.
pub fn seconds(us: u64) -> String {
    format!("{}.{:06}", us / 1_000_000, us % 1_000_000)
}
