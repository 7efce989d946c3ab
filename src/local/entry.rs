//! The entries of a log, and how each is written and read.

use serde::{Deserialize, Serialize};

use super::{format::ChecksumSeed, held::Held, held_text::HeldText};
use crate::key::{Prefix, Uid};

/// An entry of the log.
#[derive(Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "snake_case")]
pub(super) enum LogEntry {
    /// Always the first: whose store this is.
    Prefix { prefix: String },
    /// Endpoint and database of the Redis that it is for, without secrets.
    Redis { url: String },
    /// The clock's ceiling (R4).
    Ceiling { head: u64 },
    /// Redis's generation; every record before it was marked pending if confirmed since (R6). One entry, however many
    /// records, makes the change one durable commit.
    Generation { generation: String, reclaim_since_ms: u64 },
    /// An opened cache met Redis for the first time (L3): its clock, by which it estimated Redis's until then, was behind by
    /// `shift_ms`, and its wall clock by `offset_ms`.
    Contact { clock: u64, shift_ms: i64, offset_ms: i64 },
    /// Copies were forgotten.
    Forgot,
    /// This copy was: what stands before it in the log may be older than what was read since.
    Forget { uid: Uid },
    /// The store was closed in order, with all before it durable: what is missing there was lost since.
    Closed,
    /// A record, whole; written by [`encode_record`].
    #[serde(skip_serializing)]
    Record { uid: Uid, held: HeldText },
}

/// How a record begins, as [`encode_record`] writes it.
const RECORD_BEGINS: &[u8] = br#"{"entry":"record","uid":"#;

/// What the checksums of a prefix's log start from.
pub(super) fn seed(prefix: &Prefix) -> ChecksumSeed {
    ChecksumSeed(crc32fast::hash(prefix.as_str().as_bytes()))
}

pub(super) fn encode(entries: &[LogEntry]) -> Vec<Vec<u8>> {
    entries.iter().map(|entry| serde_json::to_vec(entry).expect("maps with text for keys become JSON")).collect()
}

/// Decodes an entry; `None` if it is malformed. To tell entries apart by a member, serde first copies all members into a buffer.
/// Records, which are most of a log and can be large, are decoded without that.
pub(super) fn decode(payload: &[u8]) -> Option<LogEntry> {
    #[derive(Deserialize)]
    struct RecordRead {
        uid: Uid,
        held: HeldText,
    }
    if !payload.starts_with(RECORD_BEGINS) {
        return serde_json::from_slice(payload).ok();
    }
    let RecordRead { uid, held } = serde_json::from_slice(payload).ok()?;
    Some(LogEntry::Record { uid, held })
}

/// Whether it is an entry of this record, as [`encode_record`] writes it: it may be copied as it is.
pub(super) fn is_record(payload: &[u8], uid: &Uid) -> bool {
    let uid = serde_json::to_vec(uid).expect("a text becomes JSON");
    let behind = payload.strip_prefix(RECORD_BEGINS).and_then(|payload| payload.strip_prefix(uid.as_slice()));
    behind.is_some_and(|payload| payload.starts_with(br#","held":"#))
}

/// An entry [`LogEntry::Record`].
pub(super) fn encode_record(uid: &Uid, held: &Held) -> Vec<u8> {
    #[derive(Serialize)]
    struct RecordWritten<'a> {
        entry: &'static str,
        uid: &'a Uid,
        held: &'a Held,
    }
    serde_json::to_vec(&RecordWritten { entry: "record", uid, held }).expect("maps with text for keys become JSON")
}
