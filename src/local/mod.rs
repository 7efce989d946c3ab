//! The local tier: what one instance keeps on its disk, to serve and to write while Redis is away.
//!
//! A log of whole entries (`storage`), an index in memory, and an overlay of what is newer than the log. Reads see the
//! overlay (R3). An update changes the overlay at once, under a lock and without an await; one background task writes
//! the overlay to the log, in batches: soon for copies of what Redis holds, at once when somebody waits for durability
//! (group commit). The store is changed by joins alone, and keeps tombstones.

mod bounds;
mod clocks;
mod compaction;
mod contents;
mod entry;
mod exposed;
mod format;
mod held;
mod held_text;
mod inspect;
mod lived;
mod note;
mod opening;
mod scan;
mod slot;
mod state;
mod storage;
mod usage;
mod walk;

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    ops::Bound,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;

use self::{
    bounds::StoreLimits,
    entry::{LogEntry, encode, encode_record, seed},
    format::ChecksumSeed,
    note::Extent,
    opening::Purpose,
    slot::Slot,
    state::{Batch, StorePhase, StoreState},
    storage::AppendError,
};
pub use self::{
    exposed::Exposed,
    inspect::{Inspection, PendingCell, PendingRecord, inspect, inspect_with_lock},
    opening::OpenReport,
    scan::Damage,
};
pub(crate) use self::{
    held::{Asking, Held, Sent},
    lived::{CLOCK_DOUBT_MS, Estimate, Offsets, Shifts},
    usage::Usage,
};
use crate::{
    config::Config,
    env::{Env, timeout},
    error::StoreError,
    key::{Prefix, Uid},
    stamp::StampHead,
    telemetry::log,
};

/// Records looked at in one search for stale copies: a thousand take some tens of microseconds.
const STALE_LOOKS_MAX: usize = 1000;

/// How long the flusher waits after an attempt that failed. Who waits for durability has been told by then.
const RETRY: Duration = Duration::from_millis(200);

/// A point in the sequence of updates. [`LocalStore::durable`] waits until it is on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

/// The store of one instance and prefix.
pub(crate) struct LocalStore<E: Env> {
    env: E,
    dir: PathBuf,
    prefix: Prefix,
    /// Endpoint and database of the Redis that the cache is opened for.
    redis: String,
    seed: ChecksumSeed,
    flush_interval: Duration,
    compact_bytes: u64,
    limits: StoreLimits,
    state: Mutex<StoreState<E>>,
    /// Wakes the flusher.
    work: Notify,
    /// Wakes it although nobody waited so far: somebody does now.
    hurry: Notify,
    /// Wakes those who wait for durability.
    flushed: Notify,
}

impl<E: Env> LocalStore<E> {
    /// Opens the store in the directory, or makes one. `opening` is an id that no other opening has.
    pub(crate) async fn open(env: &E, config: &Config, opening: u64) -> Result<(Arc<Self>, OpenReport), StoreError> {
        let disk = env.disk().clone();
        let (dir, prefix) = (config.directory.clone(), config.prefix.clone());
        let (redis, now_ms) = (config.redis.to_string(), env.wall_ms());
        let open = move || {
            let purpose = Purpose { dir: &dir, prefix: &prefix, redis: &redis, opening, now_ms };
            StoreState::<E>::open(&disk, &purpose)
        };
        let (state, report) = env.blocking(open).await?;
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let store = Arc::new(Self {
            env: env.clone(),
            dir: config.directory.clone(),
            prefix: config.prefix.clone(),
            redis: config.redis.to_string(),
            flush_interval: config.flush_interval,
            seed: seed(&config.prefix),
            compact_bytes: config.compact_bytes,
            limits: StoreLimits {
                pending_bytes_max: config.pending_bytes_max,
                copies_bytes_max: config.copies_bytes_max,
                republish_window_ms: ms(config.republish_window),
                tombstone_ttl_ms: ms(config.tombstone_ttl),
            },
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

    /// Takes in a write that Redis does not have, at once for every reader; none if what is pending would pass its limit.
    /// The change is durable once [`Self::durable`] says so for the ticket; it is written behind if nobody asks.
    pub(crate) fn keep(&self, uid: &Uid, write: impl FnOnce(&mut Held)) -> Result<Option<Ticket>, StoreError> {
        let mut state = self.usable()?;
        let (before, mut held) = take(&mut state, uid)?;
        write(&mut held);
        if state.is_full(uid, &held, self.limits) {
            return Ok(None);
        }
        Ok(Some(self.put_changed(&mut state, uid, before.as_deref(), held)))
    }

    /// Changes what is held of a record by news of Redis, at once for every reader, but only if Redis's generation is
    /// still `generation` (R6); none if it is not. A copy that there is no room for is not kept.
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
        let (before, mut held) = take(&mut state, uid)?;
        change(&mut held);
        if before.is_none() && !held.is_blank() && !state.admits(&held, self.limits, self.env.wall_ms()) {
            return Ok(Some(Ticket::default()));
        }
        Ok(Some(self.put_changed(&mut state, uid, before.as_deref(), held)))
    }

    fn put_changed(&self, state: &mut StoreState<E>, uid: &Uid, before: Option<&Held>, held: Held) -> Ticket {
        if before.is_some_and(|before| *before == held) || (before.is_none() && held.is_blank()) {
            return Ticket(state.overlay.get(uid).map_or(0, |unflushed| unflushed.version));
        }
        let ticket = state.put(uid, Arc::new(held), self.env.wall_ms());
        self.work.notify_one();
        ticket
    }

    /// A reply of Redis to a request sent then covered all that is held of the record. Counts for nothing, and says so, if
    /// Redis's generation is another by now (R6).
    pub(crate) fn saw_whole(&self, uid: &Uid, generation: &str, sent_at_ms: u64) -> bool {
        let mut state = self.lock();
        let counts = state.generation.as_deref() == Some(generation);
        if counts {
            state.saw_whole(uid, sent_at_ms);
        }
        counts
    }

    /// When Redis last confirmed all of what is held of the record: in memory, or by its notes.
    pub(crate) fn confirmed_ms(&self, uid: &Uid, held: &Held) -> Option<u64> {
        self.lock().seen_whole_ms(uid).max(held.confirmed_ms())
    }

    /// Whether anything was ever forgotten to keep within the limits: what is not held may have been.
    pub(crate) fn forgot(&self) -> bool {
        self.lock().forgot
    }

    /// How much is held.
    pub(crate) fn usage(&self) -> Usage {
        self.lock().usage
    }

    /// Since when there has always been something pending, by the wall clock.
    pub(crate) fn pending_since_ms(&self) -> Option<u64> {
        self.lock().pending_since_ms
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
                if let Some((version, error)) = &state.failed
                    && *version >= ticket.0
                {
                    return Err(error.clone());
                }
                if state.wanted < ticket.0 {
                    state.wanted = ticket.0;
                    self.hurry.notify_one();
                }
            }
            flushed.await;
        }
    }

    /// The clock's durable ceiling, as the last start left it.
    pub(crate) fn ceiling(&self) -> StampHead {
        self.lock().ceiling
    }

    /// Makes a ceiling of the clock durable (R4): in the log; if that takes nothing, for want of room or since it has
    /// stopped, in the reserve of the lock file. So an instance whose disk is full, or whose store was taken away under its
    /// feet, works on with Redis. In a directory that comes back, the ceiling is there; one that does not has lost all.
    ///
    /// # Errors
    /// Neither took it.
    pub(crate) async fn raise_ceiling(&self, ceiling: StampHead) -> Result<(), StoreError> {
        let in_log = match self.push_ceiling(ceiling) {
            Ok(ticket) => self.durable(ticket).await,
            Err(error) => Err(error),
        };
        let Err(error) = in_log else { return Ok(()) };
        let note = {
            let state = self.lock();
            // A directory that was given back is another's by now.
            state.locks.as_ref().map(|_| state.note.clone()).ok_or_else(|| error.clone())?
        };
        self.blocking(move || note.keep_ceiling(ceiling)).await.map_err(|_| error)
    }

    fn push_ceiling(&self, ceiling: StampHead) -> Result<Ticket, StoreError> {
        let mut state = self.usable()?;
        state.ceiling = state.ceiling.max(ceiling);
        let head = state.ceiling.0;
        // On a full disk they would pile up.
        state.unflushed.retain(|entry| !matches!(entry, LogEntry::Ceiling { .. }));
        let ticket = state.push(LogEntry::Ceiling { head });
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
        let mut state = self.lock();
        if let Err(error) = state.check(&self.dir) {
            // What is held is published after the next opening, which finds the generation changed. Until then replies from
            // the new one have to count.
            state.generation = Some(generation.to_owned());
            return Err(error);
        }
        let now_ms = self.env.wall_ms();
        state.change_generation(generation, reclaim_since_ms, now_ms);
        let ticket = state.push(LogEntry::Generation { generation: generation.to_owned(), reclaim_since_ms });
        state.generation_ticket = ticket;
        // After the entry in the log, so that a reader of the log does not mark them twice.
        state.reclaim_overlay(reclaim_since_ms, now_ms);
        self.work.notify_one();
        Ok(ticket)
    }

    /// The Redis that the store is for, if it is another than that which the cache was opened for.
    pub(crate) fn other_redis(&self) -> Option<String> {
        self.lock().redis.clone().filter(|redis| *redis != self.redis)
    }

    /// From here on the store is for the Redis that the cache was opened for. Written before what changes next.
    pub(crate) fn take_redis(&self) {
        let mut state = self.lock();
        if state.redis.as_ref() != Some(&self.redis) && state.poisoned.is_none() {
            state.take_redis(&self.redis);
            drop(state);
            self.work.notify_one();
        }
    }

    /// By how much this machine's wall clock was behind Redis's when a cache on this store last met it, in milliseconds.
    pub(crate) fn clock_offset_ms(&self) -> i64 {
        self.lock().clocks.offset_ms
    }

    /// By how much the clocks of caches on this store were behind Redis's before they met it, in milliseconds.
    pub(crate) fn clock_shifts(&self) -> BTreeMap<u64, i64> {
        self.lock().clocks.shifts()
    }

    /// L3: the cache that goes by `clock` met Redis: its clock was behind by `shift_ms`, and the wall clock by `offset_ms`.
    pub(crate) fn note_contact(&self, clock: u64, shift_ms: i64, offset_ms: i64) -> Result<Ticket, StoreError> {
        let mut state = self.usable()?;
        state.clocks.met(clock, shift_ms, offset_ms);
        let ticket = state.push(LogEntry::Contact { clock, shift_ms, offset_ms });
        self.work.notify_one();
        Ok(ticket)
    }

    /// At most `count` records with something pending, in order, after `after`; with about the bytes held of each, which
    /// are no fewer than what is sent of it.
    pub(crate) fn pending_after(&self, after: Option<&Uid>, count: usize) -> Vec<(Uid, u64)> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let state = self.lock();
        let bytes = |uid: &Uid| state.weight(uid).map_or(0, |weight| u64::from(weight.owed) + u64::from(weight.copied));
        let pending = state.pending.range::<Uid, _>((start, Bound::Unbounded)).take(count);
        pending.map(|uid| (uid.clone(), bytes(uid))).collect()
    }

    /// About the bytes held of a record.
    pub(crate) fn bytes(&self, uid: &Uid) -> u64 {
        self.lock().weight(uid).map_or(0, |weight| u64::from(weight.owed) + u64::from(weight.copied))
    }

    /// Whether something is pending of the record.
    pub(crate) fn is_pending(&self, uid: &Uid) -> bool {
        self.lock().pending.contains(uid)
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
        let unflushed = state.overlay.iter().filter(|(_, unflushed)| unflushed.held.alive_until_ms() > now_ms);
        Ok(flushed.map(|(uid, _)| uid.clone()).chain(unflushed.map(|(uid, _)| uid.clone())).collect())
    }

    /// What is held of each record with something pending; also while the store takes no writes.
    pub(crate) fn pending(&self) -> Result<BTreeMap<Uid, Arc<Held>>, StoreError> {
        let mut state = self.lock();
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
            if slot.oldest_confirmed_ms < before_ms {
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
        Some(self.lock().check(&self.dir).err()?.to_string())
    }

    /// What the store cannot do for now, and why: the last write to the log failed, or there is no room to rewrite it.
    pub(crate) fn degraded(&self) -> Option<String> {
        let state = self.lock();
        let failed = state.failed.as_ref().map(|(_, error)| {
            format!("{error}; reads, and writes that redis takes, go on without new copies, local writes are errors")
        });
        failed.filter(|_| state.poisoned.is_none()).or_else(|| state.postponed.clone())
    }

    /// What others than the owner of the files may use, as of opening.
    pub(crate) fn exposed(&self) -> Vec<Exposed> {
        self.lock().exposed.clone()
    }

    /// Writes everything, waits until the flusher has ended, and gives the directory back.
    pub(crate) async fn close(&self) -> Result<(), StoreError> {
        {
            let mut state = self.lock();
            // The flusher of a store that has stopped has ended already.
            if state.phase == StorePhase::Open {
                state.phase = StorePhase::Closing;
            }
        }
        self.work.notify_one();
        self.hurry.notify_one();
        loop {
            let mut flushed = std::pin::pin!(self.flushed.notified());
            flushed.as_mut().enable();
            {
                let mut state = self.lock();
                if state.phase == StorePhase::Ended {
                    state.locks = None;
                    state.check(&self.dir)?;
                    return state.failed.take().map_or(Ok(()), |(_, error)| Err(error));
                }
            }
            flushed.await;
        }
    }

    /// The background task that writes to the log. It ends when the store is closed or has failed.
    pub(crate) async fn flush_loop(self: Arc<Self>) {
        self.flush_until_closed().await;
        self.lock().phase = StorePhase::Ended;
        self.flushed.notify_waiters();
    }

    async fn flush_until_closed(&self) {
        loop {
            let (dirty, wanted, closing, failed, dead) = {
                let state = self.lock();
                let dirty = state.version > state.flushed;
                (
                    dirty,
                    state.is_wanted(),
                    state.phase == StorePhase::Closing,
                    state.failed.is_some(),
                    state.poisoned.is_some(),
                )
            };
            if dead {
                return;
            }
            if closing && !dirty {
                // A commit of its own: where it stands, all before it was durable.
                let closed = self.lock().closed();
                self.commit(closed).await;
                let state = self.lock();
                if state.failed.is_some() || state.version == state.flushed {
                    return;
                }
                continue;
            }
            if !dirty {
                self.work.notified().await;
                continue;
            }
            if failed && !closing {
                self.env.sleep(RETRY).await;
            } else if !wanted && !closing {
                // Write-behind: more may come within the interval. Whoever starts to wait ends it.
                let _ = timeout(&self.env, self.flush_interval, self.hurry.notified()).await;
            }
            self.flush().await;
            if !closing {
                self.compact().await;
            } else if self.lock().failed.is_some() {
                // Whoever closes has been told.
                return;
            }
        }
    }

    async fn flush(&self) {
        let batch = self.lock().batch();
        self.commit(batch).await;
    }

    async fn commit(&self, batch: Batch<E>) {
        let Batch { log, entries, records, version } = batch;
        let (disk, note) = (self.env.disk().clone(), self.lock().note.clone());
        let (appended, entries, records) = self
            .blocking(move || {
                let mut payloads = encode(&entries);
                payloads.extend(records.iter().map(|(uid, held)| encode_record(uid, held)));
                let is_own = note.check_opener().and_then(|()| log.check_end()).map_err(|error| match error {
                    taken @ StoreError::Taken { .. } => AppendError::Lost(taken),
                    // It could not be asked.
                    other => AppendError::Unchanged(other),
                });
                let appended = is_own.and_then(|()| log.append(&payloads)).and_then(|locations| {
                    // Durable, but where? The next opening does not find a file that has lost its name, and another process that has
                    // opened the store meanwhile may have read the log before this commit.
                    log.check_place(&disk).and_then(|()| note.check_opener()).map_err(AppendError::Lost)?;
                    note.keep_extent(Extent { number: log.id.number, len: log.len() });
                    Ok(locations)
                });
                (appended, entries, records)
            })
            .await;
        let mut state = self.lock();
        match appended {
            Ok(locations) => {
                state.settle(&locations, records, version);
                // Nothing may stand behind the entry that says that the store was closed.
                if state.phase == StorePhase::Open {
                    state.shrink(self.limits, self.env.wall_ms());
                }
            }
            Err(AppendError::Unchanged(error)) => {
                log!(warn, %error, "the local store cannot be written to, and tries again");
                state.usage.failed_flushes += 1;
                state.unsettle(entries, version, error);
            }
            Err(AppendError::Lost(error)) => {
                log!(error, %error, "the local store takes no more writes until it is opened again");
                state.poisoned = Some(error);
            }
        }
        drop(state);
        self.flushed.notify_waiters();
    }

    /// Work on the disk that keeps the directory locked until it has ended, even if nobody waits for it any more: the
    /// next opening must not find the file half written.
    fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> impl Future<Output = T> {
        let locks = self.lock().locks.clone();
        self.env.blocking(move || {
            let result = work();
            drop(locks);
            result
        })
    }

    fn lock(&self) -> MutexGuard<'_, StoreState<E>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn usable(&self) -> Result<MutexGuard<'_, StoreState<E>>, StoreError> {
        let state = self.lock();
        state.check(&self.dir)?;
        Ok(state)
    }
}

/// What is held of a record, and a copy to change; of one not held, with a note whether it may have been.
fn take<E: Env>(state: &mut StoreState<E>, uid: &Uid) -> Result<(Option<Arc<Held>>, Held), StoreError> {
    let before = state.held(uid)?;
    let held = match &before {
        Some(held) => (**held).clone(),
        None if state.forgot => Held::forgotten(),
        None => Held::default(),
    };
    Ok((before, held))
}

#[cfg(test)]
mod tests;
