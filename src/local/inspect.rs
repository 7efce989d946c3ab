//! What the file of a local store holds, for an operator: read without a lock, and without changing anything.
//!
//! That is safe beside a running application: a log only grows, a rewritten one is another file, and what is being
//! appended while it is read through looks like a torn tail.

use std::{fmt, path::Path};

use super::{
    contents::Contents,
    entry::{LogEntry, seed},
    format::{self, ChecksumSeed, ENTRY_HEADER_LEN, HEADER_LEN},
    note::Remembered,
    scan::Damage,
    slot::read_record,
    storage::LogFile,
};
use crate::{
    contact::Timestamp,
    env::DiskFile,
    error::StoreError,
    key::{Prefix, Uid},
    limits::bytes_of,
    record::{Cell, CellName, shown_field},
    stamp::Stamp,
};

/// What the file of a store holds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Inspection {
    /// Whose store it is; none if its first entry cannot be read.
    pub prefix: Option<String>,
    /// The version of the file format.
    pub format: u32,
    /// Bytes up to the end of the last good entry.
    pub bytes: u64,
    /// Endpoint and database of the Redis that it is for; none if no version wrote that yet.
    pub redis: Option<String>,
    /// The generation of Redis's data that the copies were confirmed in.
    pub generation: Option<String>,
    /// The clock's ceiling, in milliseconds since the Unix epoch: no stamp at or above it was issued.
    pub ceiling_ms: u64,
    /// Records held, pending ones among them. Expired ones count, removed ones do not.
    pub records: u64,
    /// Removed records of which the removal is remembered.
    pub removed: u64,
    /// Whether copies were forgotten to keep within the limit.
    pub forgot: bool,
    /// Whether the last entry says that the store was closed in order, and nothing stands behind it. Not while an
    /// application runs.
    pub clean_end: bool,
    /// What was wrong with it.
    pub damage: Damage,
    /// The records with something that Redis does not have yet, in order.
    pub pending: Vec<PendingRecord>,
}

/// What Redis does not have yet of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingRecord {
    /// The record.
    pub uid: Uid,
    /// About how many bytes Redis is sent of it.
    pub bytes: u64,
    /// Its pending cells; none if only its times are pending.
    pub cells: Vec<PendingCell>,
    /// When the record was first written.
    pub first_revealed_at: Option<Timestamp>,
    /// When the record was last written.
    pub last_updated_at: Option<Timestamp>,
}

/// A cell, by the field of the Redis hash that it would be merged into.
#[derive(Clone, PartialEq, Eq)]
pub struct PendingCell {
    /// `e` existence, `d` removal of the record, `c["type","value"]` a contact point, `p<name>` a profile field,
    /// `m<name>` a metadata field.
    pub field: String,
    /// When it was written, in the order of all writes.
    pub stamp: Stamp,
    /// Its value; none if the field was removed.
    pub value: Option<String>,
}

/// Without the contact's data: what is printed for debugging ends up in logs.
impl fmt::Debug for PendingCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, stamp, value } = self;
        write!(f, "{} {stamp} ({} bytes)", shown_field(field), value.as_ref().map_or(0, String::len))
    }
}

/// Reads the log of a local store through, a running one, a closed one, or one that was set aside as damaged.
///
/// Entries other than the first verify only under the prefix that wrote them. It stands in the first; `prefix` is used
/// if that cannot be read.
///
/// # Errors
/// The file cannot be read, or has a format that this version does not know.
pub fn inspect<F: DiskFile>(file: F, path: &Path, prefix: Option<&Prefix>) -> Result<Inspection, StoreError> {
    inspect_with_lock(file, path, prefix, None)
}

/// As [`inspect`], of a log beside its lock file, which remembers how long the log is: one that was cut shows as damage.
///
/// # Errors
/// As for [`inspect`].
pub fn inspect_with_lock<F: DiskFile>(
    file: F,
    path: &Path,
    prefix: Option<&Prefix>,
    lock: Option<&F>,
) -> Result<Inspection, StoreError> {
    // Before the log, which may be growing.
    let remembered =
        lock.map(Remembered::read).transpose().map_err(StoreError::io("read the lock file beside", path))?;
    let found = prefix_of(&file, path)?;
    let seed = found.as_ref().or(prefix).map_or(ChecksumSeed(0), seed);
    let (log, mut contents, scan) = LogFile::read_through::<Contents>(file, path, seed)?;
    let mut damage = scan.damage;
    let clean_end = contents.is_clean_end(&damage);
    damage.unreadable.append(&mut contents.unreadable);
    let reached = remembered.filter(|remembered| !remembered.is_copy).and_then(|remembered| remembered.extent);
    damage.note_cut(log.len(), reached.filter(|extent| extent.number == log.id.number));
    let mut pending = Vec::new();
    for uid in &contents.pending {
        let held = read_record(&log, uid, contents.index[uid])?;
        // A generation change marks every record; whether this one has anything young enough shows only here.
        if !held.is_pending() {
            continue;
        }
        let sent = held.to_send(0);
        let cell = |(name, cell): (&CellName, &Cell)| PendingCell {
            field: name.field().to_owned(),
            stamp: cell.stamp,
            value: cell.value.as_deref().map(str::to_owned),
        };
        pending.push(PendingRecord {
            uid: uid.clone(),
            bytes: sent.iter().map(|sent| bytes_of(&sent.record)).sum(),
            cells: sent.iter().flat_map(|sent| sent.record.cells()).map(cell).collect(),
            first_revealed_at: held.record().times.first,
            last_updated_at: held.record().times.last,
        });
    }
    let records = contents.index.values().filter(|slot| slot.alive_until_ms > 0).count() as u64;
    Ok(Inspection {
        prefix: contents.prefix,
        format: scan.format,
        bytes: log.len(),
        redis: contents.redis,
        generation: contents.generation,
        ceiling_ms: contents.ceiling.millis(),
        records,
        removed: contents.index.len() as u64 - records,
        forgot: contents.forgot,
        clean_end,
        damage,
        pending,
    })
}

/// The prefix in the first entry, which verifies under any; none if it cannot be read.
fn prefix_of<F: DiskFile>(file: &F, path: &Path) -> Result<Option<Prefix>, StoreError> {
    /// Every byte of the longest prefix may be escaped, as `\\u0000`.
    const FIRST_ENTRY_MAX: usize = HEADER_LEN + ENTRY_HEADER_LEN + 64 + 6 * crate::key::PREFIX_BYTES_MAX;
    let len = file.len().map_err(StoreError::io("measure", path))?;
    let mut bytes = vec![0; usize::try_from(len).map_or(FIRST_ENTRY_MAX, |len| len.min(FIRST_ENTRY_MAX))];
    file.read_at(0, &mut bytes).map_err(StoreError::io("read", path))?;
    let first = bytes.get(HEADER_LEN..).and_then(|entries| format::entry(entries, ChecksumSeed(0)));
    let first =
        first.filter(|entry| entry.number.in_log() == 0).and_then(|entry| serde_json::from_slice(entry.payload).ok());
    Ok(match first {
        Some(LogEntry::Prefix { prefix }) => prefix.parse().ok(),
        Some(_) | None => None,
    })
}
