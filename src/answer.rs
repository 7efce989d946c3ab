//! What calls ask for, and what they answer.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use crate::{
    config::ConfigError, contact::CachedContact, error::StoreError, health::State, key::Uid, local::Exposed,
    stamp::Stamp,
};

/// Which tier took a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Placement {
    /// Redis holds it: every instance sees it from now on.
    Shared,
    /// It is on this instance's disk, synced, and will be merged into Redis when that is back.
    Local,
}

/// Which tier answered a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// Redis's reply alone covers everything shown.
    Shared,
    /// Redis was asked, and something held locally is newer.
    Merged,
    /// Redis is away; this is what the instance held.
    Local,
}

/// How fresh the answer of a read has to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Freshness {
    /// Whatever the instance can tell.
    #[default]
    Any,
    /// Redis's word; or, while it is away, a copy of which every cell was confirmed by Redis within this time, or written
    /// by this instance and not merged yet.
    Within(Duration),
    /// Redis's word.
    Shared,
}

/// The answer of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Which tier took it.
    pub placement: Placement,
    /// Its place in the order of writes.
    pub stamp: Stamp,
}

/// The answer of a read.
#[derive(Clone, Debug, PartialEq)]
pub struct Read {
    /// Which tier answered.
    pub source: Source,
    /// The record; none if there is none. Shared with other readers of the same: cloning it is cheap.
    pub record: Option<Arc<CachedContact>>,
}

/// The answer of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// Which tier answered.
    pub source: Source,
    /// The uids, each once, in order.
    pub uids: BTreeSet<Uid>,
    /// Whether they are all that this instance can know of. Not while Redis is away, if copies were forgotten.
    pub complete: bool,
    /// Why Redis did not answer; none if it did.
    pub local_because: Option<String>,
}

/// The answer of a clear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cleared {
    /// The uids removed, and which tier took each removal.
    pub removed: BTreeMap<Uid, Placement>,
    /// Removals that failed, or that the deadline cut off: they may have had an effect, or may have one later.
    pub unknown: BTreeSet<Uid>,
    /// Whether Redis was asked for the list, and every uid of it removed within the deadline.
    pub complete: bool,
}

/// What became, or would become, of a record that another cache kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Imported {
    /// There was no such record.
    Created,
    /// There was, and it lacked some of this.
    Joined,
    /// There was, and it has all of this, or newer.
    Present,
    /// It was removed from this cache, and stays so.
    Removed,
}

/// What an operator asks an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// The instance's view of Redis.
    pub state: State,
    /// How long it has been in this state.
    pub state_for: Duration,
    /// Why Redis is away, if it is.
    pub away_because: Option<String>,
    /// What Redis last refused to merge, and why, if anything of the last pass over what is pending was refused.
    pub refused: Option<String>,
    /// How many records cannot be merged, and are tried apart from all others: each time with more time, and a longer wait
    /// before.
    pub isolated_records: u64,
    /// The first of them, in order; at most [`Health::ISOLATED_MAX`].
    pub isolated: Vec<Isolated>,
    /// Records with something that Redis does not have yet.
    pub pending_records: u64,
    /// Bytes of those with writes of this instance, as [`Config::pending_bytes_max`](crate::Config::pending_bytes_max)
    /// counts them.
    pub pending_bytes: u64,
    /// For how long there has always been something pending, by this instance's wall clock: the oldest is no older.
    pub pending_for: Option<Duration>,
    /// Bytes of copies of what Redis holds, as [`Config::copies_bytes_max`](crate::Config::copies_bytes_max) counts them.
    pub copies_bytes: u64,
    /// Copies forgotten, or not kept, since opening, to keep within that.
    pub forgotten_copies: u64,
    /// Attempts to connect, since opening.
    pub attempts: u64,
    /// Connections established since opening.
    pub connections: u64,
    /// Records found damaged on disk since opening; they were not served.
    pub damaged_records: u64,
    /// Damaged logs set aside, at opening or since.
    pub quarantined_files: u64,
    /// How often the local log was rewritten since opening.
    pub rewrites: u64,
    /// Writes to the local log that failed since opening, and were tried again.
    pub failed_flushes: u64,
    /// Why the local store takes no more writes, if it does not.
    pub store_error: Option<String>,
    /// What the local store cannot do for now, and why, if there is something: its disk has no room, or refuses to write.
    /// Calls that Redis answers go on; see docs/OPERATIONS.md.
    pub store_degraded: Option<String>,
    /// Files of the local store that others than their owner may use, as of opening.
    pub exposed: Vec<Exposed>,
    /// Another Redis than the local store is for was met, and nothing was asked of it or published to it.
    pub other_redis: Option<OtherRedis>,
    /// Records with a stamp more than [`Health::FAR_FUTURE`] ahead of this instance's clock, seen since opening: a clock
    /// somewhere is wrong. They stay writable, under larger stamps.
    pub future_stamps: u64,
}

/// A record that cannot be merged although Redis works.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Isolated {
    /// The record.
    pub uid: Uid,
    /// About how many bytes it has.
    pub bytes: u64,
    /// How often it was tried alone.
    pub attempts: u32,
    /// What the last attempt ended with.
    pub reason: String,
    /// How long until the next.
    pub next_attempt_in: Duration,
}

impl Health {
    /// How many isolated records are told one by one.
    pub const ISOLATED_MAX: usize = 32;

    /// How far ahead of the own clock a stamp is reported.
    pub const FAR_FUTURE: Duration = Duration::from_hours(1);
}

/// A local store belongs to the data of one Redis, and was opened for another, whose data is not that.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the local store in {directory:?} belongs to {belongs_to}, and {found} holds other data: correct the setting redis, name \
     another directory, or set on_other_redis = \"publish\" to have what the store holds published there"
)]
#[non_exhaustive]
pub struct OtherRedis {
    /// The directory of the store.
    pub directory: PathBuf,
    /// Endpoint and database of the Redis that it belongs to.
    pub belongs_to: String,
    /// Endpoint and database of the Redis that was met.
    pub found: String,
    /// The generation of the data that the store holds copies of; none if it never met its Redis.
    pub generation: Option<String>,
    /// The generation of the data that was met; none if it has none yet.
    pub found_generation: Option<String>,
}

/// Why a cache cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A setting cannot be.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The local store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The runtime of the environment has ended.
    #[error("the runtime of the environment has ended: make the environment on one that lives as long as the cache")]
    BackgroundEnded,
}
