//! What the calls and the background tasks of one cache share: the tiers, the clock of stamps, and how Redis is asked. What is merged
//! apart from the other records is in `apart`, what is on its way to Redis in `replaying`.

mod apart;
mod replaying;

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

pub(crate) use self::{
    apart::{Apart, Sorted, Suspect},
    replaying::Replaying,
};
use crate::{
    answer::{Health, OpenError, OtherRedis},
    config::{Config, OnLoss},
    contact::{CachedContact, Patch},
    env::{Env, timeout},
    error::Error,
    health::{HealthEvent, Patience},
    key::{Keys, Uid},
    limits::bytes_of,
    local::{Asking, CLOCK_DOUBT_MS, Estimate, Held, LocalStore, Offsets, OpenReport, Shifts},
    metrics::Metrics,
    record::{Life, NotARecord, Record, SentLife},
    shared::{
        CallError,
        clock::{AskedAt, SharedClock},
        connection::Connection,
        link::Link,
        reply::Decoder,
        script::Terms,
        side::{Side, open_beside},
    },
    stamp::{HybridClock, NoStamp, Stamp, StampHead},
    telemetry::log,
};

/// Both tiers of a cache, and what goes with them.
pub(crate) struct Tiers<E: Env> {
    pub(crate) env: E,
    pub(crate) config: Config,
    pub(crate) keys: Keys,
    pub(crate) local: Arc<LocalStore<E>>,
    pub(crate) link: Link,
    pub(crate) metrics: Metrics,
    pub(crate) replaying: Replaying,
    pub(crate) apart: Apart,
    pub(crate) decoder: Decoder,
    /// Another Redis than the store is for, which was met and left alone.
    pub(crate) other_redis: Mutex<Option<OtherRedis>>,
    clock: Mutex<HybridClock>,
    future_stamps: AtomicU64,
    /// Corrects what was estimated before this cache or those before it met Redis (L3).
    shifts: Mutex<Arc<Shifts>>,
}

impl<E: Env> Tiers<E> {
    pub(crate) async fn open(env: E, config: Config) -> Result<(Arc<Self>, OpenReport), OpenError> {
        // A fresh instance id at every open (R4).
        let id = env.random();
        let (local, report) = LocalStore::open(&env, &config, id).await?;
        let patience = Patience {
            backoff_first: config.backoff_first,
            backoff_max: config.backoff_max,
            probe_interval: config.probe_interval,
        };
        let inner = Self {
            keys: Keys::new(&config.prefix),
            clock: Mutex::new(HybridClock::restored(id, local.ceiling())),
            link: Link::new(patience, env.now(), clock_before_contact(&env, local.clock_offset_ms())),
            shifts: Mutex::new(Arc::new(Shifts { by_clock: local.clock_shifts(), last: None })),
            metrics: Metrics::new(&config.prefix),
            replaying: Replaying::default(),
            apart: Apart::default(),
            decoder: Decoder::default(),
            local,
            config,
            env,
            other_redis: Mutex::default(),
            future_stamps: AtomicU64::new(0),
        };
        inner.metrics.opened(&report);
        Ok((Arc::new(inner), report))
    }

    pub(crate) fn health(&self) -> Health {
        let (view, usage) = (self.link.view(self.env.now()), self.local.usage());
        let (isolated_records, isolated) = self.apart.named(self.env.now(), |uid| self.local.is_pending(uid));
        Health {
            state: view.state,
            state_for: view.state_for,
            away_because: view.away_because,
            refused: view.refused.or_else(|| self.apart.put_off()),
            isolated_records,
            isolated,
            pending_records: self.local.pending_count(),
            pending_bytes: usage.owed_bytes,
            pending_for: self.pending_for(),
            copies_bytes: usage.copies_bytes,
            forgotten_copies: usage.evicted + usage.not_admitted,
            attempts: view.attempts,
            connections: view.connections,
            damaged_records: usage.damaged,
            quarantined_files: usage.quarantined,
            rewrites: usage.rewrites,
            failed_flushes: usage.failed_flushes,
            store_error: self.local.poisoned(),
            store_degraded: self.local.degraded(),
            exposed: self.local.exposed(),
            other_redis: self.other_redis.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            future_stamps: self.future_stamps.load(Ordering::Relaxed),
        }
    }

    fn pending_for(&self) -> Option<Duration> {
        let since_ms = self.local.pending_since_ms()?;
        Some(Duration::from_millis(self.env.wall_ms().saturating_sub(since_ms)))
    }

    /// Whether a patch can be kept as it is. Its size first: the rest looks at all of it.
    pub(crate) fn check(&self, patch: &Patch) -> Result<(), Error> {
        self.config.record_limits().check_patch(patch)?;
        Ok(patch.check()?)
    }

    /// As [`Self::check`], of all that an import writes.
    pub(crate) fn check_import(&self, contact: &CachedContact) -> Result<(), Error> {
        let CachedContact { contacts, profile, metadata, .. } = contact;
        self.config.record_limits().check_parts(contacts, [profile, metadata], std::iter::empty())?;
        Ok(Patch::from(contact.clone()).check()?)
    }

    /// What is held of a record. A read that failed is an error: an answer without what is held could go back behind an
    /// earlier one.
    pub(crate) fn held(&self, uid: &Uid) -> Result<Arc<Held>, Error> {
        let mut held = self.local.read(uid)?.unwrap_or_default();
        if held.is_provisional() {
            Arc::make_mut(&mut held).correct(&self.shifts());
        }
        Ok(held)
    }

    /// See [`Held::correct`].
    pub(crate) fn shifts(&self) -> Arc<Shifts> {
        self.shifts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The record as the application sees it now.
    pub(crate) fn view(&self, uid: &Uid, record: &Record, now_ms: u64) -> Result<Option<Arc<CachedContact>>, Error> {
        let view = record.view(uid, now_ms).map_err(|error| self.not_a_record(uid, &error))?;
        Ok(view.map(Arc::new))
    }

    pub(crate) fn not_a_record(&self, uid: &Uid, error: &NotARecord) -> Error {
        Error::NotARecord { key: self.keys.record(uid), reason: error.to_string() }
    }

    /// Waits for Redis, no longer than this, and tells the link what a failure means for the connection. The request stays
    /// where it is: handed down by value, it would be in every caller's future once more.
    pub(crate) async fn ask_within<T>(
        &self,
        connection: &Connection,
        limit: Duration,
        request: Pin<&mut impl Future<Output = Result<T, CallError>>>,
    ) -> Result<T, CallError> {
        let Some(result) = timeout(&self.env, limit, request).await else {
            // A connection with a timed-out reply is suspect: it is probed, then replaced. One that had less time than a
            // reply may take (the second attempt of a write that met a conflict) has shown nothing.
            if limit >= self.config.reply_timeout {
                self.link.report(connection.id, HealthEvent::ReplyTimedOut, self.env.now());
            }
            return Err(CallError::timed_out());
        };
        match &result {
            Err(CallError::Unusable(reason) | CallError::Unknown(reason)) => {
                self.link.lose(connection.id, reason, self.env.now(), self.env.random());
            }
            Err(error) => self.note_refusal(error),
            Ok(_) => {}
        }
        result
    }

    /// No refusal without a line in the log.
    pub(crate) fn note_refusal(&self, error: &CallError) {
        if matches!(error, CallError::Refused(_) | CallError::NotARecord { .. }) {
            self.link.refuse_call(&error.to_string(), self.env.now());
        }
    }

    /// As [`Self::ask_within`] the time that a reply may take.
    pub(crate) async fn ask<T>(
        &self,
        connection: &Connection,
        request: Pin<&mut impl Future<Output = Result<T, CallError>>>,
    ) -> Result<T, CallError> {
        self.ask_within(connection, self.config.reply_timeout, request).await
    }

    /// The connection that the write of a record belongs on, if that is not the shared one: a large record would keep the
    /// calls behind it waiting.
    ///
    /// # Errors
    /// It could not be opened in time. Nothing was sent.
    pub(crate) async fn aside(
        &self,
        record: &Record,
        shared: &Connection,
        limit: Duration,
    ) -> Result<Option<Connection>, CallError> {
        if bytes_of(record) <= self.apart.large_bytes() {
            return Ok(None);
        }
        // Rare, and large: in a box, so that every other write is not moved about with it.
        Ok(Some(Box::pin(self.beside(&self.apart.calls, shared, limit)).await?))
    }

    /// A connection beside the shared one, within this time.
    pub(crate) async fn beside(
        &self,
        side: &Side,
        shared: &Connection,
        limit: Duration,
    ) -> Result<Connection, CallError> {
        let opening = open_beside(shared, &self.env, &self.config, &self.link.addresses, &self.keys);
        let beside = side.beside(shared, self.env.now(), opening);
        timeout(&self.env, limit, beside).await.unwrap_or(Err(CallError::timed_out()))
    }

    pub(crate) async fn first_attempt(&self) {
        loop {
            let mut settled = pin!(self.link.settled.notified());
            settled.as_mut().enable();
            if self.link.has_settled() {
                return;
            }
            settled.await;
        }
    }

    /// A stamp above all issued and seen, below a durable ceiling (R4).
    pub(crate) async fn issue(&self) -> Result<Stamp, Error> {
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
        if let Some(ceiling) = seen.and_then(|seen| self.see(seen)) {
            self.raise_ceiling(ceiling).await?;
        }
        Ok(())
    }

    /// Advances the clock beyond a stamp, and says which ceiling has to be durable before that is answered.
    pub(crate) fn see(&self, seen: Stamp) -> Option<StampHead> {
        let far_ahead =
            self.env.wall_ms().saturating_add(u64::try_from(Health::FAR_FUTURE.as_millis()).unwrap_or(u64::MAX));
        let (pushed, ceiling) = self.with_clock(|clock| (clock.is_behind(seen), clock.observe(seen)));
        if pushed && seen.millis() > far_ahead {
            self.future_stamps.fetch_add(1, Ordering::Relaxed);
            log!(warn, stamp = %seen, "a stamp is far in the future: the clock of another instance is wrong");
        }
        ceiling
    }

    async fn raise_ceiling(&self, ceiling: StampHead) -> Result<(), Error> {
        self.local.raise_ceiling(ceiling).await?;
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

    /// The estimate of Redis's clock by which records are shown, in milliseconds (L6).
    pub(crate) fn shared_ms(&self) -> u64 {
        self.link.clock().latest_ms(self.env.now(), self.env.wall_ms())
    }

    /// Whether the two clocks of this instance disagree about the time since Redis's was heard: after a sleep, or a step of the
    /// wall clock. Then Redis should be asked before anything is hidden for good.
    pub(crate) fn is_clock_in_doubt(&self) -> bool {
        let (clock, now) = (self.link.clock(), self.env.now());
        clock.latest_ms(now, self.env.wall_ms()) > clock.elapsed_ms(now).saturating_add(CLOCK_DOUBT_MS)
    }

    /// Asks for a sign of life: the marker of the generation (none if there is none), and Redis's clock, which is taken over.
    ///
    /// # Errors
    /// No answer came, or the clock that it tells is damaged.
    pub(crate) async fn hear(&self, connection: &Connection) -> Result<Option<String>, CallError> {
        let asked = AskedAt::now(&self.env);
        let (found, clock_ms) = connection.probe(&self.keys).await?;
        // A process that stood still meanwhile reads a clock of long ago. The next probe tells the present one.
        if !asked.is_longer_ago_than(self.config.reply_timeout, &self.env) {
            let (told, by) = ((clock_ms, asked), (&self.env, &self.config));
            self.read_clock(connection.confirm_clock(&self.keys, told, self.shared_ms(), by).await?);
        }
        Ok(found)
    }

    /// Asks for Redis's clock. Without an answer in time the later of the own clocks counts.
    pub(crate) async fn hear_in_doubt(&self, connection: &Connection) {
        let _ = timeout(&self.env, self.config.reply_timeout, self.hear(connection)).await;
    }

    /// Asks for Redis's clock if its answer to a merge shows that the estimate is ahead: the clock was set back, and no probe has asked since.
    /// By a wrong estimate copies of the life that was told would pass for over.
    pub(crate) async fn hear_if_cut(&self, connection: &Connection, sent: SentLife, told: Option<Life>) {
        if sent.is_cut(told, CLOCK_DOUBT_MS) {
            // Rare: in a box, so that every other write is not moved about with it.
            Box::pin(self.hear_in_doubt(connection)).await;
        }
    }

    /// Redis's clock said this just now. At the first contact of this cache, all that it had estimated before is known to be off
    /// by the difference (L3).
    pub(crate) fn read_clock(&self, clock_ms: u64) {
        let (now, wall_ms) = (self.env.now(), self.env.wall_ms());
        let before = self.link.read_clock(SharedClock { clock_ms, at: now, wall_ms, is_told: true });
        if before.is_told {
            return;
        }
        let clock = self.with_clock(|clock| clock.instance());
        let (shift_ms, offset_ms) = (clock_ms.wrapping_sub(before.elapsed_ms(now)), clock_ms.wrapping_sub(wall_ms));
        let (shift_ms, offset_ms) = (shift_ms.cast_signed(), offset_ms.cast_signed());
        let last = Some(Offsets { before_ms: self.local.clock_offset_ms(), told_ms: offset_ms });
        // A store that takes no writes forgets it, and what is pending there is corrected by the next opening's contact.
        let _ = self.local.note_contact(clock, shift_ms, offset_ms);
        let mut by_clock = self.local.clock_shifts();
        by_clock.insert(clock, shift_ms);
        let shifts = Shifts { by_clock, last };
        *self.shifts.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(shifts);
    }

    /// The life that a write of now asks for.
    pub(crate) fn estimate(&self) -> Estimate {
        let ttl_ms = self.config.record_ttl.map(|ttl| {
            let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
            // Up to a tenth less, so that what was written together does not expire together.
            ttl_ms - self.env.random() % (ttl_ms / 10 + 1)
        });
        let clock = self.link.clock();
        // By the later of the two clocks, as reads are: after a sleep the monotonic one is behind, and the life would be over
        // before Redis hears of it. Where the wall clock was set forward instead, the script bounds what is too long.
        let now = self.env.now();
        let latest_ms = clock.latest_ms(now, self.env.wall_ms());
        let life = Life::from_now(latest_ms, ttl_ms);
        // Of a life without an end there is nothing to correct.
        let is_provisional = life.has_end() && !clock.is_told;
        let of_this = is_provisional.then(|| (self.with_clock(|clock| clock.instance()), self.local.clock_offset_ms()));
        let ahead_ms = latest_ms - clock.elapsed_ms(now);
        let ahead_ms = if is_provisional && ahead_ms > CLOCK_DOUBT_MS { ahead_ms } else { 0 };
        let (clock, offset_ms) = of_this.unzip();
        Estimate { life, ttl_ms, clock, offset_ms, ahead_ms }
    }

    /// By what a reply of Redis to a request sent then is judged.
    pub(crate) fn asking(&self, sent_at_ms: u64, behind_replay: bool) -> Asking {
        let (clock, now) = (self.link.clock(), self.env.now());
        let clock_error_ms = u64::try_from(self.config.reply_timeout.as_millis()).unwrap_or(u64::MAX);
        Asking {
            sent_at_ms,
            behind_replay,
            now_ms: clock.latest_ms(now, self.env.wall_ms()),
            ended_by_ms: clock.elapsed_ms(now).saturating_add(clock_error_ms),
            republish_since_ms: self.republish_since_ms(),
            stale_ms: self.stale_ms(),
        }
    }

    pub(crate) fn terms(&self, life: SentLife) -> Terms {
        Terms { tombstone_ttl_ms: self.tombstone_ttl_ms(), life }
    }

    fn tombstone_ttl_ms(&self) -> u64 {
        u64::try_from(self.config.tombstone_ttl.as_millis()).unwrap_or(u64::MAX)
    }

    /// R9: copies confirmed since then may be published again; older ones yield to Redis, which may have forgotten a
    /// removal of them. The margin covers clocks that differ and requests under way.
    pub(crate) fn republish_since_ms(&self) -> u64 {
        match self.config.on_loss {
            OnLoss::Republish => self.env.wall_ms().saturating_sub(self.tombstone_ttl_ms() / 8 * 7),
            OnLoss::Accept => u64::MAX,
        }
    }

    /// A read that tells nothing new refreshes a copy's note only if it is older than this, to spare the disk.
    pub(crate) fn stale_ms(&self) -> u64 {
        self.tombstone_ttl_ms() / 16
    }
}

/// The estimate of Redis's clock by this instance's wall clock, until Redis has told its own.
fn clock_before_contact(env: &impl Env, offset_ms: i64) -> SharedClock {
    let wall_ms = env.wall_ms();
    SharedClock { clock_ms: wall_ms.saturating_add_signed(offset_ms), at: env.now(), wall_ms, is_told: false }
}
