//! What an operator can deny the users of a Redis that runs: the right to a command.

use serde::{Deserialize, Serialize};

/// Commands that users are denied (`ACL SETUSER default -<command>`), while all others work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Denied {
    /// SCAN: nobody can list.
    Scan,
    /// EVAL and EVALSHA: nobody can write, and all can read.
    Scripts,
    /// HGETALL: nobody can read a record, also not in a script.
    HashReads,
    /// HSET: the script fails where it writes, after it has read.
    HashWrites,
    /// GET: nobody can ask for the generation of the data.
    Get,
    /// TIME: nobody is told the clock, also not in a script.
    Time,
}

/// Every denial.
pub const DENIALS: [Denied; 6] =
    [Denied::Scan, Denied::Scripts, Denied::HashReads, Denied::HashWrites, Denied::Get, Denied::Time];

impl Denied {
    /// The commands, in lower case.
    pub fn commands(self) -> &'static [&'static str] {
        match self {
            Self::Scan => &["scan"],
            Self::Scripts => &["eval", "evalsha"],
            Self::HashReads => &["hgetall"],
            Self::HashWrites => &["hset"],
            Self::Get => &["get"],
            Self::Time => &["time"],
        }
    }
}
