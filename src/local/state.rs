//! The contents of the local store: the log's index, the overlay of what is newer, and how both come from a log.
//!
//! No await in here: whoever holds the lock on it changes it at once, for every reader.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    path::Path,
    sync::Arc,
};

use super::{
    Ticket,
    clocks::ClockOffsets,
    entry::LogEntry,
    exposed::Exposed,
    format::Location,
    held::{Held, Weight},
    note::{Extent, Note},
    slot::{Slot, mark_all, read_record},
    storage::LogFile,
    usage::Usage,
};
use crate::{
    env::{Disk, DiskFile, Env},
    error::StoreError,
    key::{Prefix, Uid},
    recent::Recent,
    stamp::StampHead,
};

/// Records copied, or relocated, at a time: about a millisecond of work.
pub(super) const PAGE: usize = 512;

pub(super) type FileOf<E> = <<E as Env>::Disk as Disk>::File;
pub(super) type LockOf<E> = <FileOf<E> as DiskFile>::Lock;

/// What is held, in memory and on disk.
pub(super) struct StoreState<E: Env> {
    pub(super) log: Arc<LogFile<FileOf<E>>>,
    /// While slots move from a log that was rewritten: the one before, which those of another epoch are in.
    pub(super) log_before: Option<Arc<LogFile<FileOf<E>>>>,
    pub(super) epoch: bool,
    pub(super) index: BTreeMap<Uid, Slot>,
    pub(super) overlay: BTreeMap<Uid, Unflushed>,
    /// What some slots lead to.
    recent: Recent<Held>,
    /// Entries other than records that are not on disk yet.
    pub(super) unflushed: Vec<LogEntry>,
    pub(super) pending: BTreeSet<Uid>,
    /// Since when there has always been something pending, by the wall clock; at opening, the oldest pending write.
    pub(super) pending_since_ms: Option<u64>,
    pub(super) ceiling: StampHead,
    pub(super) generation: Option<String>,
    /// How the clocks here compare with Redis's (L3).
    pub(super) clocks: ClockOffsets,
    /// When the generation is durable.
    pub(super) generation_ticket: Ticket,
    pub(super) version: u64,
    pub(super) flushed: u64,
    pub(super) wanted: u64,
    /// The last attempt to write failed and left the log as it was: up to which version, and why.
    pub(super) failed: Option<(u64, StoreError)>,
    pub(super) poisoned: Option<StoreError>,
    /// Why the log was not rewritten when it was due.
    pub(super) postponed: Option<String>,
    pub(super) phase: StorePhase,
    /// The log is not rewritten below this length: the last attempt failed.
    pub(super) compact_above: u64,
    /// Records written to the log while it is rewritten.
    pub(super) moved_since: Option<BTreeSet<Uid>>,
    pub(super) usage: Usage,
    /// Something was forgotten, ever: what is not held may have been.
    pub(super) forgot: bool,
    /// Where the search for copies to forget goes on.
    pub(super) hand: Option<Uid>,
    /// Endpoint and database of the Redis whose data is held.
    pub(super) redis: Option<String>,
    /// What is remembered beside the log.
    pub(super) note: Arc<Note<FileOf<E>>>,
    /// What others than the owner may use, as of opening.
    pub(super) exposed: Vec<Exposed>,
    /// Until the store has closed.
    pub(super) locks: Option<Locks<E>>,
}

/// What keeps others out: the lock of the directory, and that of the log, wherever its name is.
pub(super) struct Locks<E: Env> {
    dir: Arc<LockOf<E>>,
    pub(super) log: Arc<LockOf<E>>,
}

impl<E: Env> Locks<E> {
    pub(super) fn new(dir: LockOf<E>, log: LockOf<E>) -> Self {
        Self { dir: Arc::new(dir), log: Arc::new(log) }
    }
}

impl<E: Env> Clone for Locks<E> {
    fn clone(&self) -> Self {
        Self { dir: self.dir.clone(), log: self.log.clone() }
    }
}

/// How far the store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StorePhase {
    Open,
    /// What is not on disk yet is still written.
    Closing,
    /// The flusher has ended: nothing reaches the disk any more.
    Ended,
}

pub(super) struct Unflushed {
    pub(super) held: Arc<Held>,
    pub(super) version: u64,
    weight: Weight,
    /// As in [`Slot`].
    seen_ms: u64,
    whole: bool,
}

/// What is not on disk yet.
pub(super) struct Batch<E: Env> {
    pub(super) log: Arc<LogFile<FileOf<E>>>,
    pub(super) entries: Vec<LogEntry>,
    pub(super) records: Vec<(Uid, Arc<Held>)>,
    pub(super) version: u64,
}

impl<E: Env> StoreState<E> {
    pub(super) fn empty(log: LogFile<FileOf<E>>, note: Note<FileOf<E>>, locks: Locks<E>) -> Self {
        Self {
            log: Arc::new(log),
            log_before: None,
            epoch: false,
            index: BTreeMap::new(),
            overlay: BTreeMap::new(),
            recent: Recent::default(),
            unflushed: Vec::new(),
            pending: BTreeSet::new(),
            pending_since_ms: None,
            ceiling: StampHead::default(),
            generation: None,
            clocks: ClockOffsets::default(),
            generation_ticket: Ticket::default(),
            version: 0,
            flushed: 0,
            wanted: 0,
            failed: None,
            poisoned: None,
            postponed: None,
            phase: StorePhase::Open,
            compact_above: 0,
            moved_since: None,
            usage: Usage::default(),
            forgot: false,
            hand: None,
            redis: None,
            note: Arc::new(note),
            exposed: Vec::new(),
            locks: Some(locks),
        }
    }

    /// The next slots to be copied to another log, in order, after `after`.
    pub(super) fn page(&self, after: Option<&Uid>) -> Vec<(Uid, Slot)> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let slots = self.index.range::<Uid, _>((start, Bound::Unbounded));
        slots.take(PAGE).map(|(uid, slot)| (uid.clone(), *slot)).collect()
    }

    /// Goes on with a rewritten log. The slots are in the log before, until they are relocated.
    pub(super) fn switch(&mut self, log: Arc<LogFile<FileOf<E>>>, lock: Arc<LockOf<E>>) {
        self.log_before = Some(std::mem::replace(&mut self.log, log));
        if let Some(locks) = &mut self.locks {
            locks.log = lock;
        }
        self.note.keep_extent(self.extent());
        self.epoch = !self.epoch;
        self.usage.live_bytes = 0;
    }

    /// The record is in the new log.
    pub(super) fn relocate(&mut self, uid: &Uid, location: Location) {
        if let Some(slot) = self.index.get_mut(uid) {
            if slot.epoch == self.epoch {
                // Copied twice: it was written again meanwhile.
                self.usage.live_bytes -= slot.location.bytes();
            }
            (slot.location, slot.epoch) = (location, self.epoch);
            self.usage.live_bytes += location.bytes();
        }
    }

    /// All slots are in the new log, but for the damaged ones.
    pub(super) fn switched(&mut self, damaged: Vec<Uid>) {
        self.log_before = None;
        for uid in damaged {
            if self.index.get(&uid).is_some_and(|slot| slot.epoch != self.epoch) {
                self.lose(&uid);
            }
        }
    }

    /// An attempt to rewrite the log failed. A disk in trouble should not be tried again at every write.
    pub(super) fn put_off(&mut self, error: &StoreError) {
        self.compact_above = self.log.len() * 2;
        if let StoreError::DiskFull { .. } = error {
            self.postponed = Some(format!("the log is not rewritten: {error}"));
        }
    }

    /// How long the log is.
    pub(super) fn extent(&self) -> Extent {
        Extent { number: self.log.id.number, len: self.log.len() }
    }

    /// From here on the store is for this Redis.
    pub(super) fn take_redis(&mut self, url: &str) -> Ticket {
        self.redis = Some(url.to_owned());
        self.push(LogEntry::Redis { url: url.to_owned() })
    }

    /// Whether somebody waits for something that is not on disk yet.
    pub(super) fn is_wanted(&self) -> bool {
        self.wanted > self.flushed
    }

    /// What was written to the old log while it was rewritten, for the new one: entries, and records to copy.
    pub(super) fn meanwhile(&mut self, prefix: &Prefix) -> (Vec<LogEntry>, Vec<(Uid, Slot)>) {
        let mut entries = self.head(prefix).split_off(1);
        let mut records = Vec::new();
        for uid in self.moved_since.take().unwrap_or_default() {
            match self.index.get(&uid) {
                Some(slot) => records.push((uid, *slot)),
                None => entries.push(LogEntry::Forget { uid }),
            }
        }
        (entries, records)
    }

    pub(super) fn check(&self, dir: &Path) -> Result<(), StoreError> {
        match &self.poisoned {
            Some(gone @ (StoreError::Displaced { .. } | StoreError::Taken { .. })) => Err(gone.clone()),
            Some(cause) => Err(StoreError::Poisoned { dir: dir.to_owned(), cause: cause.to_string() }),
            None => Ok(()),
        }
    }

    pub(super) fn held(&mut self, uid: &Uid) -> Result<Option<Arc<Held>>, StoreError> {
        if let Some(unflushed) = self.overlay.get(uid) {
            return Ok(Some(unflushed.held.clone()));
        }
        if let Some(held) = self.recent.get(uid) {
            return Ok(Some(held));
        }
        let Some(slot) = self.index.get(uid).copied() else { return Ok(None) };
        let log = if slot.epoch == self.epoch { &self.log } else { self.log_before.as_ref().unwrap_or(&self.log) };
        match read_record(log, uid, slot) {
            Ok(held) => {
                // A generation change marks every record; whether this one has anything young enough shows only here.
                if !held.is_pending() {
                    self.note_pending(uid, false, 0);
                }
                let held = Arc::new(held);
                self.recent.insert(uid, slot.location.len as usize, held.clone());
                Ok(Some(held))
            }
            Err(StoreError::Damaged { .. }) => {
                // Never served. Redis, if it has it, gives it back at the next read.
                self.lose(uid);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// A record turned out to be damaged.
    fn lose(&mut self, uid: &Uid) {
        self.remove_slot(uid);
        self.usage.damaged += 1;
        if !self.overlay.contains_key(uid) {
            self.note_pending(uid, false, 0);
        }
    }

    pub(super) fn remove_slot(&mut self, uid: &Uid) {
        if let Some(slot) = self.index.remove(uid) {
            self.recent.remove(uid);
            if !self.overlay.contains_key(uid) {
                self.usage.subtract(slot.weight);
            }
            self.usage.live_bytes = self.usage.live_bytes.saturating_sub(slot.location.bytes());
        }
    }

    /// Bytes of what is held of a record.
    pub(super) fn weight(&self, uid: &Uid) -> Option<Weight> {
        let unflushed = self.overlay.get(uid).map(|unflushed| unflushed.weight);
        unflushed.or_else(|| self.index.get(uid).map(|slot| slot.weight))
    }

    pub(super) fn put(&mut self, uid: &Uid, held: Arc<Held>, now_ms: u64) -> Ticket {
        self.version += 1;
        if let Some(before) = self.weight(uid) {
            self.usage.subtract(before);
        }
        let weight = held.weight();
        self.usage.add(weight);
        self.note_pending(uid, held.is_pending(), now_ms);
        let seen_ms = held.newest_confirmed_ms();
        self.overlay.insert(uid.clone(), Unflushed { held, version: self.version, weight, seen_ms, whole: false });
        Ticket(self.version)
    }

    /// A reply of Redis to a request sent then covered all that is held of the record.
    pub(super) fn saw_whole(&mut self, uid: &Uid, sent_at_ms: u64) {
        if let Some(unflushed) = self.overlay.get_mut(uid) {
            (unflushed.seen_ms, unflushed.whole) = (unflushed.seen_ms.max(sent_at_ms), true);
        } else if let Some(slot) = self.index.get_mut(uid) {
            (slot.seen_ms, slot.whole) = (slot.seen_ms.max(sent_at_ms), true);
        }
    }

    /// When a reply of Redis last covered all that is held of the record, if that is known beyond its notes.
    pub(super) fn seen_whole_ms(&self, uid: &Uid) -> Option<u64> {
        match (self.overlay.get(uid), self.index.get(uid)) {
            (Some(unflushed), _) => unflushed.whole.then_some(unflushed.seen_ms),
            (None, Some(slot)) => slot.whole.then_some(slot.seen_ms),
            (None, None) => None,
        }
    }

    pub(super) fn push(&mut self, entry: LogEntry) -> Ticket {
        self.version += 1;
        self.unflushed.push(entry);
        Ticket(self.version)
    }

    fn note_pending(&mut self, uid: &Uid, pending: bool, now_ms: u64) {
        if !pending {
            self.pending.remove(uid);
        } else if !self.pending.contains(uid) {
            self.pending.insert(uid.clone());
            self.pending_since_ms.get_or_insert(now_ms);
        }
        if self.pending.is_empty() {
            self.pending_since_ms = None;
        }
    }

    pub(super) fn change_generation(&mut self, generation: &str, reclaim_since_ms: u64, now_ms: u64) {
        self.generation = Some(generation.to_owned());
        self.recent.clear();
        // Perhaps it has nothing young enough: its next reader finds out.
        mark_all(&mut self.index, &mut self.pending, reclaim_since_ms);
        if !self.pending.is_empty() {
            self.pending_since_ms.get_or_insert(now_ms);
        }
    }

    pub(super) fn reclaim_overlay(&mut self, reclaim_since_ms: u64, now_ms: u64) {
        let unflushed: Vec<_> =
            self.overlay.iter().map(|(uid, unflushed)| (uid.clone(), unflushed.held.clone())).collect();
        for (uid, held) in unflushed {
            let mut held = (*held).clone();
            held.reclaim_all(reclaim_since_ms);
            self.put(&uid, Arc::new(held), now_ms);
        }
    }

    /// The entries that a log begins with.
    pub(super) fn head(&self, prefix: &Prefix) -> Vec<LogEntry> {
        let generation = self.generation.clone();
        // The records are written after it as they are, marks applied: it must mark nothing again.
        let generation = generation.map(|generation| LogEntry::Generation { generation, reclaim_since_ms: u64::MAX });
        [LogEntry::Prefix { prefix: prefix.as_str().to_owned() }, LogEntry::Ceiling { head: self.ceiling.0 }]
            .into_iter()
            .chain(self.redis.clone().map(|url| LogEntry::Redis { url }))
            .chain(generation)
            .chain(self.clocks.entries())
            .chain(self.forgot.then_some(LogEntry::Forgot))
            .collect()
    }

    /// What is not on disk yet: entries in the order to be written, then the records.
    pub(super) fn batch(&mut self) -> Batch<E> {
        Batch {
            log: self.log.clone(),
            entries: std::mem::take(&mut self.unflushed),
            records: self.overlay.iter().map(|(uid, unflushed)| (uid.clone(), unflushed.held.clone())).collect(),
            version: self.version,
        }
    }

    /// The end of a log with everything on disk.
    pub(super) fn closed(&self) -> Batch<E> {
        Batch { log: self.log.clone(), entries: vec![LogEntry::Closed], records: Vec::new(), version: self.flushed }
    }

    /// The batch is on disk.
    pub(super) fn settle(&mut self, locations: &[Location], records: Vec<(Uid, Arc<Held>)>, version: u64) {
        (self.flushed, self.failed) = (version, None);
        let at = &locations[locations.len() - records.len()..];
        for ((uid, held), location) in records.into_iter().zip(at) {
            if let Some(before) = self.index.get(&uid) {
                self.usage.live_bytes = self.usage.live_bytes.saturating_sub(before.location.bytes());
            }
            self.usage.live_bytes += location.bytes();
            let mut slot = Slot::of(*location, self.epoch, &held);
            if let Some(unflushed) = self.overlay.get(&uid) {
                (slot.seen_ms, slot.whole) = (unflushed.seen_ms, unflushed.whole);
                // Updated while it was written: the overlay stays, and stays in front of this slot.
                if unflushed.version <= version {
                    self.overlay.remove(&uid);
                }
            }
            if let Some(moved) = &mut self.moved_since {
                moved.insert(uid.clone());
            }
            self.recent.insert(&uid, location.len as usize, held);
            self.index.insert(uid, slot);
        }
    }

    /// The batch could not be written; the log is as it was, and the batch is as good as new.
    pub(super) fn unsettle(&mut self, mut entries: Vec<LogEntry>, version: u64, error: StoreError) {
        entries.append(&mut self.unflushed);
        self.unflushed = entries;
        self.failed = Some((version, error));
    }
}
