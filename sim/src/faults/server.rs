//! What an operator can do to a Redis that runs: take the right to a command from its users, or set a limit of the server
//! too low for what they do.

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

/// A limit of the server, as `CONFIG SET` sets it. Redis takes none of the two in bytes below 1 MiB; here they may be as low
/// as the records of a run are small.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "limit", rename_all = "snake_case", deny_unknown_fields)]
pub enum ServerLimit {
    /// `proto-max-bulk-len`: the connection of a request with a longer word is closed, after an error.
    BulkBytes {
        /// The longest word.
        bytes: u64,
    },
    /// `client-query-buffer-limit`: a connection with more bytes in the buffer of its query is closed without a word.
    QueryBytes {
        /// The most bytes of a query that have been read and are no whole word yet.
        bytes: u64,
    },
    /// `timeout`: a connection that is idle for longer is closed, in order.
    Idle {
        /// For more than so many seconds, counted in whole ones.
        seconds: u64,
    },
    /// `maxclients`: no more connections are taken. Those that stand go on.
    Clients {
        /// So many.
        clients: u64,
    },
}
