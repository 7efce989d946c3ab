//! Where the index finds a record in the log, and what it knows of the record without reading it.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU64,
};

use super::{
    entry::{LogEntry, decode},
    format::Location,
    held::{Held, Weight},
    storage::LogFile,
};
use crate::{env::DiskFile, error::StoreError, key::Uid};

#[derive(Clone, Copy)]
pub(super) struct Slot {
    pub(super) location: Location,
    /// See [`Held::weight`].
    pub(super) weight: Weight,
    pub(super) epoch: bool,
    /// Whether `seen_ms` is a reply of Redis that covered all of the record.
    pub(super) whole: bool,
    /// See [`Held::alive_until_ms`].
    pub(super) alive_until_ms: u64,
    /// When the cell that was confirmed longest ago was (R9); the end of time if there is none.
    pub(super) oldest_confirmed_ms: u64,
    /// When Redis last confirmed anything of it. Kept in memory between the notes on disk.
    pub(super) seen_ms: u64,
    /// R6: set by a generation that is newer than the entry; applied when the entry is read.
    pub(super) reclaim_since_ms: Option<NonZeroU64>,
}

impl Slot {
    pub(super) fn of(location: Location, epoch: bool, held: &Held) -> Self {
        Self {
            location,
            weight: held.weight(),
            epoch,
            whole: false,
            alive_until_ms: held.alive_until_ms(),
            oldest_confirmed_ms: held.oldest_confirmed_ms().unwrap_or(u64::MAX),
            seen_ms: held.newest_confirmed_ms(),
            reclaim_since_ms: None,
        }
    }
}

/// R6: a new generation marks every record on disk.
pub(super) fn mark_all(index: &mut BTreeMap<Uid, Slot>, pending: &mut BTreeSet<Uid>, reclaim_since_ms: u64) {
    if reclaim_since_ms == u64::MAX {
        // Nothing is that young: the head of a rewritten log, or losses are to be accepted.
        return;
    }
    for (uid, slot) in index {
        slot.reclaim_since_ms = NonZeroU64::new(reclaim_since_ms.max(1));
        pending.insert(uid.clone());
    }
}

/// Reads a record of the index. What verifies and is not that record is as good as damaged.
pub(super) fn read_record<F: DiskFile>(log: &LogFile<F>, uid: &Uid, slot: Slot) -> Result<Held, StoreError> {
    let payload = log.read(slot.location)?;
    let held = match decode(&payload) {
        Some(LogEntry::Record { uid: found, held }) if found == *uid => Held::try_from(held).ok(),
        Some(_) | None => None,
    };
    let mut held = held.ok_or_else(|| log.damaged(slot.location))?;
    if let Some(since_ms) = slot.reclaim_since_ms {
        held.reclaim_all(since_ms.get());
    }
    Ok(held)
}
