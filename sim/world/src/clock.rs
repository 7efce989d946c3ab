//! Time in a run, and the one queue of things that are to happen in it.
//!
//! madsim never sleeps for less than 1 ms, which is longer than a round trip to Redis. So one millisecond of madsim is
//! one microsecond of the run: everything that measures time or waits does so here, and nothing in a run may read a std
//! clock, which madsim answers a thousand times too fast. Time is counted in whole microseconds. madsim charges 50 to
//! 100 ns for each poll of a task; it takes more than 10,000 polls at one instant before the run notices.
//!
//! madsim's timers cannot be cancelled, and each holds its task in memory until it fires. Therefore the run has its own
//! queue, ordered by time and then by insertion, whose entries can be taken out; one task of madsim's main node (the
//! driver, in `world/mod.rs`) plays it. The network delivers its segments through the same queue.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use madsim::time::TimeHandle;

use super::net_event::NetEvent;

/// 2026-01-01T00:00:00Z in milliseconds since the Unix epoch: what a right wall clock shows at the start of a run.
pub const WALL_BASE_MS: u64 = 1_767_225_600_000;

/// No event is ever further away than this (31 years): `Instant` arithmetic beyond could overflow.
const FOREVER_US: u64 = 1_000_000_000_000_000;

/// The time of one run. Cloning gives the same clock.
#[derive(Clone)]
pub struct Clock(Arc<ClockState>);

struct ClockState {
    time: TimeHandle,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    events: BTreeMap<Key, ClockEvent>,
    next: u64,
    /// Instants for which madsim holds a timer of the driver, the latest first. They cannot be taken back, so none is
    /// set twice, and none while an earlier one stands.
    armed: Vec<u64>,
    driver: Option<Waker>,
    closed: bool,
}

/// When, and which of those at the same time.
type Key = (u64, u64);

/// What is to happen.
pub(super) enum ClockEvent {
    /// A sleeper wakes.
    Wake(Waker),
    /// Something happens on the network.
    Net(NetEvent),
}

/// What the driver is to do next.
pub(super) enum Due {
    /// This happens now.
    Event(ClockEvent),
    /// Nothing is due; the driver will be woken.
    Later,
    /// The run is over.
    Closed,
}

impl Clock {
    /// The clock of the current madsim runtime, which began when that runtime did.
    ///
    /// # Panics
    /// Outside a madsim runtime.
    pub(super) fn new() -> Self {
        Self(Arc::new(ClockState { time: TimeHandle::current(), queue: Mutex::default() }))
    }

    /// Simulated microseconds since the start of the run.
    #[inline] // Asked at every step of a run, from other crates.
    pub fn now_us(&self) -> u64 {
        let elapsed = self.0.time.elapsed();
        elapsed.as_secs() * 1_000 + u64::from(elapsed.subsec_millis())
    }

    /// Completes after `us` simulated microseconds, at least one. Dropping the future takes the timer out.
    pub fn sleep_us(&self, us: u64) -> Sleep {
        let at_us = self.now_us() + us.clamp(1, FOREVER_US);
        Sleep { clock: self.clone(), at_us, entry: None }
    }

    /// Completes after `duration`, rounded up to whole microseconds.
    pub fn sleep(&self, duration: Duration) -> Sleep {
        let us = duration.as_nanos().div_ceil(1_000);
        self.sleep_us(u64::try_from(us).unwrap_or(FOREVER_US))
    }

    /// Adds an event at `at_us`, or as soon as possible after it.
    pub(super) fn schedule(&self, at_us: u64, event: ClockEvent) {
        self.insert(at_us, event);
    }

    /// Takes out the next event that is due. Only the driver calls this.
    pub(super) fn next_due(&self, context: &Context<'_>) -> Due {
        let now_us = self.now_us();
        let mut queue = self.queue();
        if queue.closed {
            return Due::Closed;
        }
        if let Some(entry) = queue.events.first_entry()
            && entry.key().0 <= now_us
        {
            return Due::Event(entry.remove());
        }
        queue.armed.retain(|at_us| *at_us > now_us);
        if !queue.driver.as_ref().is_some_and(|driver| driver.will_wake(context.waker())) {
            queue.driver = Some(context.waker().clone());
        }
        if let Some((&(at_us, _), _)) = queue.events.first_key_value() {
            self.arm(&mut queue, at_us);
        }
        Due::Later
    }

    /// Ends the driver and forgets everything that was to happen, and with it the tasks that waited for it.
    pub(super) fn close(&self) {
        let (events, driver) = {
            let mut queue = self.queue();
            queue.closed = true;
            (std::mem::take(&mut queue.events), queue.driver.take())
        };
        drop(events);
        if let Some(driver) = driver {
            driver.wake();
        }
    }

    fn insert(&self, at_us: u64, event: ClockEvent) -> Key {
        let mut queue = self.queue();
        let key = (at_us, queue.next);
        queue.next += 1;
        if !queue.closed {
            queue.events.insert(key, event);
            self.arm(&mut queue, at_us);
        }
        key
    }

    /// Sees to it that the driver is woken at `at_us` or earlier.
    fn arm(&self, queue: &mut Queue, at_us: u64) {
        let Some(driver) = &queue.driver else {
            return; // It has not run yet, and will look at the queue when it does.
        };
        if queue.armed.last().is_some_and(|armed_us| *armed_us <= at_us) {
            return;
        }
        let wait = Duration::from_millis(at_us).saturating_sub(self.0.time.elapsed());
        let mut timer = self.0.time.sleep(wait);
        let polled = Pin::new(&mut timer).poll(&mut Context::from_waker(driver));
        debug_assert!(polled.is_pending(), "madsim's timers last 1 ms or more");
        queue.armed.push(at_us);
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for an instant; see [`Clock::sleep_us`].
#[must_use = "futures do nothing unless polled"]
pub struct Sleep {
    clock: Clock,
    at_us: u64,
    entry: Option<(Key, Waker)>,
}

impl Sleep {
    /// How long it is from now until then, in microseconds.
    pub(super) fn us(&self) -> u64 {
        self.at_us.saturating_sub(self.clock.now_us())
    }

    fn take_out(&mut self) {
        if let Some((key, _)) = self.entry.take() {
            let event = self.clock.queue().events.remove(&key);
            drop(event);
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.clock.now_us() >= self.at_us {
            self.take_out();
            return Poll::Ready(());
        }
        if !self.entry.as_ref().is_some_and(|(_, waker)| waker.will_wake(context.waker())) {
            self.take_out();
            let key = self.clock.insert(self.at_us, ClockEvent::Wake(context.waker().clone()));
            self.entry = Some((key, context.waker().clone()));
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.take_out();
    }
}

#[cfg(test)]
mod tests {
    use crate::simulate;

    #[test]
    fn a_sleep_lasts_exactly_as_long_as_asked() {
        simulate(1, async |world| {
            for us in [1, 7, 1_000, 3_600_000_000] {
                let before_us = world.now_us();
                world.sleep_us(us).await;
                assert_eq!(world.now_us() - before_us, us);
            }
        });
    }

    #[test]
    fn sleepers_wake_in_the_order_of_their_instants_and_not_of_their_creation() {
        simulate(1, async |world| {
            let long = madsim::task::spawn({
                let world = world.clone();
                async move {
                    world.sleep_us(500).await;
                    world.now_us()
                }
            });
            world.sleep_us(100).await;
            let short_us = world.now_us();
            assert!(short_us < long.await.expect("the task ends"));
        });
    }

    #[test]
    fn a_dropped_sleep_leaves_nothing_behind() {
        simulate(1, async |world| {
            let mut sleep = Box::pin(world.sleep_us(1_000_000));
            std::future::poll_fn(|context| {
                assert!(sleep.as_mut().poll(context).is_pending());
                std::task::Poll::Ready(())
            })
            .await;
            drop(sleep);
            assert!(world.clock().queue().events.is_empty());
        });
    }
}
