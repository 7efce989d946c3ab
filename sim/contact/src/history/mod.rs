//! What a run leaves behind: one line of events, in order, and nothing else. Checkers judge it; they see no other thing.
//!
//! Events are ordered by their ordinal, not by time: two events of the same simulated microsecond still have an order.
//! An operation is an [`What::Invoke`] and, unless its instance died first, a [`What::Complete`] with the same `op`.

pub mod call;
pub mod contents;
pub mod file;
mod shown;

use std::sync::Arc;

pub use seedbed_linearize::lines::HistoryFileError;
pub use seedbed_world::Stop;
use serde::{Deserialize, Serialize};

pub use self::{
    call::{Call, Freshness, Patch},
    contents::{Raw, Stamps, StoredEntry, StoredKey, StoredLife, StoredMarker, StoredRecord},
    shown::Shown,
};
use crate::faults::{Fault, Moment};

/// The version of the event format, raised when a reader of the old one would misunderstand the new.
pub const FORMAT: u32 = 1;

/// A whole run as the checkers see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// What holds for all of it.
    pub header: Header,
    /// What happened, by ordinal.
    pub events: Vec<Event>,
}

/// What holds for a whole run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// [`FORMAT`] of the writer.
    pub format: u32,
    /// The workload that was run.
    pub workload: String,
    /// The seed that the run grew from.
    pub seed: u64,
    /// The key prefix of each instance, by instance number.
    pub prefixes: Vec<String>,
    /// The deadline of every call, in simulated microseconds (G8).
    pub op_deadline_us: u64,
    /// The faults went beyond what every guarantee survives.
    #[serde(default)]
    pub beyond_budget: bool,
    /// What the instances were set to.
    #[serde(default, skip_serializing_if = "Tuning::is_default")]
    pub tuning: Tuning,
    /// How wrong the wall clock of each instance was at the start, in milliseconds; right if not given. Faults may change it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clock_offsets_ms: Vec<i64>,
    /// How much more wrong than that the wall clocks could be, in milliseconds: an instance goes by its own until it meets
    /// Redis.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub clock_error_ms: u64,
    /// The slowest round trip of a segment and its answer that the network draws without a fault, in microseconds. A call is
    /// held to it (G13); not, if it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round_trip_us: Option<u64>,
    /// The reading of a correct clock at the start, in milliseconds since 1970. With it, G1 compares the times in records and of keys
    /// with the clocks; without it, they are not checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starts_at_ms: Option<u64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_false(flag: &bool) -> bool {
    !*flag
}

/// What a run sets its instances to, where that is not the default. A subject that has no such setting goes without.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tuning {
    /// How long a record lives after its last upsert, in milliseconds, less up to a tenth; for ever if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record_ttl_ms: Option<u64>,
    /// How long a removal is remembered, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tombstone_ttl_ms: Option<u64>,
    /// Bytes that may be pending on an instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending_bytes_max: Option<u64>,
    /// Bytes of copies of what Redis holds that an instance may keep.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copies_bytes_max: Option<u64>,
    /// Every write is synced on its instance before it answers, those that answer `Shared` too.
    #[serde(skip_serializing_if = "is_false")]
    pub syncs_every_write: bool,
    /// What Redis lost is not told again by those who hold copies.
    #[serde(skip_serializing_if = "is_false")]
    pub accepts_losses: bool,
}

impl Tuning {
    /// Whether it sets nothing.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// One event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Position in the run, from 0, without gaps.
    pub ordinal: u64,
    /// Simulated time since the start of the run, in microseconds.
    pub at_us: u64,
    /// What happened.
    #[serde(flatten)]
    pub what: What,
}

/// What can happen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum What {
    /// A phase of the run begins.
    Phase {
        /// Which.
        phase: Phase,
    },
    /// An instance has opened its cache and takes calls.
    Started {
        /// Which.
        instance: u32,
    },
    /// An instance is gone; its running operations will not complete.
    Stopped {
        /// Which.
        instance: u32,
        /// How it went.
        how: Stop,
    },
    /// An instance's view of Redis changed.
    State {
        /// Which.
        instance: u32,
        /// `connected`, `degraded`, `probing` or `recovering`.
        state: String,
    },
    /// An operation begins.
    Invoke {
        /// The instance that was called.
        instance: u32,
        /// The operation's number, unique in the run.
        op: u64,
        /// What was asked.
        call: Arc<Call>,
    },
    /// An operation returned.
    Complete {
        /// The instance that was called.
        instance: u32,
        /// The number of the operation.
        op: u64,
        /// What it answered.
        outcome: Outcome,
    },
    /// A fault begins.
    FaultBegin {
        /// The number of the fault in the plan.
        fault: u32,
        /// What it is.
        what: Fault,
        /// The moment that it waited for, if it did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at: Option<Moment>,
    },
    /// A fault ends.
    FaultEnd {
        /// The number of the fault in the plan.
        fault: u32,
        /// How often it had an effect that a client could see, by the measure of its kind.
        #[serde(default)]
        effects: u64,
    },
    /// Redis lost all of its data at this point (restart without data, FLUSHALL), or all since some save (rollback).
    RedisLostData,
    /// Redis lost these records.
    RedisLostRecords {
        /// Which.
        records: Vec<RecordName>,
    },
    /// Redis lost these keys, which are another service's.
    RedisLostKeys {
        /// Which.
        keys: Vec<Raw>,
    },
    /// Another service wrote these keys to Redis and replaced their earlier values.
    OthersWrote {
        /// As Redis holds them now; no record is in them.
        keys: Vec<StoredKey>,
    },
    /// The caller of an operation gave it up: it will not complete.
    Cancelled {
        /// The instance that was called.
        instance: u32,
        /// The number of the operation.
        op: u64,
    },
    /// The store that an instance will open next holds what it never wrote.
    StoreDamaged {
        /// Which.
        instance: u32,
    },
    /// An operator or another process changed the directory of an instance's store, which held a log.
    StoreChanged {
        /// Whose.
        instance: u32,
        /// The state of the store after the change.
        now: StoreNow,
    },
    /// What an instance says of its store: when it opened it, or later because more damage was met.
    StoreReport {
        /// Which.
        instance: u32,
        /// What it says.
        report: StoreReport,
    },
    /// An instance failed to open its cache, and will try again.
    OpenFailed {
        /// Which.
        instance: u32,
        /// The error.
        error: String,
    },
    /// What an instance holds, when its cache has been closed in order and its process lives on, or at the end of the run.
    Holds {
        /// Which.
        instance: u32,
        /// Its cache has been closed: nothing of it may be left.
        closed: bool,
        /// What it holds, as far as somebody can tell.
        what: Vec<Holding>,
    },
    /// When an instance asked for a connection to Redis, in all of the run: noted at its end.
    Attempts {
        /// Which.
        instance: u32,
        /// Simulated times, as those of events, ascending.
        times_us: Vec<u64>,
    },
    /// All that Redis holds, right after the final reads.
    RedisHolds {
        /// By key.
        keys: Vec<StoredKey>,
    },
    /// What the local store of an instance holds, after its cache has been closed at the end of the run, or what of it is
    /// still whole after [`What::StoreDamaged`].
    StoreHolds {
        /// Which.
        instance: u32,
        /// In the order of the file, only what counts: of each record the last.
        entries: Vec<StoredEntry>,
    },
    /// The run did not come to rest in the time allowed; final reads follow all the same.
    Unquiet {
        /// The instance that was not at rest.
        instance: u32,
        /// What it was still doing.
        reason: String,
    },
}

/// The state of a store after an operator or another process changed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StoreNow {
    /// Its directory is gone, or empty: all evidence of the store is gone with it.
    Gone,
    /// Its log is gone.
    LogGone,
    /// Its directory is elsewhere.
    Away,
    /// Its directory is back where it was, as it was.
    Back,
    /// A copy of it stands in its place, made earlier, or one of another instance's store.
    Copy,
    /// The clone of another instance's volume stands in its place. The files do not show that they are not the original.
    Clone,
    /// The end of its log is gone.
    Cut,
    /// Another process has opened it, on a host that does not see the lock.
    Taken,
    /// The instance has the store of another from here on, or its own one again, as it left it.
    Other,
}

/// A record, by its names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RecordName {
    /// The key prefix that it is under.
    pub prefix: String,
    /// Its uid.
    pub uid: String,
}

/// How much of something an instance holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holding {
    /// Of what.
    pub resource: Resource,
    /// So much.
    pub now: u64,
    /// The most that it ever held at once since it was started, as far as it was seen.
    pub most: u64,
    /// What it promises never to pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
}

/// What an instance can hold too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// Sockets, by the world's count.
    Sockets,
    /// Tasks, by the world's count.
    Tasks,
    /// Open files and locks, by the world's count.
    Files,
    /// Bytes of writes that Redis does not have, by the instance's own word.
    PendingBytes,
    /// Bytes of copies of what Redis holds, by the instance's own word.
    CopiesBytes,
}

/// What an instance says of its store.
#[expect(clippy::struct_excessive_bools, reason = "each says of itself what was found")]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreReport {
    /// It had been closed in order.
    pub clean_end: bool,
    /// Something that was once durable is gone.
    pub lost: bool,
    /// The damaged file was kept aside.
    pub set_aside: bool,
    /// Records that turned out to be damaged since it was opened.
    pub damaged_records: u64,
    /// There had been a log, and it was gone.
    #[serde(default, skip_serializing_if = "is_false")]
    pub lost_log: bool,
    /// It was a copy of the store that was open last.
    #[serde(default, skip_serializing_if = "is_false")]
    pub is_copy: bool,
}

/// The phases of a run, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Instances open their caches; nothing is wrong yet.
    SetUp,
    /// The workload runs, the nemesis plays.
    Faults,
    /// All faults have ended, all instances run again; the rest of the workload goes on.
    Heal,
    /// No new work; the instances have a bounded time to drain.
    Quiesce,
    /// Every instance reads every uid, one after the other.
    FinalReads,
}

/// How an operation ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// It did what was asked.
    Ok {
        /// The answer.
        answer: Answer,
    },
    /// It certainly had no effect.
    Fail {
        /// The error.
        error: String,
    },
    /// It may have had an effect, now or later.
    Info {
        /// The error.
        error: String,
    },
}

/// The answer of an operation that succeeded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// Of an upsert or a remove.
    Written {
        /// Where the write is.
        placement: Placement,
        /// Its stamp, if the subject has stamps: text that compares as the stamps do.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stamp: Option<String>,
    },
    /// Of a get.
    Read {
        /// Where the answer comes from.
        source: Source,
        /// The record in its JSON form (`uid`, `contacts`, `profile`, `metadata`, `first_revealed_at`,
        /// `last_updated_at`); none if there is none. Reads that showed the same may share it.
        record: Option<Shown>,
    },
    /// Of a read of many.
    ReadMany {
        /// What it says of each record, as it was answered: by G7 once for each that was asked for.
        reads: Vec<ReadOfOne>,
    },
    /// Of an import.
    Imported {
        /// What became of the record.
        became: Imported,
    },
    /// Of a list.
    Listed {
        /// Where the answer comes from.
        source: Source,
        /// The uids, as answered.
        uids: Vec<String>,
    },
    /// Of a clear.
    Cleared {
        /// `Shared` if every removal was.
        placement: Placement,
        /// The uids that were removed.
        uids: Vec<String>,
        /// Redis was asked what there is, and all of it was removed.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        complete: bool,
    },
    /// Of a sync.
    Synced {
        /// Writes that are still pending.
        pending: u64,
    },
}

/// What a read of many says of one record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReadOfOne {
    /// Which.
    pub uid: String,
    /// As of a get of it.
    pub outcome: Outcome,
}

/// What became of a record that was imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Imported {
    /// There was no such record.
    Created,
    /// There was, and it lacked some of this.
    Joined,
    /// There was, and it has all of this, or newer.
    Present,
    /// It was removed before, and stays so.
    Removed,
}

/// Which tier took a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Placement {
    /// Redis holds it.
    Shared,
    /// It is on the instance's disk, and will be merged into Redis later.
    Local,
}

/// Which tier answered a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Redis's reply alone covers everything shown.
    Shared,
    /// Redis answered, and something held locally is newer.
    Merged,
    /// Redis was not asked, or did not answer.
    Local,
}
