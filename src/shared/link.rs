//! The one connection that an instance has at a time, and its view of Redis. Calls take the connection from here and
//! report what they met; the recovery task acts on it.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;

use super::{
    SILENT, addresses::Addresses, clock::SharedClock, connection::Connection, horizon::Horizon, said::CLOSED,
    told::ToldReasons,
};
use crate::{
    health::{Breaker, HealthEvent, Next, Patience, State},
    telemetry::log,
};

/// How long what a call met is told as the present state of things.
const MET_FOR: Duration = Duration::from_mins(1);

/// Connection and health, shared by all calls of a cache.
pub(crate) struct Link {
    inner: Mutex<LinkState>,
    /// Which stamps are believed at once.
    pub(crate) horizon: Arc<Horizon>,
    /// The addresses of Redis's name.
    pub(crate) addresses: Addresses,
    /// Wakes the recovery task.
    pub(crate) wake: Notify,
    /// Wakes whoever waits for the end of an attempt to connect.
    pub(crate) settled: Notify,
    /// Wakes the tasks that wait for [`State::Connected`].
    pub(crate) connected: Arc<Notify>,
}

struct LinkState {
    health: Breaker,
    /// The same as in [`Link`].
    connected: Arc<Notify>,
    connection: Option<Connection>,
    /// When the present state began.
    state_since: Duration,
    /// Why the last connection ended, or the last attempt failed.
    away_because: Option<String>,
    /// The last connection that was lost: a request on it may know more about the reason than its end did.
    lost: Option<u64>,
    /// What Redis refused in the last pass over what is pending.
    refused: Option<String>,
    /// What the last call met that Redis did not serve, and when.
    met: Option<(String, Duration)>,
    /// Whether Redis was lost since everything was last merged.
    outage: bool,
    /// The reasons of this outage that the log has.
    told_away: ToldReasons,
    /// The refusals that the log has.
    told_refusals: ToldReasons,
    attempts: u64,
    attempts_settled: u64,
    connections: u64,
    clock: SharedClock,
}

/// How the instance sees Redis.
pub(crate) struct View {
    pub(crate) state: State,
    pub(crate) state_for: Duration,
    pub(crate) away_because: Option<String>,
    pub(crate) refused: Option<String>,
    pub(crate) attempts: u64,
    pub(crate) connections: u64,
}

impl LinkState {
    fn on(&mut self, event: HealthEvent, now: Duration, random: u64) {
        let before = self.health.state();
        self.health.on(event, now, random);
        self.note_state(before, now);
    }

    fn note_state(&mut self, before: State, now: Duration) {
        let state = self.health.state();
        if state != before {
            self.state_since = now;
            log!(debug, from = %before, to = %state, "state");
            if state == State::Connected {
                self.connected.notify_waiters();
            }
        }
        // Not sooner: a server that lets an instance in and refuses what is pending has not come back.
        if state == State::Connected && std::mem::take(&mut self.outage) {
            self.told_away.forget();
            log!(info, "redis is back");
        }
    }

    fn lost(&mut self, reason: &str, now: Duration, random: u64) {
        self.away(reason, now);
        self.on(HealthEvent::Lost, now, random);
    }

    /// Redis is away, for this reason. Failed attempts repeat it: the log gets each reason of an outage once.
    fn away(&mut self, reason: &str, now: Duration) {
        if let Some(more) = self.told_away.news(reason, now) {
            log!(warn, reason, "redis is away: calls are served locally{more}");
        }
        self.away_because = Some(reason.to_owned());
        self.outage = true;
    }

    /// Redis is there and does not do what it was asked.
    fn refusal(&mut self, reason: &str, now: Duration) {
        if let Some(more) = self.told_refusals.news(reason, now) {
            log!(warn, reason, "redis refuses{more}");
        }
    }

    /// What the last call met, if that was not long ago.
    fn met(&self, now: Duration) -> Option<String> {
        let (reason, met) = self.met.as_ref()?;
        (now.saturating_sub(*met) <= MET_FOR).then(|| reason.clone())
    }
}

impl Link {
    pub(crate) fn new(patience: Patience, now: Duration, clock: SharedClock) -> Self {
        let connected = Arc::new(Notify::new());
        let inner = LinkState {
            health: Breaker::new(patience, now),
            connected: connected.clone(),
            connection: None,
            state_since: now,
            away_because: None,
            lost: None,
            refused: None,
            met: None,
            outage: false,
            told_away: ToldReasons::default(),
            told_refusals: ToldReasons::default(),
            attempts: 0,
            attempts_settled: 0,
            connections: 0,
            clock,
        };
        Self {
            inner: Mutex::new(inner),
            horizon: Arc::default(),
            addresses: Addresses::default(),
            wake: Notify::new(),
            settled: Notify::new(),
            connected,
        }
    }

    /// The connection, if calls may use it. They do not wait for one.
    pub(crate) fn usable(&self) -> Option<Connection> {
        let inner = self.lock();
        inner.connection.clone().filter(|_| inner.health.allows_calls())
    }

    /// The connection, also while only probes may use it.
    pub(crate) fn connection(&self) -> Option<Connection> {
        self.lock().connection.clone()
    }

    pub(crate) fn state(&self) -> State {
        self.lock().health.state()
    }

    /// All that an operator asks.
    pub(crate) fn view(&self, now: Duration) -> View {
        let inner = self.lock();
        let met = inner.met(now);
        let (suspect, refused) = if inner.health.allows_calls() { (None, met) } else { (met, None) };
        View {
            state: inner.health.state(),
            state_for: now.saturating_sub(inner.state_since),
            away_because: inner.away_because.clone().or(suspect),
            refused: inner.refused.clone().or(refused),
            attempts: inner.attempts,
            connections: inner.connections,
        }
    }

    /// Why a call is served locally now.
    pub(crate) fn why_away(&self, now: Duration) -> String {
        let inner = self.lock();
        let reason = inner.away_because.clone().or_else(|| inner.met(now));
        reason.unwrap_or_else(|| "no connection stands yet".to_owned())
    }

    /// Redis refused to merge something; none when a pass over what is pending ends without that.
    pub(crate) fn refuse(&self, refused: Option<String>, now: Duration) {
        let mut inner = self.lock();
        if let Some(reason) = &refused {
            inner.refusal(reason, now);
        }
        inner.refused = refused;
    }

    /// Redis refused a call.
    pub(crate) fn refuse_call(&self, reason: &str, now: Duration) {
        let mut inner = self.lock();
        inner.refusal(reason, now);
        inner.met = Some((reason.to_owned(), now));
    }

    /// Redis's clock said this, to the exactness of a round trip. Returns the estimate before.
    pub(crate) fn read_clock(&self, clock: SharedClock) -> SharedClock {
        self.horizon.set_clock(clock.clock_ms);
        std::mem::replace(&mut self.lock().clock, clock)
    }

    /// The estimate of Redis's clock: it is taken to have gone on as ours did.
    pub(crate) fn clock(&self) -> SharedClock {
        self.lock().clock
    }

    /// What the recovery task does next.
    pub(crate) fn next(&self, now: Duration) -> Next {
        self.lock().health.next(now)
    }

    pub(crate) fn begin_attempt(&self, now: Duration) {
        let mut inner = self.lock();
        let before = inner.health.state();
        inner.health.begin_attempt();
        inner.note_state(before, now);
        inner.attempts += 1;
    }

    /// Whether an attempt to connect has ended, one way or the other, since opening.
    pub(crate) fn has_settled(&self) -> bool {
        self.lock().attempts_settled > 0
    }

    /// An attempt to connect succeeded, or a connection was found to lead to another generation.
    pub(crate) fn establish(&self, connection: Connection, now: Duration, random: u64) {
        let mut inner = self.lock();
        // Under the lock: a connection that ends after this finds itself here.
        if connection.has_ended() {
            inner.connection = None;
            inner.lost(CLOSED, now, random);
            return self.settle(inner);
        }
        self.addresses.prove(&connection.address);
        let same = inner.connection.as_ref().is_some_and(|held| held.id == connection.id);
        inner.connections += u64::from(!same);
        inner.connection = Some(connection);
        inner.met = None;
        inner.away_because = None;
        inner.on(HealthEvent::Established, now, 0);
        self.settle(inner);
    }

    /// An attempt to connect failed.
    pub(crate) fn fail(&self, reason: &str, now: Duration, random: u64) {
        let mut inner = self.lock();
        inner.lost(reason, now, random);
        self.settle(inner);
    }

    fn settle(&self, mut inner: MutexGuard<'_, LinkState>) {
        inner.attempts_settled += 1;
        drop(inner);
        self.settled.notify_waiters();
    }

    /// The connection with this id is of no use any more: it is closed, and the next attempt waits for its time.
    pub(crate) fn lose(&self, id: u64, reason: &str, now: Duration, random: u64) {
        let mut inner = self.lock();
        if let Some(connection) = inner.connection.take_if(|connection| connection.id == id) {
            // One that ended may be had again at once, and other addresses are tried beside it. One that is silent, or leads
            // to a server that refuses to work, would be met again.
            if !connection.has_ended() {
                self.addresses.doubt(&connection.address);
            }
            connection.abandon();
            inner.lost = Some(id);
            inner.lost(reason, now, random);
            drop(inner);
            self.wake.notify_one();
        } else if inner.lost == Some(id) && reason != CLOSED && inner.away_because.as_deref() == Some(CLOSED) {
            // The end of a connection and the error of a request on it race. The request knows more.
            inner.away(reason, now);
        }
    }

    /// News of the connection with this id; news of an earlier one change nothing.
    pub(crate) fn report(&self, id: u64, event: HealthEvent, now: Duration) {
        let mut inner = self.lock();
        if inner.connection.as_ref().is_some_and(|connection| connection.id == id) {
            if event == HealthEvent::ReplyTimedOut {
                inner.met = Some((SILENT.to_owned(), now));
            }
            inner.on(event, now, 0);
            drop(inner);
            // The answer to a probe is the recovery task's own news.
            if event != HealthEvent::ProbeAnswered {
                self.wake.notify_one();
            }
        }
    }

    /// News of what is pending.
    pub(crate) fn pending(&self, event: HealthEvent, now: Duration) {
        self.lock().on(event, now, 0);
        self.wake.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, LinkState> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
