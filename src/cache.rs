//! The cache that an application opens. Here, and only here, it is decided which tier serves a call.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use crate::{
    config::{Config, ConfigError},
    contact::{CachedContact, Patch, Timestamp},
    env::{Env, Task, TokioEnv, timeout},
    error::{Error, StoreError},
    health::{Event, Patience, State},
    key::{Keys, Uid},
    local::{Held, LocalStore, OpenReport},
    record::Record,
    recovery,
    shared::{
        CallError,
        connection::Connection,
        link::Link,
        script::{Merged, Mode},
    },
    stamp::{Head, HybridClock, NoStamp, Stamp},
};

/// How often a write is stamped again after a definite conflict, before it is kept locally (R10).
const CONFLICTS_MAX: u32 = 4;

/// How often [`ContactCache::sync`] looks.
const SYNC_LOOK: Duration = Duration::from_millis(5);

/// A cache of contact records, shared by the instances of an application.
///
/// Every call returns within [`Config::op_deadline`]. Dropping a call's future harms no other call; a write whose future
/// is dropped may take effect, or not.
pub struct ContactCache<E: Env = TokioEnv> {
    inner: Arc<Inner<E>>,
    flusher: E::Task,
    supervisor: E::Task,
    report: OpenReport,
}

/// Which tier took a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Placement {
    /// Redis holds it: every instance sees it from now on.
    Shared,
    /// It is on this instance's disk, synced, and will be merged into Redis when that is back.
    Local,
}

/// Which tier answered a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// Redis's reply alone covers everything shown.
    Shared,
    /// Redis was asked, and something held locally is newer.
    Merged,
    /// Redis is away; this is what the instance held.
    Local,
}

/// The answer of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Which tier took it.
    pub placement: Placement,
    /// Its place in the order of writes.
    pub stamp: Stamp,
}

/// The answer of a read.
#[derive(Clone, Debug, PartialEq)]
pub struct Read {
    /// Which tier answered.
    pub source: Source,
    /// The record; none if there is none.
    pub record: Option<CachedContact>,
}

/// The answer of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// Which tier answered.
    pub source: Source,
    /// The uids, each once, in order.
    pub uids: BTreeSet<Uid>,
}

/// The answer of a clear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cleared {
    /// The uids removed, and which tier took each removal.
    pub removed: BTreeMap<Uid, Placement>,
    /// The removal that the deadline cut off, if any: it may have had an effect, or may have one later.
    pub unknown: Option<Uid>,
    /// Whether Redis was asked for the list, and every uid of it removed within the deadline.
    pub complete: bool,
}

/// What an operator asks an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// The instance's view of Redis.
    pub state: State,
    /// Records with something that Redis does not have yet.
    pub pending_records: u64,
    /// Connections established since opening.
    pub connections: u64,
    /// Records found damaged on disk since opening; they were not served.
    pub damaged_records: u64,
    /// Why the local store takes no more writes, if it does not.
    pub store_error: Option<String>,
}

/// Why a cache cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A setting cannot be.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The local store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl<E: Env> ContactCache<E> {
    /// Opens the cache. Waits for the first attempt to connect, for at most [`Config::connect_timeout`]; without Redis
    /// the cache opens all the same, and works locally until Redis is there.
    ///
    /// # Errors
    /// A setting that cannot be, or a local store that cannot be opened.
    pub async fn open(env: E, config: Config) -> Result<Self, OpenError> {
        config.check()?;
        let (local, report) = LocalStore::open(&env, &config).await?;
        let patience = Patience {
            backoff_first: config.backoff_first,
            backoff_max: config.backoff_max,
            probe_interval: config.probe_interval,
        };
        let connect_timeout = config.connect_timeout;
        let inner = Arc::new(Inner {
            keys: Keys::new(&config.prefix),
            // A fresh instance id at every open (R4).
            clock: Mutex::new(HybridClock::restored(env.random(), local.ceiling())),
            link: Link::new(patience, env.now()),
            local: local.clone(),
            config,
            env: env.clone(),
        });
        // From here on, dropping ends the tasks.
        let (flusher, supervisor) = (env.spawn(local.flush_loop()), env.spawn(recovery::supervise(inner.clone())));
        let cache = Self { inner: inner.clone(), flusher, supervisor, report };
        inner.keep_ceiling_ahead().await;
        timeout(&env, connect_timeout, inner.first_attempt()).await;
        Ok(cache)
    }

    /// What opening the local store found.
    pub fn open_report(&self) -> &OpenReport {
        &self.report
    }

    /// Reads a record.
    ///
    /// # Errors
    /// The local store failed while Redis is away, or the record in Redis is not of this version.
    pub async fn get(&self, uid: &Uid) -> Result<Read, Error> {
        self.bounded(self.inner.get(uid)).await
    }

    /// Merges `patch` into a record, and creates the record if there is none.
    ///
    /// # Errors
    /// A patch that cannot be kept exactly; the local store failed while Redis is away.
    pub async fn upsert(&self, uid: &Uid, patch: &Patch) -> Result<Written, Error> {
        patch.check()?;
        let now = Timestamp::from_millis(self.inner.env.wall_ms());
        self.bounded(self.inner.write(uid, |stamp, seen| Record::patched(patch, stamp, now, seen))).await
    }

    /// Removes a record. It is remembered as removed for [`Config::tombstone_ttl`].
    ///
    /// # Errors
    /// The local store failed while Redis is away.
    pub async fn remove(&self, uid: &Uid) -> Result<Written, Error> {
        self.bounded(self.inner.write(uid, |stamp, _| Record::tombstone(stamp))).await
    }

    /// The uids of all records under the prefix.
    ///
    /// # Errors
    /// The local store failed while Redis is away.
    pub async fn list(&self) -> Result<Listing, Error> {
        self.bounded(self.inner.list()).await
    }

    /// Removes every record that [`Self::list`] sees; a record that it does not see is untouched. Within the deadline:
    /// what was not reached or could not be removed is left, and the answer says so.
    ///
    /// # Errors
    /// The list failed.
    pub async fn clear(&self) -> Result<Cleared, Error> {
        let deadline = self.inner.env.now() + self.inner.config.op_deadline;
        let Listing { source, uids } = self.list().await?;
        let (mut removed, mut unknown) = (BTreeMap::new(), None);
        for uid in &uids {
            let left = deadline.saturating_sub(self.inner.env.now());
            if left <= self.inner.config.reply_timeout {
                // No time to wait for Redis and fall back: better not begun than cut off.
                break;
            }
            match timeout(&self.inner.env, left, self.remove(uid)).await {
                Some(Ok(written)) => {
                    removed.insert(uid.clone(), written.placement);
                }
                // One that cannot be removed should not keep the others.
                Some(Err(_)) => {}
                None => {
                    unknown = Some(uid.clone());
                    break;
                }
            }
        }
        // Without Redis, only what is held here was seen.
        Ok(Cleared { complete: source != Source::Local && removed.len() == uids.len(), unknown, removed })
    }

    /// Waits until nothing is pending, at most until the deadline, and returns how many records still are. While Redis is
    /// away it waits for the next attempt like everything else: a caller in a hurry is no reason for a stampede.
    pub async fn sync(&self) -> u64 {
        let inner = &self.inner;
        let drained = async {
            while inner.local.pending_count() > 0 {
                inner.link.pending(Event::Pending, inner.env.now());
                inner.env.sleep(SYNC_LOOK).await;
            }
        };
        timeout(&inner.env, inner.config.op_deadline, drained).await;
        inner.local.pending_count()
    }

    /// How the instance is.
    pub fn health(&self) -> Health {
        let inner = &self.inner;
        Health {
            state: inner.link.state(),
            pending_records: inner.local.pending_count(),
            connections: inner.link.connections(),
            damaged_records: inner.local.damaged(),
            store_error: inner.local.poisoned(),
        }
    }

    /// Writes everything to disk, ends the background tasks and gives the directory back. What is pending stays on disk
    /// for the next opening.
    ///
    /// # Errors
    /// Not everything could be written within the deadline.
    pub async fn close(self) -> Result<(), Error> {
        // Nothing new to write from there.
        self.supervisor.abort();
        self.bounded(async { Ok(self.inner.local.close().await?) }).await
    }

    async fn bounded<T>(&self, call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let deadline = self.inner.config.op_deadline;
        match timeout(&self.inner.env, deadline, call).await {
            Some(result) => result,
            None => Err(Error::DeadlineExceeded { deadline_ms: deadline.as_millis() }),
        }
    }
}

impl<E: Env> Drop for ContactCache<E> {
    fn drop(&mut self) {
        self.flusher.abort();
        self.supervisor.abort();
        if let Some(connection) = self.inner.link.connection() {
            connection.abandon();
        }
    }
}

/// What the calls and the background tasks of one cache share.
pub(crate) struct Inner<E: Env> {
    pub(crate) env: E,
    pub(crate) config: Config,
    pub(crate) keys: Keys,
    pub(crate) local: Arc<LocalStore<E>>,
    pub(crate) link: Link,
    clock: Mutex<HybridClock>,
}

impl<E: Env> Inner<E> {
    pub(crate) async fn get(&self, uid: &Uid) -> Result<Read, Error> {
        if let Some(connection) = self.link.usable() {
            // R7: what is held when the request is sent. A store that fails here holds nothing for this answer.
            let asked = self.local.read(uid).ok().flatten().unwrap_or_default();
            let sent_at_ms = self.env.wall_ms();
            let reply = self.ask(&connection, connection.read(&self.keys.record(uid))).await;
            match reply {
                Ok(reply) => {
                    if let Some(read) = self.take_reply(uid, &connection, &asked, &reply, sent_at_ms).await? {
                        return Ok(read);
                    }
                }
                Err(CallError::NotARecord { key, reason }) => return Err(Error::NotARecord { key, reason }),
                Err(CallError::Refused(_) | CallError::Unusable(_) | CallError::Unknown(_)) => {}
            }
        }
        self.local.check()?;
        let held = self.local.read(uid)?.unwrap_or_default();
        self.observe(held.record.newest()).await?;
        Ok(Read { source: Source::Local, record: self.view(uid, &held.record)? })
    }

    /// R1, R2, R5: joins Redis's reply with what was held when it was asked. None if Redis's data was lost meanwhile
    /// (R6): then the reply says nothing.
    async fn take_reply(
        &self,
        uid: &Uid,
        connection: &Connection,
        asked: &Held,
        reply: &Record,
        sent_at_ms: u64,
    ) -> Result<Option<Read>, Error> {
        self.observe(reply.newest().max(asked.record.newest())).await?;
        let republish_since_ms = self.republish_since_ms();
        let take = |held: &mut Held| {
            held.reclaim(&asked.record, reply, republish_since_ms);
            held.join_confirmed(reply, sent_at_ms, self.stale_ms());
        };
        // An error is a store that takes no writes: the answer stands, only no copy of it is kept.
        if matches!(self.local.update_in_generation(uid, &connection.generation, take), Ok(false)) {
            return Ok(None);
        }
        let mut shown = asked.clone();
        take(&mut shown);
        let source = if reply.covers(&shown.record) {
            Source::Shared
        } else {
            self.link.pending(Event::Pending, self.env.now());
            Source::Merged
        };
        Ok(Some(Read { source, record: self.view(uid, &shown.record)? }))
    }

    async fn write(&self, uid: &Uid, cells: impl Fn(Stamp, Option<&Record>) -> Record) -> Result<Written, Error> {
        let held = self.local.read(uid).ok().flatten();
        let seen = held.as_ref().map(|held| &held.record);
        // What is held was seen, whoever brought it here.
        if let Some(newest) = seen.and_then(Record::newest) {
            self.with_clock(|clock| clock.observe(newest));
        }
        let mut stamp = self.issue().await?;
        let mut written = cells(stamp, seen);
        if let Some(connection) = self.link.usable() {
            let key = self.keys.record(uid);
            let deadline = self.env.now() + self.config.reply_timeout;
            for _ in 0..CONFLICTS_MAX {
                let sent_at_ms = self.env.wall_ms();
                let left = deadline.saturating_sub(self.env.now());
                if left.is_zero() {
                    break;
                }
                let merge = connection.merge(&key, Mode::All, &written, self.tombstone_ttl_ms());
                match self.ask_within(&connection, left, merge).await {
                    Ok(Merged::Applied(_)) => {
                        let copy = |held: &mut Held| held.join_confirmed(&written, sent_at_ms, self.stale_ms());
                        match self.local.update_in_generation(uid, &connection.generation, copy) {
                            // An error means that no copy is kept, but Redis has it.
                            Ok(true) | Err(_) => return Ok(Written { placement: Placement::Shared, stamp }),
                            // R6: a success from before the data was lost counts as unknown.
                            Ok(false) => break,
                        }
                    }
                    // Definite: nothing was written, so another stamp may be tried.
                    Ok(Merged::Conflict(in_the_way)) => {
                        self.observe(Some(in_the_way)).await?;
                        stamp = self.issue().await?;
                        written = cells(stamp, seen);
                    }
                    Err(CallError::NotARecord { key, reason }) => return Err(Error::NotARecord { key, reason }),
                    // R10: after an attempt that may yet take effect, the same stamp; never mode `all` again.
                    Err(CallError::Refused(_) | CallError::Unusable(_) | CallError::Unknown(_)) => break,
                }
            }
        }
        let ticket = self.local.update(uid, |held| held.join_pending(&written))?;
        self.link.pending(Event::Pending, self.env.now());
        self.local.durable(ticket).await?;
        Ok(Written { placement: Placement::Local, stamp })
    }

    async fn list(&self) -> Result<Listing, Error> {
        if let Some(connection) = self.link.usable() {
            // R7: from before the scan. It may pass a key before what was pending is merged there, and nothing is
            // pending any more when it ends.
            let pending = self.local.pending().unwrap_or_default();
            if let Ok(mut found) = self.scan(&connection).await
                && self.local.generation().0.as_deref() == Some(&*connection.generation)
            {
                self.observe(found.values().filter_map(Record::newest).max()).await?;
                let source = join_existence(&mut found, &pending);
                found.retain(|_, record| record.is_alive());
                return Ok(Listing { source, uids: found.into_keys().collect() });
            }
        }
        Ok(Listing { source: Source::Local, uids: self.local.uids()? })
    }

    /// All records of the prefix in Redis: each page within the time of a reply, all within half of the deadline, so that
    /// there is time to fall back. A uid that is there from before the call to its end is in it.
    async fn scan(&self, connection: &Connection) -> Result<BTreeMap<Uid, Record>, CallError> {
        let end = self.env.now() + self.config.op_deadline / 2;
        let (mut found, mut cursor) = (BTreeMap::new(), "0".to_owned());
        while self.env.now() < end {
            let (next, page) = self.ask(connection, connection.scan_page(&self.keys, &cursor)).await?;
            found.extend(page);
            if next == "0" {
                return Ok(found);
            }
            cursor = next;
        }
        Err(CallError::Refused("the list takes longer than half of the deadline".to_owned()))
    }

    fn view(&self, uid: &Uid, record: &Record) -> Result<Option<CachedContact>, Error> {
        record.view(uid).map_err(|error| Error::NotARecord { key: self.keys.record(uid), reason: error.to_string() })
    }

    async fn ask<T>(
        &self,
        connection: &Connection,
        request: impl Future<Output = Result<T, CallError>>,
    ) -> Result<T, CallError> {
        self.ask_within(connection, self.config.reply_timeout, request).await
    }

    /// Waits for Redis, no longer than this, and tells the link what a failure means for the connection.
    async fn ask_within<T>(
        &self,
        connection: &Connection,
        limit: Duration,
        request: impl Future<Output = Result<T, CallError>>,
    ) -> Result<T, CallError> {
        let Some(result) = timeout(&self.env, limit, request).await else {
            // A connection with a timed-out reply is suspect: it is probed, then replaced.
            self.link.report(connection.id, Event::ReplyTimedOut, self.env.now());
            return Err(CallError::timed_out());
        };
        match &result {
            Err(CallError::Unusable(_) | CallError::Unknown(_)) => {
                self.link.lose(connection.id, self.env.now(), self.env.random());
            }
            Ok(_) | Err(CallError::Refused(_) | CallError::NotARecord { .. }) => {}
        }
        result
    }

    async fn first_attempt(&self) {
        loop {
            let mut settled = std::pin::pin!(self.link.settled.notified());
            settled.as_mut().enable();
            if self.link.has_settled() {
                return;
            }
            settled.await;
        }
    }

    /// A stamp above all issued and seen, below a durable ceiling (R4).
    async fn issue(&self) -> Result<Stamp, Error> {
        loop {
            let issued = self.with_clock(|clock| clock.issue(self.env.wall_ms()));
            match issued {
                Ok(stamp) => return Ok(stamp),
                Err(NoStamp::RaiseCeiling(ceiling)) => self.raise_ceiling(ceiling).await?,
                Err(NoStamp::Exhausted) => return Err(Error::NoStampLeft),
            }
        }
    }

    /// Advances the clock beyond a stamp that is about to be answered (R4).
    pub(crate) async fn observe(&self, seen: Option<Stamp>) -> Result<(), Error> {
        if let Some(ceiling) = seen.and_then(|seen| self.with_clock(|clock| clock.observe(seen))) {
            self.raise_ceiling(ceiling).await?;
        }
        Ok(())
    }

    async fn raise_ceiling(&self, ceiling: Head) -> Result<(), Error> {
        let ticket = self.local.raise_ceiling(ceiling)?;
        self.local.durable(ticket).await?;
        self.with_clock(|clock| clock.raised(ceiling));
        Ok(())
    }

    /// Raises the ceiling before a call has to wait for it.
    pub(crate) async fn keep_ceiling_ahead(&self) {
        if let Some(ceiling) = self.with_clock(|clock| clock.ceiling_due(self.env.wall_ms())) {
            // If the disk fails, the call that needs the ceiling says so.
            let _ = self.raise_ceiling(ceiling).await;
        }
    }

    fn with_clock<T>(&self, use_clock: impl FnOnce(&mut HybridClock) -> T) -> T {
        use_clock(&mut self.clock.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn tombstone_ttl_ms(&self) -> u64 {
        u64::try_from(self.config.tombstone_ttl.as_millis()).unwrap_or(u64::MAX)
    }

    /// R9: copies confirmed since then may be published again; older ones yield to Redis, which may have forgotten a
    /// removal of them. The margin covers clocks that differ and requests under way.
    pub(crate) fn republish_since_ms(&self) -> u64 {
        self.env.wall_ms().saturating_sub(self.tombstone_ttl_ms() / 8 * 7)
    }

    /// A read that tells nothing new refreshes a copy's note only if it is older than this, to spare the disk.
    pub(crate) fn stale_ms(&self) -> u64 {
        self.tombstone_ttl_ms() / 16
    }
}

/// R2: joins what Redis does not have yet into what it listed.
fn join_existence(found: &mut BTreeMap<Uid, Record>, pending: &BTreeMap<Uid, Arc<Held>>) -> Source {
    let mut source = Source::Shared;
    for (uid, held) in pending {
        let record = found.entry(uid.clone()).or_default();
        let before = record.is_alive();
        record.join(&held.record);
        if record.is_alive() != before {
            source = Source::Merged;
        }
    }
    source
}
