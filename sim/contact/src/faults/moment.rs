//! Moments of the protocol that a fault can wait for, instead of a time: most bugs of recovery show only if a process or a
//! connection ends between two certain steps, where a time that is drawn hits once in thousands of runs.
//!
//! Each is known from outside: from a request at Redis, from an operation on a disk, or from what the client counts
//! for its operator. `world::moments` watches for them.

use std::{borrow::Cow, fmt};

use serde::{Deserialize, Serialize};

/// What a fault waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trigger {
    /// The moment. Of a fault that names instances, it has to come on one of these, and the fault strikes that one alone;
    /// otherwise any instance may bring it.
    pub moment: Moment,
    /// The fault strikes when the moment has come this often, from 1.
    pub nth: u32,
    /// How long the fault lasts then, in microseconds: no longer than until its end.
    pub lasts_us: u64,
}

/// A step of the protocol between an instance, its disk and Redis.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Moment {
    /// Redis has the merge of a call, and has not run it.
    MergeArrives,
    /// Redis has run the merge of a call, and its reply has not left.
    MergeDone,
    /// Redis has the merge of a pending write or of a copy, and has not run it.
    ReplayArrives,
    /// Redis has run the merge of a pending write or of a copy, and its reply has not left.
    ReplayDone,
    /// Redis has read a record, and the reply has not left.
    ReadDone,
    /// The next page of a SCAN is asked for: an earlier one has been answered.
    ScanGoesOn,
    /// Redis is asked for the generation of its data: by a new connection, or by a probe.
    GenerationAsked,
    /// The log of the instance is synced, and the process does not know that yet.
    LogSynced,
    /// The new log that is to replace the old one has changed.
    RewriteWrites,
    /// The client has counted what this coverage mark rests on (`marks.rs`).
    Mark(Cow<'static, str>),
}

/// Every moment but those of marks.
pub const STEPS: [Moment; 9] = [
    Moment::MergeArrives,
    Moment::MergeDone,
    Moment::ReplayArrives,
    Moment::ReplayDone,
    Moment::ReadDone,
    Moment::ScanGoesOn,
    Moment::GenerationAsked,
    Moment::LogSynced,
    Moment::RewriteWrites,
];

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MergeArrives => "before Redis runs a merge",
            Self::MergeDone => "between a merge and its reply",
            Self::ReplayArrives => "before Redis runs a merge of what was pending",
            Self::ReplayDone => "between a merge of what was pending and its reply",
            Self::ReadDone => "between a read and its reply",
            Self::ScanGoesOn => "between two pages of SCAN",
            Self::GenerationAsked => "as the generation of the data is asked for",
            Self::LogSynced => "between a sync of the log and the answer",
            Self::RewriteWrites => "while the log is rewritten",
            Self::Mark(mark) => return write!(f, "at the mark {mark:?}"),
        })
    }
}
