//! Machines that sleep: a laptop that is closed, a virtual machine whose image lies on a disk. The process and its kernel
//! stand still, and with them `CLOCK_MONOTONIC` of Linux; the wall clock, and everybody else, go on.
//!
//! While a host sleeps, what is sent to it is lost in silence, and what was on its way. Its timers, those of its kernel's
//! sockets too, fire as much later as it slept. Its wall clock is right again as soon as it wakes.

use std::sync::atomic::{AtomicU64, Ordering};

use madsim::runtime::Handle;

use super::{Host, World};

/// No instant: the host is awake.
const AWAKE: u64 = u64::MAX;

/// The monotonic clock of a host, in microseconds.
pub(super) struct MonotonicClock {
    /// How long the host has slept so far.
    slept_us: AtomicU64,
    /// Since when it sleeps, by the time of the run.
    since_us: AtomicU64,
}

impl Default for MonotonicClock {
    fn default() -> Self {
        Self { slept_us: AtomicU64::new(0), since_us: AtomicU64::new(AWAKE) }
    }
}

impl MonotonicClock {
    #[inline] // As `SimEnv::now`.
    pub(super) fn read(&self, now_us: u64) -> u64 {
        now_us.min(self.since_us.load(Ordering::Relaxed)) - self.slept_us.load(Ordering::Relaxed)
    }

    /// Stands still from now on. Returns whether it went until now.
    fn stop(&self, now_us: u64) -> bool {
        self.since_us.compare_exchange(AWAKE, now_us, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Goes on. Returns whether it stood still.
    fn go_on(&self, now_us: u64) -> bool {
        let since_us = self.since_us.swap(AWAKE, Ordering::Relaxed);
        if since_us != AWAKE {
            self.slept_us.fetch_add(now_us - since_us, Ordering::Relaxed);
        }
        since_us != AWAKE
    }
}

impl World {
    /// Suspends the machine `host`, on which a process runs. Has no effect on one that sleeps.
    ///
    /// # Panics
    /// If no process is running there.
    pub fn suspend(&self, host: impl Into<Host>) {
        let host = host.into();
        let node = self.env(host).node().id();
        if self.machine(host, |machine| machine.monotonic.stop(self.now_us())) {
            self.net().suspend(host);
            Handle::current().pause(node);
        }
    }

    /// Wakes the machine `host`. Has no effect on one that is awake.
    pub fn wake(&self, host: impl Into<Host>) {
        let host = host.into();
        if self.machine(host, |machine| machine.monotonic.go_on(self.now_us())) {
            self.net().wake(host);
            if self.is_running(host) {
                Handle::current().resume(self.env(host).node().id());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, Mutex},
        time::Duration,
    };

    use seedbed_env::{Endpoint, Env as _, Listener as _, Network as _};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use crate::{Stop, clock::WALL_BASE_MS, host::HUB, net::connect_in_turn, simulate};

    const MINUTE_US: u64 = 60_000_000;

    #[test]
    fn a_machine_that_sleeps_runs_no_code_and_its_monotonic_clock_stands_still_while_its_wall_clock_goes_on() {
        simulate(1, async |world| {
            let clocks = Arc::new(Mutex::new(Vec::new()));
            let seen = Arc::clone(&clocks);
            world.start(1, |env| async move {
                loop {
                    env.sleep(Duration::from_secs(10)).await;
                    seen.lock().expect("one thread").push((env.now().as_secs(), env.wall_ms() - WALL_BASE_MS));
                }
            });
            world.sleep_us(MINUTE_US / 4).await;
            let seen = || clocks.lock().expect("one thread").clone();
            world.suspend(1);
            world.sleep_us(MINUTE_US).await;
            assert_eq!(world.env(1).now(), Duration::from_secs(15));
            assert_eq!(seen(), [(10, 10_000)]);
            world.wake(1);
            // Five seconds of its timer were left.
            world.sleep_us(MINUTE_US / 12 - 1).await;
            assert_eq!(seen(), [(10, 10_000)]);
            world.sleep_us(2).await;
            assert_eq!(seen(), [(10, 10_000), (20, 80_000)]);
        });
    }

    #[test]
    fn a_machine_may_sleep_again_and_may_be_killed_in_its_sleep() {
        simulate(1, async |world| {
            world.boot(1);
            for _ in 0..2 {
                world.suspend(1);
                world.suspend(1);
                world.sleep_us(MINUTE_US).await;
                world.wake(1);
                world.wake(1);
                world.sleep_us(1_000).await;
            }
            assert_eq!(world.env(1).now(), Duration::from_millis(2));
            world.suspend(1);
            world.kill(1, Stop::Killed);
            let env = world.boot(1);
            env.sleep(Duration::from_secs(1)).await;
            assert_eq!(world.now_us(), 2 * (MINUTE_US + 1_000) + 1_000_000);
        });
    }

    #[test]
    fn a_connection_of_a_machine_that_slept_stands_and_what_was_sent_to_it_arrives_after_it_wakes() {
        simulate(1, async |world| {
            world.start(HUB, |env| async move {
                let listener = env.network().listen(6379).expect("no other process runs there");
                let mut stream = listener.accept().await.expect("it listens");
                env.sleep(Duration::from_secs(20)).await;
                stream.write_all(b"late").await.expect("its peer is not known to sleep");
                std::future::pending::<()>().await;
            });
            world.sleep_us(1).await;
            let env = world.boot(1);
            let endpoint = Endpoint::tcp("server", 6379);
            let mut stream = connect_in_turn(env.network(), &endpoint).await.expect("it listens");
            world.suspend(1);
            // By the time of the run, its own kernel would have given the connection up long ago.
            world.sleep_us(5 * MINUTE_US).await;
            world.wake(1);
            let mut heard = [0; 4];
            stream.read_exact(&mut heard).await.expect("the connection stands");
            assert_eq!(&heard, b"late");
        });
    }

    #[test]
    fn a_syn_that_a_machine_sent_before_it_slept_is_sent_again_as_much_later() {
        simulate(1, async |world| {
            world.add(HUB);
            world.boot(1);
            world.net().cut(1, HUB, true);
            let env = world.env(1);
            let connected = madsim::task::spawn(async move {
                connect_in_turn(env.network(), &Endpoint::tcp("server", 6379))
                    .await
                    .map(drop)
                    .map_err(|error| error.kind())
            });
            world.sleep_us(500_000).await;
            world.suspend(1);
            world.sleep_us(MINUTE_US).await;
            world.wake(1);
            world.net().cut(1, HUB, false);
            world.sleep_us(499_000).await;
            assert!(!connected.is_finished(), "the second SYN is due a second after the first, of its own time");
            world.sleep_us(11_000).await;
            let refused = connected.await.expect("the task ends");
            assert_eq!(refused, Err(std::io::ErrorKind::ConnectionRefused));
        });
    }
}
