//! The local tier: what one instance keeps on its disk, to serve and to write while Redis is away.
//!
//! A log of whole entries (`storage`), an index in memory, and an overlay of what is newer than the log. Reads see the
//! overlay (R3). An update changes the overlay at once, under a lock and without an await; one background task writes
//! the overlay to the log, in batches: soon for copies of what Redis holds, at once when somebody waits for durability
//! (group commit). The store is changed by joins alone, and keeps tombstones.

mod held;
mod storage;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

pub(crate) use self::held::Held;
pub use self::storage::Damage;
use self::{
    held::HeldText,
    storage::{Location, Log},
};
use crate::{
    config::Config,
    env::{Disk, Env, timeout},
    error::StoreError,
    key::{Prefix, Uid},
    stamp::Head,
};

const LOG: &str = "store.log";
const LOCK: &str = "lock";

type FileOf<E> = <<E as Env>::Disk as Disk>::File;

/// A point in the sequence of updates. [`LocalStore::durable`] waits until it is on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

/// The store of one instance and prefix.
pub(crate) struct LocalStore<E: Env> {
    env: E,
    dir: PathBuf,
    prefix: Prefix,
    flush_interval: std::time::Duration,
    compact_bytes: u64,
    state: Mutex<State<E>>,
    /// Wakes the flusher.
    work: Notify,
    /// Wakes it although nobody waited so far: somebody does now.
    hurry: Notify,
    /// Wakes those who wait for durability.
    flushed: Notify,
}

struct State<E: Env> {
    log: Arc<Log<FileOf<E>>>,
    index: BTreeMap<Uid, Slot>,
    overlay: BTreeMap<Uid, Unflushed>,
    /// Entries other than records that are not on disk yet.
    unflushed: Vec<Entry>,
    pending: BTreeSet<Uid>,
    ceiling: Head,
    generation: Option<String>,
    version: u64,
    flushed: u64,
    wanted: u64,
    poisoned: Option<String>,
    closing: bool,
    /// Records found damaged since opening.
    damaged: u64,
    /// The directory's lock, until the store has closed.
    lock: Option<<E::Disk as Disk>::Lock>,
}

#[derive(Clone, Copy)]
struct Slot {
    location: Location,
    alive: bool,
    /// R6: set by a generation that is newer than the entry; applied when the entry is read.
    reclaim_since_ms: Option<u64>,
}

struct Unflushed {
    held: Arc<Held>,
    version: u64,
}

/// An entry of the log.
#[derive(Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "snake_case")]
enum Entry {
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

/// What opening a store found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenReport {
    /// Records held.
    pub records: u64,
    /// Damage found in the log.
    pub damage: Damage,
    /// Where the damaged log was set aside, whole. What verified was salvaged into a new one.
    pub set_aside: Option<PathBuf>,
}

impl<E: Env> LocalStore<E> {
    /// Opens the store in the directory, or makes one.
    pub(crate) async fn open(env: &E, config: &Config) -> Result<(Arc<Self>, OpenReport), StoreError> {
        let disk = env.disk().clone();
        let (dir, prefix) = (config.directory.clone(), config.prefix.clone());
        let (state, report) = env.blocking(move || State::<E>::open(&disk, &dir, &prefix)).await?;
        let store = Arc::new(Self {
            env: env.clone(),
            dir: config.directory.clone(),
            prefix: config.prefix.clone(),
            flush_interval: config.flush_interval,
            compact_bytes: config.compact_bytes,
            state: Mutex::new(state),
            work: Notify::new(),
            hurry: Notify::new(),
            flushed: Notify::new(),
        });
        Ok((store, report))
    }

    /// What is held of a record, unflushed updates included (R3).
    pub(crate) fn read(&self, uid: &Uid) -> Result<Option<Arc<Held>>, StoreError> {
        self.lock().held(uid)
    }

    /// Changes what is held of a record, at once for every reader. The change is durable once [`Self::durable`] says so
    /// for the ticket; it is written behind if nobody asks.
    pub(crate) fn update(&self, uid: &Uid, change: impl FnOnce(&mut Held)) -> Result<Ticket, StoreError> {
        let mut state = self.usable()?;
        self.update_locked(&mut state, uid, change)
    }

    /// As [`Self::update`], but only if Redis's generation is still `generation` (R6); says whether it was.
    pub(crate) fn update_in_generation(
        &self,
        uid: &Uid,
        generation: &str,
        change: impl FnOnce(&mut Held),
    ) -> Result<bool, StoreError> {
        let mut state = self.usable()?;
        if state.generation.as_deref() != Some(generation) {
            return Ok(false);
        }
        self.update_locked(&mut state, uid, change)?;
        Ok(true)
    }

    fn update_locked(
        &self,
        state: &mut State<E>,
        uid: &Uid,
        change: impl FnOnce(&mut Held),
    ) -> Result<Ticket, StoreError> {
        let before = state.held(uid)?;
        let before = before.unwrap_or_default();
        let mut held = (*before).clone();
        change(&mut held);
        if *before == held {
            return Ok(Ticket(state.overlay.get(uid).map_or(0, |unflushed| unflushed.version)));
        }
        let ticket = state.put(uid, Arc::new(held));
        self.work.notify_one();
        Ok(ticket)
    }

    /// Waits until the update is on disk and synced.
    ///
    /// Cancellation: the update stays, and is written all the same.
    pub(crate) async fn durable(&self, ticket: Ticket) -> Result<(), StoreError> {
        loop {
            let mut flushed = std::pin::pin!(self.flushed.notified());
            flushed.as_mut().enable();
            {
                let mut state = self.lock();
                if state.flushed >= ticket.0 {
                    return Ok(());
                }
                state.check(&self.dir)?;
                if state.wanted < ticket.0 {
                    state.wanted = ticket.0;
                    self.hurry.notify_one();
                }
            }
            flushed.await;
        }
    }

    /// The clock's durable ceiling, as the last start left it.
    pub(crate) fn ceiling(&self) -> Head {
        self.lock().ceiling
    }

    /// Raises the clock's ceiling (R4); in force once durable.
    pub(crate) fn raise_ceiling(&self, ceiling: Head) -> Result<Ticket, StoreError> {
        let mut state = self.usable()?;
        state.ceiling = state.ceiling.max(ceiling);
        let head = state.ceiling.0;
        let ticket = state.push(Entry::Ceiling { head });
        self.work.notify_one();
        Ok(ticket)
    }

    /// The generation of Redis's data that the copies here were confirmed in.
    pub(crate) fn generation(&self) -> Option<String> {
        self.lock().generation.clone()
    }

    /// R6: Redis holds another generation than the copies here. One durable commit stores it and marks every copy
    /// confirmed since `reclaim_since_ms` as pending.
    pub(crate) fn change_generation(&self, generation: &str, reclaim_since_ms: u64) -> Result<Ticket, StoreError> {
        let mut state = self.usable()?;
        state.change_generation(generation, reclaim_since_ms);
        let ticket = state.push(Entry::Generation { generation: generation.to_owned(), reclaim_since_ms });
        // After the entry in the log, so that a reader of the log does not mark them twice.
        state.reclaim_overlay(reclaim_since_ms);
        self.work.notify_one();
        Ok(ticket)
    }

    /// At most `count` records with something pending, in order, after `after`.
    pub(crate) fn pending_after(&self, after: Option<&Uid>, count: usize) -> Vec<Uid> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.lock().pending.range::<Uid, _>((start, Bound::Unbounded)).take(count).cloned().collect()
    }

    /// How many records have something pending.
    pub(crate) fn pending_count(&self) -> u64 {
        self.lock().pending.len() as u64
    }

    /// The uids of the live records held, in order.
    pub(crate) fn uids(&self) -> Result<BTreeSet<Uid>, StoreError> {
        let state = self.lock();
        state.check(&self.dir)?;
        let flushed = state.index.iter().filter(|(uid, slot)| slot.alive && !state.overlay.contains_key(*uid));
        let unflushed = state.overlay.iter().filter(|(_, unflushed)| unflushed.held.record.is_alive());
        Ok(flushed.map(|(uid, _)| uid.clone()).chain(unflushed.map(|(uid, _)| uid.clone())).collect())
    }

    /// The uids of records with something pending.
    pub(crate) fn pending_uids(&self) -> BTreeSet<Uid> {
        self.lock().pending.clone()
    }

    /// Why the store takes no more writes, if it does not.
    pub(crate) fn poisoned(&self) -> Option<String> {
        self.lock().poisoned.clone()
    }

    /// Records found damaged since opening.
    pub(crate) fn damaged(&self) -> u64 {
        self.lock().damaged
    }

    /// Writes everything, ends the flusher, and gives the directory back.
    pub(crate) async fn close(&self) -> Result<(), StoreError> {
        let ticket = {
            let mut state = self.lock();
            state.closing = true;
            Ticket(state.version)
        };
        let result = self.durable(ticket).await;
        self.work.notify_one();
        self.lock().lock = None;
        result
    }

    /// The background task that writes to the log.
    pub(crate) async fn flush_loop(self: Arc<Self>) {
        loop {
            let (dirty, wanted, closing, dead) = {
                let state = self.lock();
                (state.version > state.flushed, state.wanted > state.flushed, state.closing, state.poisoned.is_some())
            };
            if dead || (closing && !dirty) {
                return;
            }
            if !dirty {
                self.work.notified().await;
                continue;
            }
            if !wanted && !closing {
                // Write-behind: more may come within the interval. Whoever starts to wait ends it.
                let _ = timeout(&self.env, self.flush_interval, self.hurry.notified()).await;
            }
            self.flush().await;
            self.compact().await;
        }
    }

    async fn flush(&self) {
        let (log, entries, uids, version) = self.lock().batch();
        let appended = {
            let log = log.clone();
            self.env.blocking(move || log.append(&encode(&entries))).await
        };
        let mut state = self.lock();
        match appended {
            Ok(locations) => state.settle(&locations, uids, version),
            Err(error) => state.poisoned = Some(error.to_string()),
        }
        drop(state);
        self.flushed.notify_waiters();
    }

    /// Rewrites the log once most of it is dead.
    async fn compact(&self) {
        let (old, slots, head) = {
            let state = self.lock();
            let live: u64 = state.index.values().map(|slot| u64::from(slot.location.len)).sum();
            let worth_it = state.log.len() > self.compact_bytes && live * 2 < state.log.len();
            if state.poisoned.is_some() || !worth_it {
                return;
            }
            (state.log.clone(), state.index.clone(), state.head(&self.prefix))
        };
        let (disk, path) = (self.env.disk().clone(), self.dir.join(LOG));
        let rewritten = self.env.blocking(move || rewrite::<E>(&disk, &path, &old, slots, head)).await;
        let mut state = self.lock();
        match rewritten {
            Ok((log, locations)) => {
                state.log = Arc::new(log);
                // Nothing else moves entries, so each slot still stands for what was copied. What was not is damaged.
                state.damaged += (state.index.len() - locations.len()) as u64;
                state.index.retain(|uid, slot| locations.get(uid).map(|at| slot.location = *at).is_some());
            }
            Err(error) => state.poisoned = Some(error.to_string()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<E>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn usable(&self) -> Result<MutexGuard<'_, State<E>>, StoreError> {
        let state = self.lock();
        state.check(&self.dir)?;
        Ok(state)
    }
}

impl<E: Env> State<E> {
    fn open(disk: &E::Disk, dir: &Path, prefix: &Prefix) -> Result<(Self, OpenReport), StoreError> {
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
    fn replay(&mut self, location: Location, entry: Entry) -> Result<(), crate::record::NotARecord> {
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

    fn check(&self, dir: &Path) -> Result<(), StoreError> {
        match &self.poisoned {
            Some(cause) => Err(StoreError::Poisoned { dir: dir.to_owned(), cause: cause.clone() }),
            None => Ok(()),
        }
    }

    fn held(&mut self, uid: &Uid) -> Result<Option<Arc<Held>>, StoreError> {
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

    fn put(&mut self, uid: &Uid, held: Arc<Held>) -> Ticket {
        self.version += 1;
        self.note_pending(uid, held.is_pending());
        self.overlay.insert(uid.clone(), Unflushed { held, version: self.version });
        Ticket(self.version)
    }

    fn push(&mut self, entry: Entry) -> Ticket {
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

    fn change_generation(&mut self, generation: &str, reclaim_since_ms: u64) {
        self.generation = Some(generation.to_owned());
        for (uid, slot) in &mut self.index {
            slot.reclaim_since_ms = Some(reclaim_since_ms);
            // Perhaps it has nothing young enough: its next reader finds out.
            self.pending.insert(uid.clone());
        }
    }

    fn reclaim_overlay(&mut self, reclaim_since_ms: u64) {
        for (uid, unflushed) in std::mem::take(&mut self.overlay) {
            let mut held = (*unflushed.held).clone();
            held.reclaim_all(reclaim_since_ms);
            self.put(&uid, Arc::new(held));
        }
    }

    /// The entries that a log begins with.
    fn head(&self, prefix: &Prefix) -> Vec<Entry> {
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
    fn batch(&mut self) -> (Arc<Log<FileOf<E>>>, Vec<Entry>, Vec<Uid>, u64) {
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
    fn settle(&mut self, locations: &[Location], uids: Vec<Uid>, version: u64) {
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

fn encode(entries: &[Entry]) -> Vec<Vec<u8>> {
    entries.iter().map(|entry| serde_json::to_vec(entry).expect("maps with text for keys become JSON")).collect()
}

fn read_record<F: crate::env::DiskFile>(log: &Log<F>, slot: Slot) -> Result<Held, StoreError> {
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

type Rewritten<E> = (Log<FileOf<E>>, BTreeMap<Uid, Location>);

/// Writes a new log with everything live, and puts it in the place of the old one. Damaged records stay behind.
fn rewrite<E: Env>(
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
    use crate::env::DiskFile as _;
    let source = disk.open(from).map_err(StoreError::io("open", from))?;
    let len = source.len().map_err(StoreError::io("measure", from))?;
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
    source.read_at(0, &mut bytes).map_err(StoreError::io("read", from))?;
    let target = disk.open(to).map_err(StoreError::io("create", to))?;
    target.write_at(0, &bytes).map_err(StoreError::io("write to", to))?;
    target.sync().map_err(StoreError::io("sync", to))?;
    storage::sync_parent(disk, to)
}
