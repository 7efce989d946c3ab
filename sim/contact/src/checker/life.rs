//! The lives of the upserts of a run; `lives` finds them.

use std::collections::BTreeMap;

use super::clocks::Range;

/// The lives of all upserts of a run.
#[derive(Default)]
pub(super) struct Expiry {
    /// By the numbers of the upserts; empty if records live for ever.
    pub(super) lives: BTreeMap<u64, UpsertLife>,
}

/// The life of an upsert. Readings are Redis's clock, in microseconds.
pub(super) struct UpsertLife {
    pub(super) begins: Range,
    pub(super) ends: Range,
    /// The time at which it may be over in Redis.
    pub(super) may_end_us: u64,
    pub(super) doubt: Doubt,
    /// The reading at which it is over for all.
    pub(super) over: i64,
    /// Whether it may go on after Redis ended it, with what that had not heard of in time, or since the clock of Redis went back:
    /// then copies may bring back what it wrote.
    pub(super) may_return: bool,
}

/// Why it is not certain that a life goes on, although it is not over for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Doubt {
    /// It is within the tenth by which a time to live may be less, or as near to its end as an estimate is exact.
    NearItsEnd,
    /// Its author had not met Redis yet, and its wall clock was wrong.
    WrongClock,
    /// Redis's clock stepped after its author had heard of it.
    RedisStepped,
    /// What would have renewed it may have been lost or removed, or never reached Redis.
    NotRenewed,
}
