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
    pub(super) version: u64,
    pub(super) flushed: u64,
    pub(super) wanted: u64,
    pub(super) poisoned: Option<String>,
    pub(super) closing: bool,
    /// Records found damaged since opening.
    pub(super) damaged: u64,
    /// The directory's lock, until the store has closed.
    pub(super) lock: Option<<E::Disk as Disk>::Lock>,
}

#[derive(Clone, Copy)]
pub(super) struct Slot {
    pub(super) location: Location,
    pub(super) alive: bool,
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
            let (log, _) = Log::create(disk, &path, &first)?;
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
        let set_aside = if damage.is_loss() { Some(state.salvage(disk, dir, &names, prefix)?) } else { None };
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
            version: 0,
            flushed: 0,
            wanted: 0,
            poisoned: None,
            closing: false,
            damaged: 0,
            lock: Some(lock),
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
                let slot = Slot { location, alive: held.record.is_alive(), reclaim_since_ms: None };
                self.index.insert(uid, slot);
            }
        }
        Ok(())
    }

    /// Sets a damaged log aside, whole, and goes on with a new one that holds what could be read.
    fn salvage(
        &mut self,
        disk: &E::Disk,
        dir: &Path,
        names: &[String],
        prefix: &Prefix,
    ) -> Result<PathBuf, StoreError> {
        let path = dir.join(LOG);
        let number = names.iter().filter(|name| name.starts_with("damaged-")).count();
        let aside = dir.join(format!("damaged-{number}.log"));
        copy(disk, &path, &aside)?;
        let (log, locations) = rewrite::<E>(disk, &path, &self.log, self.index.clone(), self.head(prefix))?;
        self.log = Arc::new(log);
        self.index.retain(|uid, slot| locations.get(uid).map(|at| slot.location = *at).is_some());
        Ok(aside)
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
            Err(error) => Err(error),
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
            let alive = unflushed.held.record.is_alive();
            if unflushed.version <= version {
                self.overlay.remove(&uid);
            }
            self.index.insert(uid, Slot { location: *location, alive, reclaim_since_ms: None });
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

fn read_record<F: DiskFile>(log: &Log<F>, slot: Slot) -> Result<Held, StoreError> {
    let payload = log.read(slot.location)?;
    let entry =
        serde_json::from_slice(&payload).expect("an entry that verifies was read before, at opening or writing");
    let Entry::Record { held, .. } = entry else { panic!("the index points at an entry that is no record") };
    let mut held = Held::try_from(held).expect("a record that verifies was read before, at opening or writing");
    if let Some(since_ms) = slot.reclaim_since_ms {
        held.reclaim_all(since_ms);
    }
    Ok(held)
}

pub(super) type Rewritten<E> = (Log<FileOf<E>>, BTreeMap<Uid, Location>);

/// Writes a new log with everything live, and puts it in the place of the old one. Damaged records stay behind.
pub(super) fn rewrite<E: Env>(
    disk: &E::Disk,
    path: &Path,
    old: &Log<FileOf<E>>,
    slots: BTreeMap<Uid, Slot>,
    mut entries: Vec<Entry>,
) -> Result<Rewritten<E>, StoreError> {
    let first = entries.len();
    let mut uids = Vec::new();
    for (uid, slot) in slots {
        match read_record(old, slot) {
            Ok(held) => entries.push(Entry::Record { uid: uid.clone(), held: HeldText::from(&held) }),
            Err(StoreError::Damaged { .. }) => continue,
            Err(error) => return Err(error),
        }
        uids.push(uid);
    }
    let (log, locations) = Log::create(disk, path, &encode(&entries))?;
    Ok((log, uids.into_iter().zip(locations.into_iter().skip(first)).collect()))
}

fn copy<D: Disk>(disk: &D, from: &Path, to: &Path) -> Result<(), StoreError> {
    let source = disk.open(from).map_err(StoreError::io("open", from))?;
    let len = source.len().map_err(StoreError::io("measure", from))?;
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
    source.read_at(0, &mut bytes).map_err(StoreError::io("read", from))?;
    let target = disk.open(to).map_err(StoreError::io("create", to))?;
    target.write_at(0, &bytes).map_err(StoreError::io("write to", to))?;
    target.sync().map_err(StoreError::io("sync", to))?;
    storage::sync_parent(disk, to)
}
