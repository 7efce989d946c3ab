//! The one connection that an instance has at a time, and its view of Redis. Calls take the connection from here and
//! report what they met; the recovery task acts on it.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;

use super::connection::Connection;
use crate::health::{Event, Health, Next, Patience, State};

/// Connection and health, shared by all calls of a cache.
pub(crate) struct Link {
    inner: Mutex<Inner>,
    /// Wakes the recovery task.
    pub(crate) wake: Notify,
    /// Wakes whoever waits for the end of an attempt to connect.
    pub(crate) settled: Notify,
}

struct Inner {
    health: Health,
    connection: Option<Connection>,
    attempts_settled: u64,
    connections: u64,
}

impl Link {
    pub(crate) fn new(patience: Patience, now: Duration) -> Self {
        let health = Health::new(patience, now);
        Self {
            inner: Mutex::new(Inner { health, connection: None, attempts_settled: 0, connections: 0 }),
            wake: Notify::new(),
            settled: Notify::new(),
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

    /// How many connections were established.
    pub(crate) fn connections(&self) -> u64 {
        self.lock().connections
    }

    /// What the recovery task does next.
    pub(crate) fn next(&self, now: Duration) -> Next {
        self.lock().health.next(now)
    }

    pub(crate) fn begin_attempt(&self) {
        self.lock().health.begin_attempt();
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
            inner.health.on(Event::Lost, now, random);
            return self.settle(inner);
        }
        let same = inner.connection.as_ref().is_some_and(|held| held.id == connection.id);
        inner.connections += u64::from(!same);
        inner.connection = Some(connection);
        inner.health.on(Event::Established, now, 0);
        self.settle(inner);
    }

    /// An attempt to connect failed.
    pub(crate) fn fail(&self, now: Duration, random: u64) {
        let mut inner = self.lock();
        inner.health.on(Event::Lost, now, random);
        self.settle(inner);
    }

    fn settle(&self, mut inner: MutexGuard<'_, Inner>) {
        inner.attempts_settled += 1;
        drop(inner);
        self.settled.notify_waiters();
    }

    /// The connection with this id is of no use any more: it is closed, and the next attempt waits for its time.
    pub(crate) fn lose(&self, id: u64, now: Duration, random: u64) {
        let mut inner = self.lock();
        if let Some(connection) = inner.connection.take_if(|connection| connection.id == id) {
            connection.abandon();
            inner.health.on(Event::Lost, now, random);
            drop(inner);
            self.wake.notify_one();
        }
    }

    /// News of the connection with this id; news of an earlier one change nothing.
    pub(crate) fn report(&self, id: u64, event: Event, now: Duration) {
        let mut inner = self.lock();
        if inner.connection.as_ref().is_some_and(|connection| connection.id == id) {
            inner.health.on(event, now, 0);
            drop(inner);
            self.wake.notify_one();
        }
    }

    /// News of what is pending.
    pub(crate) fn pending(&self, event: Event, now: Duration) {
        self.lock().health.on(event, now, 0);
        self.wake.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
