//! The cache that an application opens. Here, and only here, it is decided which tier serves a call: `read`, `write`,
//! `list`. What they ask for and answer is in [`answer`](crate::answer), what they share in [`tiers`](crate::tiers).
//! `import` takes over what another cache kept.

mod import;
mod list;
mod read;
mod write;

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    pin::{Pin, pin},
    sync::{Arc, Weak},
    time::Duration,
};

use self::write::Demand;
use crate::{
    answer::{Cleared, Freshness, Health, Imported, Listing, OpenError, Read, Written},
    config::Config,
    contact::{CachedContact, Patch},
    env::{Env, Task, TokioEnv, timeout},
    error::Error,
    health::{HealthEvent, State},
    key::Uid,
    local::OpenReport,
    metrics::{MeasuredCall, Tier, Tiered},
    recovery,
    tiers::Tiers,
};

/// How often [`ContactCache::sync`] looks.
const SYNC_LOOK: Duration = Duration::from_millis(5);

/// A cache of contact records, shared by the instances of an application.
///
/// The cache's background tasks live on the runtime of the environment that it was opened with. Calls may be made from any
/// other runtime, or none, as long as that one lives and is driven. Where it has ended, each call is
/// [`Error::BackgroundEnded`]; where it is idle, reads go on from what is held, and what needs the disk or Redis ends by its
/// deadline. The directory is given back when that runtime is dropped.
///
/// Every call returns within [`Config::op_deadline`]. Dropping a call's future harms no other call; a write whose future
/// is dropped may take effect, or not.
pub struct ContactCache<E: Env = TokioEnv> {
    inner: Arc<Tiers<E>>,
    flusher: E::Task,
    supervisor: E::Task,
    /// Held by the supervisor while it runs.
    supervised: Weak<()>,
    report: OpenReport,
}

impl<E: Env> ContactCache<E> {
    /// Opens the cache. Waits for the first attempt to connect, for at most [`Config::connect_timeout`]; without Redis
    /// the cache opens all the same, and works locally until Redis is there.
    ///
    /// # Errors
    /// A setting that cannot be, or a local store that cannot be opened, or that failed to write meanwhile: then the cache
    /// can be opened again.
    pub async fn open(env: E, config: Config) -> Result<Self, OpenError> {
        config.check()?;
        let connect_timeout = config.connect_timeout;
        let (inner, report) = Tiers::open(env, config).await?;
        let env = &inner.env;
        // From here on, dropping ends the tasks.
        let running = Arc::new(());
        let supervised = Arc::downgrade(&running);
        let flusher = env.spawn(inner.local.clone().flush_loop());
        let supervise = recovery::supervise(inner.clone());
        let supervisor = env.spawn(async move {
            supervise.await;
            drop(running);
        });
        let cache = Self { inner: inner.clone(), flusher, supervisor, supervised, report };
        if cache.has_ended() {
            return Err(OpenError::BackgroundEnded);
        }
        inner.keep_ceiling_ahead().await;
        timeout(&inner.env, connect_timeout, inner.first_attempt()).await;
        if let Err(error) = inner.local.check() {
            // Only to give the directory back: what could not be written is in the error.
            let _ = cache.close().await;
            return Err(error.into());
        }
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
        self.get_with(uid, Freshness::Any).await
    }

    /// Reads a record that is as fresh as this.
    ///
    /// # Errors
    /// As [`Self::get`]; [`Error::NotShared`] and [`Error::TooOld`] if what could be told is not as fresh.
    #[tracing::instrument(level = "debug", name = "contact_cache.get", skip_all, fields(%uid))]
    pub async fn get_with(&self, uid: &Uid, freshness: Freshness) -> Result<Read, Error> {
        let read = self.bounded(MeasuredCall::Get, pin!(self.inner.get(uid, freshness))).await;
        if let Ok(read) = &read {
            self.inner.metrics.read(read.record.is_some());
        }
        read
    }

    /// Reads several records, in few round trips. Each is read by itself: they are not a snapshot of one moment.
    ///
    /// # Errors
    /// The deadline. What keeps one record from being read, as for [`Self::get_with`], is in its place.
    #[tracing::instrument(level = "debug", name = "contact_cache.get_many", skip_all, fields(uids = uids.len()))]
    pub async fn get_many(
        &self,
        uids: &BTreeSet<Uid>,
        freshness: Freshness,
    ) -> Result<BTreeMap<Uid, Result<Read, Error>>, Error> {
        let reads =
            self.bounded(MeasuredCall::GetMany, pin!(async { Ok(self.inner.get_many(uids, freshness).await) })).await;
        for read in reads.iter().flat_map(BTreeMap::values).flatten() {
            self.inner.metrics.read(read.record.is_some());
        }
        reads
    }

    /// Merges `patch` into a record, and creates the record if there is none.
    ///
    /// # Errors
    /// A patch that cannot be kept exactly, or that makes the record too large ([`Config::record_bytes_max`]); the local store
    /// failed, or is full, while Redis is away.
    #[tracing::instrument(level = "debug", name = "contact_cache.upsert", skip_all, fields(%uid))]
    pub async fn upsert(&self, uid: &Uid, patch: &Patch) -> Result<Written, Error> {
        self.inner.check(patch)?;
        self.bounded(MeasuredCall::Upsert, pin!(self.inner.upsert(uid, patch, Demand::Any))).await
    }

    /// As [`Self::upsert`], in Redis or not at all: nothing is kept for later.
    ///
    /// # Errors
    /// As [`Self::upsert`]; [`Error::NotShared`] if Redis did not take it. If it was sent, it may take effect all the
    /// same, see [`Error::effect`].
    #[tracing::instrument(level = "debug", name = "contact_cache.upsert_shared", skip_all, fields(%uid))]
    pub async fn upsert_shared(&self, uid: &Uid, patch: &Patch) -> Result<Written, Error> {
        self.inner.check(patch)?;
        self.bounded(MeasuredCall::Upsert, pin!(self.inner.upsert(uid, patch, Demand::Shared))).await
    }

    /// Removes a record. It is remembered as removed for [`Config::tombstone_ttl`].
    ///
    /// # Errors
    /// The local store failed, or is full, while Redis is away.
    #[tracing::instrument(level = "debug", name = "contact_cache.remove", skip_all, fields(%uid))]
    pub async fn remove(&self, uid: &Uid) -> Result<Written, Error> {
        self.bounded(MeasuredCall::Remove, pin!(self.inner.remove(uid, Demand::Any))).await
    }

    /// As [`Self::remove`], in Redis or not at all.
    ///
    /// # Errors
    /// As for [`Self::upsert_shared`].
    #[tracing::instrument(level = "debug", name = "contact_cache.remove_shared", skip_all, fields(%uid))]
    pub async fn remove_shared(&self, uid: &Uid) -> Result<Written, Error> {
        self.bounded(MeasuredCall::Remove, pin!(self.inner.remove(uid, Demand::Shared))).await
    }

    /// Takes over a record that another cache kept: into Redis or not at all.
    ///
    /// It is joined field by field like any other write, but under a stamp below all that this client ever issues, made
    /// of its `last_updated_at`. So it fills what is missing and wins over nothing that was written through this client,
    /// before or after, not even a removal that is still remembered ([`Config::tombstone_ttl`]); of two
    /// imports the one updated later wins, field by field. Its times join: `first_revealed_at` as a minimum,
    /// `last_updated_at` as a maximum. A null at the top level of the profile is left out, as in a [`Patch`]. Doing it
    /// again, after an error too, changes nothing that is there.
    ///
    /// # Errors
    /// As for [`Self::upsert_shared`].
    #[tracing::instrument(level = "debug", name = "contact_cache.import", skip_all, fields(uid = %contact.uid))]
    pub async fn import(&self, contact: &CachedContact) -> Result<Imported, Error> {
        self.inner.check_import(contact)?;
        self.bounded(MeasuredCall::Import, pin!(self.inner.import(contact, true))).await
    }

    /// What [`Self::import`] would do now. Nothing is written.
    ///
    /// # Errors
    /// As for [`Self::import`].
    #[tracing::instrument(level = "debug", name = "contact_cache.preview_import", skip_all, fields(uid = %contact.uid))]
    pub async fn preview_import(&self, contact: &CachedContact) -> Result<Imported, Error> {
        self.inner.check_import(contact)?;
        self.bounded(MeasuredCall::Import, pin!(self.inner.import(contact, false))).await
    }

    /// The uids of all records under the prefix.
    ///
    /// # Errors
    /// The local store failed while Redis is away.
    #[tracing::instrument(level = "debug", name = "contact_cache.list", skip_all)]
    pub async fn list(&self) -> Result<Listing, Error> {
        self.bounded(MeasuredCall::List, pin!(self.inner.list())).await
    }

    /// Removes every record that [`Self::list`] sees; a record that it does not see is untouched. Within the deadline:
    /// what was not reached or could not be removed is left, and the answer says so.
    ///
    /// # Errors
    /// The list failed.
    #[tracing::instrument(level = "debug", name = "contact_cache.clear", skip_all)]
    pub async fn clear(&self) -> Result<Cleared, Error> {
        let begun = self.inner.env.now();
        let listing = self.list().await?;
        let cleared = Ok(self.inner.clear(listing, begun + self.inner.config.op_deadline).await);
        self.inner.metrics.called(MeasuredCall::Clear, cleared.tier(), self.inner.env.now().saturating_sub(begun));
        cleared
    }

    /// Waits until nothing is pending, at most until the deadline, and returns how many records still are. While Redis is
    /// away it waits for the next attempt like everything else: a caller in a hurry is no reason for a stampede.
    #[tracing::instrument(level = "debug", name = "contact_cache.sync", skip_all)]
    pub async fn sync(&self) -> u64 {
        let inner = &self.inner;
        let begun = inner.env.now();
        let drained = async {
            while inner.local.pending_count() > 0 && !self.has_ended() {
                inner.link.pending(HealthEvent::Pending, inner.env.now());
                inner.env.sleep(SYNC_LOOK).await;
            }
        };
        timeout(&inner.env, inner.config.op_deadline, drained).await;
        let left = inner.local.pending_count();
        let tier = if left == 0 { Tier::Shared } else { Tier::Local };
        inner.metrics.called(MeasuredCall::Sync, tier, inner.env.now().saturating_sub(begun));
        left
    }

    /// How the instance is.
    pub fn health(&self) -> Health {
        let mut health = self.inner.health();
        if self.has_ended() {
            health.state = State::Degraded;
            health.away_because = Some(Error::BackgroundEnded.to_string());
        }
        health
    }

    /// Completes once the instance is [`State::Connected`], at once if it is. An application that must not serve before can wait for
    /// this. It takes as long as Redis is away, and never completes if the cache ends before. The future does not borrow from the
    /// cache and may be dropped at any time.
    pub fn connected(&self) -> impl Future<Output = ()> + Send + use<E> {
        let (inner, connected) = (Arc::downgrade(&self.inner), self.inner.link.connected.clone());
        let supervised = self.supervised.clone();
        async move {
            loop {
                let mut stands = pin!(connected.notified());
                stands.as_mut().enable();
                let is_connected = inner.upgrade().is_some_and(|inner| inner.link.state() == State::Connected);
                if is_connected && supervised.strong_count() > 0 {
                    return;
                }
                stands.await;
            }
        }
    }

    /// Writes everything to disk, ends the background tasks and gives the directory back. What is pending stays on disk
    /// for the next opening.
    ///
    /// # Errors
    /// Not everything could be written within the deadline, or the background tasks had ended before.
    #[tracing::instrument(level = "debug", name = "contact_cache.close", skip_all)]
    pub async fn close(self) -> Result<(), Error> {
        if self.has_ended() {
            return Err(Error::BackgroundEnded);
        }
        // Nothing new to write from there.
        self.supervisor.abort();
        self.in_time(async { Ok(self.inner.local.close().await?) }).await
    }

    /// Whether the task that owns the connection has ended, which it does by an abort of ours, or with its runtime.
    fn has_ended(&self) -> bool {
        self.supervisor.is_finished()
    }

    /// A call within its deadline, and told to whoever monitors. It stays where it is: moving it costs more than the rest.
    async fn bounded<T>(
        &self,
        call: MeasuredCall,
        work: Pin<&mut (impl Future<Output = Result<T, Error>> + Send)>,
    ) -> Result<T, Error>
    where
        Result<T, Error>: Tiered,
    {
        if self.has_ended() {
            return Err(Error::BackgroundEnded);
        }
        let begun = self.inner.env.now();
        let answer = self.in_time(work).await;
        self.inner.metrics.called(call, answer.tier(), self.inner.env.now().saturating_sub(begun));
        answer
    }

    async fn in_time<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let deadline = self.inner.config.op_deadline;
        match timeout(&self.inner.env, deadline, work).await {
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
        self.inner.apart.close();
    }
}
