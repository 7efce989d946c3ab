//! What an operator can do to a server that runs, or what can happen to it: the states in which it refuses, and its limits.

use serde::{Deserialize, Serialize};

/// Why Redis answers with errors, by the code that these begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// It reads its data set: what needs data is refused.
    Loading,
    /// It has become a replica: writes are refused, also where a script makes them.
    ReadOnly,
    /// Its memory is full: what may need memory is refused; deletes and scripts that only read work.
    OutOfMemory,
    /// It cannot save to its disk: writes and PING are refused.
    Misconfigured,
    /// A script runs for too long: only HELLO, AUTH, QUIT and SCRIPT KILL are answered.
    Busy,
    /// A password was set: nothing works but to authenticate.
    NoAuth,
    /// It is a replica without its master, and serves no stale data: what needs data is refused.
    MasterDown,
    /// The user has lost the right to use any command.
    NoPermission,
    /// It takes no more clients: connections that stand go on.
    MaxClients,
}

/// Every refusal.
pub const REFUSALS: [Refusal; 9] = [
    Refusal::Loading,
    Refusal::ReadOnly,
    Refusal::OutOfMemory,
    Refusal::Misconfigured,
    Refusal::Busy,
    Refusal::NoAuth,
    Refusal::MasterDown,
    Refusal::NoPermission,
    Refusal::MaxClients,
];

/// A limit of the server, as `CONFIG SET` sets it. Redis takes none of the two in bytes below 1 MiB; here they may be as low
/// as what a run writes is small.
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
