//! The local tier: what one instance keeps on its disk, to serve and to write while Redis is away.
//!
//! A log of whole entries (`storage`), an index in memory, and an overlay of what is newer than the log. Reads see the
//! overlay (R3). An update changes the overlay at once, under a lock and without an await; one background task writes
//! the overlay to the log, in batches: soon for copies of what Redis holds, at once when somebody waits for durability
//! (group commit). The store is changed by joins alone, and keeps tombstones.

mod held;
mod state;
mod storage;

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    ops::Bound,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

pub(crate) use self::held::Held;
use self::state::{Entry, LOG, Slot, State, encode, rewrite, set_aside};
pub use self::storage::Damage;
use crate::{
    config::Config,
    env::{Env, timeout},
    error::StoreError,
    key::{Prefix, Uid},
    stamp::Head,
};

/// Records looked at in one search for stale copies: a thousand take some tens of microseconds.
const STALE_LOOKS_MAX: usize = 1000;

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

    /// As [`Self::update`], but only if Redis's generation is still `generation` (R6); none if it is not.
    pub(crate) fn update_in_generation(
        &self,
        uid: &Uid,
        generation: &str,
        change: impl FnOnce(&mut Held),
    ) -> Result<Option<Ticket>, StoreError> {
        let mut state = self.usable()?;
        if state.generation.as_deref() != Some(generation) {
            return Ok(None);
        }
        self.update_locked(&mut state, uid, change).map(Some)
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

    /// The generation of Redis's data that the copies here were confirmed in, and the ticket of its entry.
    pub(crate) fn generation(&self) -> (Option<String>, Ticket) {
        let state = self.lock();
        (state.generation.clone(), state.generation_ticket)
    }

    /// R6: Redis holds another generation than the copies here. One durable commit stores it and marks every copy
    /// confirmed since `reclaim_since_ms` as pending.
    pub(crate) fn change_generation(&self, generation: &str, reclaim_since_ms: u64) -> Result<Ticket, StoreError> {
        let mut state = self.usable()?;
        state.change_generation(generation, reclaim_since_ms);
        let ticket = state.push(Entry::Generation { generation: generation.to_owned(), reclaim_since_ms });
        state.generation_ticket = ticket;
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

    /// The uids of the records held that are alive at this time of Redis's clock, in order.
    pub(crate) fn uids(&self, now_ms: u64) -> Result<BTreeSet<Uid>, StoreError> {
        let state = self.lock();
        state.check(&self.dir)?;
        let alive = |(uid, slot): &(&Uid, &Slot)| slot.alive_until_ms > now_ms && !state.overlay.contains_key(*uid);
        let flushed = state.index.iter().filter(alive);
        let unflushed = state.overlay.iter().filter(|(_, unflushed)| unflushed.held.record.is_alive_at(now_ms));
        Ok(flushed.map(|(uid, _)| uid.clone()).chain(unflushed.map(|(uid, _)| uid.clone())).collect())
    }

    /// What is held of each record with something pending.
    pub(crate) fn pending(&self) -> Result<BTreeMap<Uid, Arc<Held>>, StoreError> {
        let mut state = self.usable()?;
        let uids = state.pending.clone();
        let mut pending = BTreeMap::new();
        for uid in uids {
            if let Some(held) = state.held(&uid)? {
                pending.insert(uid, held);
            }
        }
        Ok(pending)
    }

    /// At most `count` records on disk, after `after`, with a copy confirmed before `before_ms` (R9); and where the
    /// search ended, if there is more.
    pub(crate) fn stale_after(&self, after: Option<&Uid>, before_ms: u64, count: usize) -> (Vec<Uid>, Option<Uid>) {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let state = self.lock();
        let (mut found, mut last) = (Vec::new(), None);
        for (uid, slot) in state.index.range::<Uid, _>((start, Bound::Unbounded)).take(STALE_LOOKS_MAX) {
            last = Some(uid.clone());
            if slot.oldest_confirmed_ms.is_some_and(|confirmed| confirmed < before_ms) {
                found.push(uid.clone());
            }
            if found.len() == count {
                break;
            }
        }
        (found, last)
    }

    /// # Errors
    /// The store has stopped: what it holds may not be what was last held.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        self.lock().check(&self.dir)
    }

    /// Why the store takes no more writes, if it does not.
    pub(crate) fn poisoned(&self) -> Option<String> {
        self.lock().poisoned.clone()
    }

    /// Records found damaged since opening.
    pub(crate) fn damaged(&self) -> u64 {
        self.lock().damaged
    }

    /// Writes everything, waits until the flusher has ended, and gives the directory back.
    pub(crate) async fn close(&self) -> Result<(), StoreError> {
        let ticket = {
            let mut state = self.lock();
            state.closing = true;
            Ticket(state.version)
        };
        self.work.notify_one();
        let result = self.durable(ticket).await;
        loop {
            let mut flushed = std::pin::pin!(self.flushed.notified());
            flushed.as_mut().enable();
            {
                let mut state = self.lock();
                if state.ended {
                    state.lock = None;
                    return result;
                }
            }
            flushed.await;
        }
    }

    /// The background task that writes to the log. It ends when the store is closed or has failed.
    pub(crate) async fn flush_loop(self: Arc<Self>) {
        self.flush_until_closed().await;
        self.lock().ended = true;
        self.flushed.notify_waiters();
    }

    async fn flush_until_closed(&self) {
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
            if !closing {
                self.compact().await;
            }
        }
    }

    async fn flush(&self) {
        let (log, entries, uids, version) = self.lock().batch();
        let appended = self.blocking(move || log.append(&encode(&entries))).await;
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
            let len = state.log.len();
            if state.poisoned.is_some() || len <= self.compact_bytes.max(state.compact_above) {
                return;
            }
            let live: u64 = state.index.values().map(|slot| u64::from(slot.location.len)).sum();
            if live * 2 >= len {
                return;
            }
            (state.log.clone(), state.index.clone(), state.head(&self.prefix))
        };
        let (disk, path) = (self.env.disk().clone(), self.dir.join(LOG));
        let rewritten = self.blocking(move || rewrite::<E>(&disk, &path, &old, slots, head)).await;
        let Ok(rewritten) = rewritten else {
            // The old log is as good as before. A full disk should not be tried again at every write.
            let mut state = self.lock();
            state.compact_above = state.log.len() * 2;
            return;
        };
        let (disk, dir) = (self.env.disk().clone(), self.dir.clone());
        let placed = self.blocking(move || {
            if rewritten.lossy {
                set_aside(&disk, &dir)?;
            }
            rewritten.log.put_in_place(&disk)?;
            Ok(rewritten)
        });
        let placed: Result<_, StoreError> = placed.await;
        let mut state = self.lock();
        match placed {
            // Nothing but this task moves entries, so each slot still stands for what was copied.
            Ok(rewritten) => state.moved(rewritten),
            Err(error) => state.poisoned = Some(error.to_string()),
        }
        drop(state);
        self.flushed.notify_waiters();
    }

    /// Work on the disk that keeps the directory locked until it has ended, even if nobody waits for it any more: the
    /// next opening must not find the file half written.
    fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> impl Future<Output = T> {
        let lock = self.lock().lock.clone();
        self.env.blocking(move || {
            let result = work();
            drop(lock);
            result
        })
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
