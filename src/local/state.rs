//! The contents of the local store: the log's index, the overlay of what is newer, and how both come from a log.
//!
//! No await in here: whoever holds the lock on it changes it at once, for every reader.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    num::NonZeroU64,
    ops::Bound,
    path::Path,
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::{
    Ticket,
    bounds::Usage,
    compaction::{self, Rewritten},
    contents::mark_all,
    held::{Held, Weight},
    held_text::HeldText,
    note::{Extent, Note},
    opening::Exposed,
    storage::{Location, Log, Seed},
};
use crate::{
    env::{Disk, DiskFile, Env},
    error::StoreError,
    key::{Prefix, Uid},
    recent::Recent,
    stamp::Head,
};

/// The name of the log in its directory.
pub(super) const LOG: &str = "store.log";

pub(super) type FileOf<E> = <<E as Env>::Disk as Disk>::File;
pub(super) type LockOf<E> = <FileOf<E> as DiskFile>::Lock;

/// What is held, in memory and on disk.
pub(super) struct State<E: Env> {
    pub(super) log: Arc<Log<FileOf<E>>>,
    /// While slots move from a log that was rewritten: the one before, which those of another epoch are in.
    pub(super) log_before: Option<Arc<Log<FileOf<E>>>>,
    pub(super) epoch: bool,
    pub(super) index: BTreeMap<Uid, Slot>,
    pub(super) overlay: BTreeMap<Uid, Unflushed>,
    /// What some slots lead to.
    recent: Recent<Held>,
    /// Entries other than records that are not on disk yet.
    pub(super) unflushed: Vec<Entry>,
    pub(super) pending: BTreeSet<Uid>,
    /// Since when there has always been something pending, by the wall clock; at opening, the oldest pending write.
    pub(super) pending_since_ms: Option<u64>,
    pub(super) ceiling: Head,
    pub(super) generation: Option<String>,
    /// How the clocks here compare with Redis's (L3).
    pub(super) clocks: Clocks,
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
    pub(super) phase: Phase,
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
pub(super) enum Phase {
    Open,
    /// What is not on disk yet is still written.
    Closing,
    /// The flusher has ended: nothing reaches the disk any more.
    Ended,
}

#[derive(Clone, Copy)]
pub(super) struct Slot {
    pub(super) location: Location,
    /// See [`Held::weight`].
    pub(super) weight: Weight,
    pub(super) epoch: bool,
    /// Whether `seen_ms` is a reply of Redis that covered all of the record.
    whole: bool,
    /// See [`Held::alive_until_ms`].
    pub(super) alive_until_ms: u64,
    /// When the cell that was confirmed longest ago was (R9); the end of time if there is none.
    pub(super) oldest_confirmed_ms: u64,
    /// When Redis last confirmed anything of it. Kept in memory between the notes on disk.
    pub(super) seen_ms: u64,
    /// R6: set by a generation that is newer than the entry; applied when the entry is read.
    pub(super) reclaim_since_ms: Option<NonZeroU64>,
}

pub(super) struct Unflushed {
    pub(super) held: Arc<Held>,
    pub(super) version: u64,
    weight: Weight,
    /// As in [`Slot`].
    seen_ms: u64,
    whole: bool,
}

/// An entry of the log.
#[derive(Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "snake_case")]
pub(super) enum Entry {
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

/// How clocks of caches that were opened on this store compare with Redis's.
#[derive(Clone, Debug, Default)]
pub(super) struct Clocks {
    /// By how much the wall clock was behind at the last first contact, in milliseconds.
    pub(super) offset_ms: i64,
    /// Of the last caches that met Redis, oldest first: by how much the clock of each was behind before.
    contacts: VecDeque<(u64, i64)>,
}

impl Clocks {
    /// More are not kept: what was written before a contact is sent soon after it.
    const CONTACTS_MAX: usize = 16;

    pub(super) fn met(&mut self, clock: u64, shift_ms: i64, offset_ms: i64) {
        self.offset_ms = offset_ms;
        if self.contacts.len() == Self::CONTACTS_MAX {
            self.contacts.pop_front();
        }
        self.contacts.push_back((clock, shift_ms));
    }

    /// By how much each was behind.
    pub(super) fn shifts(&self) -> BTreeMap<u64, i64> {
        self.contacts.iter().copied().collect()
    }

    fn entries(&self) -> impl Iterator<Item = Entry> {
        let offset_ms = self.offset_ms;
        self.contacts.iter().map(move |&(clock, shift_ms)| Entry::Contact { clock, shift_ms, offset_ms })
    }
}

/// What is not on disk yet.
pub(super) struct Batch<E: Env> {
    pub(super) log: Arc<Log<FileOf<E>>>,
    pub(super) entries: Vec<Entry>,
    pub(super) records: Vec<(Uid, Arc<Held>)>,
    pub(super) version: u64,
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

impl<E: Env> State<E> {
    pub(super) fn empty(log: Log<FileOf<E>>, note: Note<FileOf<E>>, locks: Locks<E>) -> Self {
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
            ceiling: Head::default(),
            generation: None,
            clocks: Clocks::default(),
            generation_ticket: Ticket::default(),
            version: 0,
            flushed: 0,
            wanted: 0,
            failed: None,
            poisoned: None,
            postponed: None,
            phase: Phase::Open,
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
        slots.take(compaction::PAGE).map(|(uid, slot)| (uid.clone(), *slot)).collect()
    }

    /// From here on the slots are in the log before, until they are relocated.
    pub(super) fn switch(&mut self, rewritten: &Rewritten<E>) {
        self.log_before = Some(std::mem::replace(&mut self.log, rewritten.log.clone()));
        if let Some(locks) = &mut self.locks {
            locks.log = rewritten.lock.clone();
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
        self.push(Entry::Redis { url: url.to_owned() })
    }

    /// Whether somebody waits for something that is not on disk yet.
    pub(super) fn is_wanted(&self) -> bool {
        self.wanted > self.flushed
    }

    /// What was written to the old log while it was rewritten, for the new one: entries, and records to copy.
    pub(super) fn meanwhile(&mut self, prefix: &Prefix) -> (Vec<Entry>, Vec<(Uid, Slot)>) {
        let mut entries = self.head(prefix).split_off(1);
        let mut records = Vec::new();
        for uid in self.moved_since.take().unwrap_or_default() {
            match self.index.get(&uid) {
                Some(slot) => records.push((uid, *slot)),
                None => entries.push(Entry::Forget { uid }),
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

    pub(super) fn push(&mut self, entry: Entry) -> Ticket {
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
    pub(super) fn head(&self, prefix: &Prefix) -> Vec<Entry> {
        let generation = self.generation.clone();
        // The records are written after it as they are, marks applied: it must mark nothing again.
        let generation = generation.map(|generation| Entry::Generation { generation, reclaim_since_ms: u64::MAX });
        [Entry::Prefix { prefix: prefix.as_str().to_owned() }, Entry::Ceiling { head: self.ceiling.0 }]
            .into_iter()
            .chain(self.redis.clone().map(|url| Entry::Redis { url }))
            .chain(generation)
            .chain(self.clocks.entries())
            .chain(self.forgot.then_some(Entry::Forgot))
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
        Batch { log: self.log.clone(), entries: vec![Entry::Closed], records: Vec::new(), version: self.flushed }
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
    pub(super) fn unsettle(&mut self, mut entries: Vec<Entry>, version: u64, error: StoreError) {
        entries.append(&mut self.unflushed);
        self.unflushed = entries;
        self.failed = Some((version, error));
    }
}

/// What the checksums of a prefix's log start from.
pub(super) fn seed(prefix: &Prefix) -> Seed {
    Seed(crc32fast::hash(prefix.as_str().as_bytes()))
}

pub(super) fn encode(entries: &[Entry]) -> Vec<Vec<u8>> {
    entries.iter().map(|entry| serde_json::to_vec(entry).expect("maps with text for keys become JSON")).collect()
}

/// Decodes an entry; `None` if it is malformed. To tell entries apart by a member, serde first copies all members into a buffer.
/// Records, which are most of a log and can be large, are decoded without that.
pub(super) fn decode(payload: &[u8]) -> Option<Entry> {
    #[derive(Deserialize)]
    struct Record {
        uid: Uid,
        held: HeldText,
    }
    if !payload.starts_with(RECORD_BEGINS) {
        return serde_json::from_slice(payload).ok();
    }
    let Record { uid, held } = serde_json::from_slice(payload).ok()?;
    Some(Entry::Record { uid, held })
}

/// Whether it is an entry of this record, as [`encode_record`] writes it: it may be copied as it is.
pub(super) fn is_record(payload: &[u8], uid: &Uid) -> bool {
    let uid = serde_json::to_vec(uid).expect("a text becomes JSON");
    let behind = payload.strip_prefix(RECORD_BEGINS).and_then(|payload| payload.strip_prefix(uid.as_slice()));
    behind.is_some_and(|payload| payload.starts_with(br#","held":"#))
}

/// An entry [`Entry::Record`].
pub(super) fn encode_record(uid: &Uid, held: &Held) -> Vec<u8> {
    #[derive(Serialize)]
    struct Record<'a> {
        entry: &'static str,
        uid: &'a Uid,
        held: &'a Held,
    }
    serde_json::to_vec(&Record { entry: "record", uid, held }).expect("maps with text for keys become JSON")
}

/// Reads a record of the index. What verifies and is not that record is as good as damaged.
pub(super) fn read_record<F: DiskFile>(log: &Log<F>, uid: &Uid, slot: Slot) -> Result<Held, StoreError> {
    let payload = log.read(slot.location)?;
    let held = match decode(&payload) {
        Some(Entry::Record { uid: found, held }) if found == *uid => Held::try_from(held).ok(),
        Some(_) | None => None,
    };
    let mut held = held.ok_or_else(|| log.damaged(slot.location))?;
    if let Some(since_ms) = slot.reclaim_since_ms {
        held.reclaim_all(since_ms.get());
    }
    Ok(held)
}
