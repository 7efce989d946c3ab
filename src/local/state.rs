//! The contents of the local store: the log's index, the overlay of what is newer, and how both come from a log.
//!
//! No await in here: whoever holds the lock on it changes it at once, for every reader.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::{
    OpenReport, Ticket,
    held::{Held, HeldText},
    storage::{self, Damage, Location, Log},
};
use crate::{
    env::{Disk, DiskFile, Env},
    error::StoreError,
    key::{Prefix, Uid},
    record::NotARecord,
    stamp::Head,
};

/// The name of the log in its directory.
pub(super) const LOG: &str = "store.log";
const LOCK: &str = "lock";

pub(super) type FileOf<E> = <<E as Env>::Disk as Disk>::File;

/// What is held, in memory and on disk.
pub(super) struct State<E: Env> {
    pub(super) log: Arc<Log<FileOf<E>>>,
    pub(super) index: BTreeMap<Uid, Slot>,
    pub(super) overlay: BTreeMap<Uid, Unflushed>,
    /// Entries other than records that are not on disk yet.
    pub(super) unflushed: Vec<Entry>,
    pub(super) pending: BTreeSet<Uid>,
    pub(super) ceiling: Head,
    pub(super) generation: Option<String>,
    /// When the generation is durable.
    pub(super) generation_ticket: Ticket,
    pub(super) version: u64,
    pub(super) flushed: u64,
    pub(super) wanted: u64,
    pub(super) poisoned: Option<String>,
    pub(super) closing: bool,
    /// The flusher has ended: nothing reaches the disk any more.
    pub(super) ended: bool,
    /// The log is not rewritten below this length: the last attempt failed.
    pub(super) compact_above: u64,
    /// Records found damaged since opening.
    pub(super) damaged: u64,
    /// The directory's lock, until the store has closed.
    pub(super) lock: Option<Arc<<E::Disk as Disk>::Lock>>,
}

#[derive(Clone, Copy)]
pub(super) struct Slot {
    pub(super) location: Location,
    /// See [`Record::alive_until_ms`](crate::record::Record::alive_until_ms).
    pub(super) alive_until_ms: u64,
    /// When the cell that was confirmed longest ago was (R9).
    pub(super) oldest_confirmed_ms: Option<u64>,
    /// R6: set by a generation that is newer than the entry; applied when the entry is read.
    pub(super) reclaim_since_ms: Option<u64>,
}

pub(super) struct Unflushed {
    pub(super) held: Arc<Held>,
    pub(super) version: u64,
}

/// An entry of the log.
#[derive(Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "snake_case")]
pub(super) enum Entry {
    /// Always the first: whose store this is.
    Prefix { prefix: String },
    /// The clock's ceiling (R4).
    Ceiling { head: u64 },
    /// Redis's generation; every record before it was marked pending if confirmed since (R6). One entry, however many
    /// records, makes the change one durable commit.
    Generation { generation: String, reclaim_since_ms: u64 },
    /// A record, whole.
    Record { uid: Uid, held: HeldText },
}

impl Slot {
    fn of(location: Location, held: &Held) -> Self {
        let alive_until_ms = held.record.alive_until_ms();
        Self { location, alive_until_ms, oldest_confirmed_ms: held.oldest_confirmed_ms(), reclaim_since_ms: None }
    }
}

impl<E: Env> State<E> {
    pub(super) fn open(disk: &E::Disk, dir: &Path, prefix: &Prefix) -> Result<(Self, OpenReport), StoreError> {
        disk.create_dir_all(dir).map_err(StoreError::io("create the directory", dir))?;
        let lock = disk.lock(&dir.join(LOCK)).map_err(|error| match error.kind() {
            std::io::ErrorKind::WouldBlock => StoreError::Locked { dir: dir.to_owned() },
            _ => StoreError::io("lock", dir.join(LOCK))(error),
        })?;
        let path = dir.join(LOG);
        let names = disk.list(dir).map_err(StoreError::io("list", dir))?;
        if !names.iter().any(|name| name == LOG) {
            let first = encode(&[Entry::Prefix { prefix: prefix.as_str().to_owned() }]);
            let (log, _) = Log::write_beside(disk, &path, &first)?;
            log.put_in_place(disk)?;
            return Ok((Self::empty(log, lock), OpenReport::default()));
        }
        let (log, scan) = Log::open(disk, &path)?;
        let mut state = Self::empty(log, lock);
        let mut damage = scan.damage;
        for (location, payload) in scan.entries {
            match serde_json::from_slice(&payload) {
                Ok(Entry::Prefix { prefix: found }) if found != prefix.as_str() => {
                    let expected = prefix.as_str().to_owned();
                    return Err(StoreError::ForeignPrefix { dir: dir.to_owned(), found, expected });
                }
                Ok(entry) => {
                    if state.replay(location, entry).is_err() {
                        unreadable(&mut damage, location);
                    }
                }
                Err(_) => unreadable(&mut damage, location),
            }
        }
        let set_aside = if damage.is_loss() {
            Some(state.salvage(disk, dir, prefix)?)
        } else {
            if damage.torn_tail_bytes > 0 {
                state.log.cut_tail()?;
            }
            None
        };
        let report = OpenReport { records: state.index.len() as u64, damage, set_aside };
        Ok((state, report))
    }

    fn empty(log: Log<FileOf<E>>, lock: <E::Disk as Disk>::Lock) -> Self {
        Self {
            log: Arc::new(log),
            index: BTreeMap::new(),
            overlay: BTreeMap::new(),
            unflushed: Vec::new(),
            pending: BTreeSet::new(),
            ceiling: Head::default(),
            generation: None,
            generation_ticket: Ticket::default(),
            version: 0,
            flushed: 0,
            wanted: 0,
            poisoned: None,
            closing: false,
            ended: false,
            compact_above: 0,
            damaged: 0,
            lock: Some(Arc::new(lock)),
        }
    }

    /// Takes in an entry of the log, at opening.
    fn replay(&mut self, location: Location, entry: Entry) -> Result<(), NotARecord> {
        match entry {
            Entry::Prefix { .. } => {}
            Entry::Ceiling { head } => self.ceiling = self.ceiling.max(Head(head)),
            Entry::Generation { generation, reclaim_since_ms } => {
                self.change_generation(&generation, reclaim_since_ms);
            }
            Entry::Record { uid, held } => {
                let held = Held::try_from(held)?;
                self.note_pending(&uid, held.is_pending());
                if let Some(newest) = held.record.newest() {
                    // A ceiling that was lost with a damaged entry is no lower than what was written under it.
                    self.ceiling = self.ceiling.max(newest.head());
                }
                self.index.insert(uid, Slot::of(location, &held));
            }
        }
        Ok(())
    }

    /// Sets a damaged log aside, whole, and goes on with a new one that holds what could be read.
    fn salvage(&mut self, disk: &E::Disk, dir: &Path, prefix: &Prefix) -> Result<PathBuf, StoreError> {
        let aside = set_aside(disk, dir)?;
        let rewritten = rewrite::<E>(disk, &dir.join(LOG), &self.log, self.index.clone(), self.head(prefix))?;
        rewritten.log.put_in_place(disk)?;
        self.moved(rewritten);
        Ok(aside)
    }

    /// The log was rewritten, and is in place. A record that is not in the new one was found damaged.
    pub(super) fn moved(&mut self, rewritten: Rewritten<E>) {
        self.log = Arc::new(rewritten.log);
        let before = self.index.len();
        self.index.retain(|uid, slot| rewritten.locations.get(uid).map(|at| slot.location = *at).is_some());
        self.damaged += (before - self.index.len()) as u64;
        self.pending.retain(|uid| self.index.contains_key(uid) || self.overlay.contains_key(uid));
    }

    pub(super) fn check(&self, dir: &Path) -> Result<(), StoreError> {
        match &self.poisoned {
            Some(cause) => Err(StoreError::Poisoned { dir: dir.to_owned(), cause: cause.clone() }),
            None => Ok(()),
        }
    }

    pub(super) fn held(&mut self, uid: &Uid) -> Result<Option<Arc<Held>>, StoreError> {
        if let Some(unflushed) = self.overlay.get(uid) {
            return Ok(Some(unflushed.held.clone()));
        }
        let Some(slot) = self.index.get(uid) else { return Ok(None) };
        match read_record(&self.log, *slot) {
            Ok(held) => {
                // A generation change marks every record; whether this one has anything young enough shows only here.
                self.note_pending(uid, held.is_pending());
                Ok(Some(Arc::new(held)))
            }
            Err(StoreError::Damaged { .. }) => {
                // Never served. Redis, if it has it, gives it back at the next read.
                self.index.remove(uid);
                self.pending.remove(uid);
                self.damaged += 1;
                Ok(None)
            }
            Err(error) => {
                // What is held is not known any more: an answer without it could go back behind an earlier one.
                self.poisoned.get_or_insert(error.to_string());
                Err(error)
            }
        }
    }

    pub(super) fn put(&mut self, uid: &Uid, held: Arc<Held>) -> Ticket {
        self.version += 1;
        self.note_pending(uid, held.is_pending());
        self.overlay.insert(uid.clone(), Unflushed { held, version: self.version });
        Ticket(self.version)
    }

    pub(super) fn push(&mut self, entry: Entry) -> Ticket {
        self.version += 1;
        self.unflushed.push(entry);
        Ticket(self.version)
    }

    fn note_pending(&mut self, uid: &Uid, pending: bool) {
        if pending {
            self.pending.insert(uid.clone());
        } else {
            self.pending.remove(uid);
        }
    }

    pub(super) fn change_generation(&mut self, generation: &str, reclaim_since_ms: u64) {
        self.generation = Some(generation.to_owned());
        for (uid, slot) in &mut self.index {
            slot.reclaim_since_ms = Some(reclaim_since_ms);
            // Perhaps it has nothing young enough: its next reader finds out.
            self.pending.insert(uid.clone());
        }
    }

    pub(super) fn reclaim_overlay(&mut self, reclaim_since_ms: u64) {
        for (uid, unflushed) in std::mem::take(&mut self.overlay) {
            let mut held = (*unflushed.held).clone();
            held.reclaim_all(reclaim_since_ms);
            self.put(&uid, Arc::new(held));
        }
    }

    /// The entries that a log begins with.
    pub(super) fn head(&self, prefix: &Prefix) -> Vec<Entry> {
        let generation = self.generation.clone();
        // The records are written after it as they are, marks applied: it must mark nothing again.
        let generation = generation.map(|generation| Entry::Generation { generation, reclaim_since_ms: u64::MAX });
        [Entry::Prefix { prefix: prefix.as_str().to_owned() }, Entry::Ceiling { head: self.ceiling.0 }]
            .into_iter()
            .chain(generation)
            .collect()
    }

    /// What is not on disk yet: entries in the order to be written, the records among them last.
    #[expect(clippy::type_complexity, reason = "taken apart at once by the only caller")]
    pub(super) fn batch(&mut self) -> (Arc<Log<FileOf<E>>>, Vec<Entry>, Vec<Uid>, u64) {
        let mut entries = std::mem::take(&mut self.unflushed);
        let uids: Vec<_> = self.overlay.keys().cloned().collect();
        let records = self
            .overlay
            .iter()
            .map(|(uid, unflushed)| Entry::Record { uid: uid.clone(), held: HeldText::from(&*unflushed.held) });
        entries.extend(records);
        (self.log.clone(), entries, uids, self.version)
    }

    /// The batch is on disk.
    pub(super) fn settle(&mut self, locations: &[Location], uids: Vec<Uid>, version: u64) {
        self.flushed = version;
        let records = &locations[locations.len() - uids.len()..];
        for (uid, location) in uids.into_iter().zip(records) {
            let Some(unflushed) = self.overlay.get(&uid) else { continue };
            // Updated while it was written: the overlay stays, and stays in front of this slot.
            let slot = Slot::of(*location, &unflushed.held);
            if unflushed.version <= version {
                self.overlay.remove(&uid);
            }
            self.index.insert(uid, slot);
        }
    }
}

/// An entry that verifies and makes no sense was written so: set aside with the rest, for whoever can read it.
fn unreadable(damage: &mut Damage, location: Location) {
    damage.unreadable.push((location.offset, u64::from(location.len)));
}

pub(super) fn encode(entries: &[Entry]) -> Vec<Vec<u8>> {
    entries.iter().map(|entry| serde_json::to_vec(entry).expect("maps with text for keys become JSON")).collect()
}

/// Reads a record of the index. What verifies and is no record is as good as damaged.
fn read_record<F: DiskFile>(log: &Log<F>, slot: Slot) -> Result<Held, StoreError> {
    let payload = log.read(slot.location)?;
    let held = match serde_json::from_slice(&payload) {
        Ok(Entry::Record { held, .. }) => Held::try_from(held).ok(),
        Ok(_) | Err(_) => None,
    };
    let mut held = held.ok_or_else(|| log.damaged(slot.location))?;
    if let Some(since_ms) = slot.reclaim_since_ms {
        held.reclaim_all(since_ms);
    }
    Ok(held)
}

/// A new log beside the old one.
pub(super) struct Rewritten<E: Env> {
    pub(super) log: Log<FileOf<E>>,
    locations: BTreeMap<Uid, Location>,
    /// Whether records stayed behind because they are damaged.
    pub(super) lossy: bool,
}

/// Writes a new log with everything live beside the old one. Damaged records stay behind.
pub(super) fn rewrite<E: Env>(
    disk: &E::Disk,
    path: &Path,
    old: &Log<FileOf<E>>,
    slots: BTreeMap<Uid, Slot>,
    mut entries: Vec<Entry>,
) -> Result<Rewritten<E>, StoreError> {
    let (first, count) = (entries.len(), slots.len());
    let mut uids = Vec::new();
    for (uid, slot) in slots {
        match read_record(old, slot) {
            Ok(held) => entries.push(Entry::Record { uid: uid.clone(), held: HeldText::from(&held) }),
            Err(StoreError::Damaged { .. }) => continue,
            Err(error) => return Err(error),
        }
        uids.push(uid);
    }
    let lossy = uids.len() < count;
    let (log, locations) = Log::write_beside(disk, path, &encode(&entries))?;
    Ok(Rewritten { log, locations: uids.into_iter().zip(locations.into_iter().skip(first)).collect(), lossy })
}

/// Copies the log to a name that nothing has yet.
pub(super) fn set_aside<D: Disk>(disk: &D, dir: &Path) -> Result<PathBuf, StoreError> {
    let (from, names) = (dir.join(LOG), disk.list(dir).map_err(StoreError::io("list", dir))?);
    // One number more than there are files: one of them is free.
    let mut candidates = (0..=names.len()).map(|number| format!("damaged-{number}.log"));
    let to = dir.join(candidates.find(|name| !names.contains(name)).expect("a number that no file has"));
    let source = disk.open(&from).map_err(StoreError::io("open", &from))?;
    let len = source.len().map_err(StoreError::io("measure", &from))?;
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
    source.read_at(0, &mut bytes).map_err(StoreError::io("read", &from))?;
    let target = disk.open(&to).map_err(StoreError::io("create", &to))?;
    target.write_at(0, &bytes).map_err(StoreError::io("write to", &to))?;
    target.sync().map_err(StoreError::io("sync", &to))?;
    storage::sync_parent(disk, &to)?;
    Ok(to)
}
