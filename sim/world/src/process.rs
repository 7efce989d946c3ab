//! Processes: one at a time on each host, each an incarnation with a number and a madsim node of its own.
//!
//! A kill is not a crash by itself: madsim drops the tasks of a killed node when it next polls them, and their
//! destructors run. Therefore everything that reaches the world carries its incarnation, and an incarnation that has
//! ended can no longer do anything: its disk verbs fail, its writes go nowhere, dropping its streams sends nothing.
//! What its kernel does for it (a reset or a FIN on each stream, or nothing if the host lost power) is done here.
//!
//! Each start makes a new madsim node. Restarting one has traps: without a kill before, its sockets stay; handles of
//! before spawn on the dead; the function that starts it must not keep state. A host's wall clock
//! (`wall.rs`) may be wrong, and keeps being wrong in the same way across restarts.

use std::sync::Arc;

use madsim::{runtime::Handle, task::JoinHandle};
use seedbed_env::{Env as _, Network as _};

use super::{
    Host, SimEnv, World, disk::Disk, held::HeldByProcess, incarnation::Incarnation, suspend::MonotonicClock,
    wall::WallClock,
};
use crate::{Stop, seed::Seed};

/// A host, as it stays across the lives of its processes.
pub(super) struct Machine {
    pub(super) disk: Disk,
    wall: Arc<WallClock>,
    pub(super) monotonic: Arc<MonotonicClock>,
    starts: u32,
    running: Option<SimEnv>,
}

impl Machine {
    pub(super) fn new(seed: Seed, host: Host) -> Self {
        Self { disk: Disk::new(seed, host), wall: Arc::default(), monotonic: Arc::default(), starts: 0, running: None }
    }
}

impl World {
    /// Starts a process on `host`, which gets its power back if it lost it, and runs `init` in it. The process does not
    /// end with `init`: end it with [`World::kill`], also if it closed by itself ([`Stop::Closed`]).
    ///
    /// # Panics
    /// If a process is running there.
    pub fn start<F, T>(&self, host: impl Into<Host>, init: impl FnOnce(SimEnv) -> F) -> JoinHandle<T>
    where
        F: Future<Output = T> + Send + 'static,
        T: Send + 'static,
    {
        let env = self.boot(host);
        let node = env.node().clone();
        node.spawn(init(env))
    }

    /// Like [`World::start`], for a process whose tasks are spawned through its environment.
    ///
    /// # Panics
    /// If a process is running there.
    pub fn boot(&self, host: impl Into<Host>) -> SimEnv {
        let host = host.into();
        self.net().host_up(host);
        self.machine(host, |machine| {
            assert!(machine.running.is_none(), "the process on host {host} must be killed before another is started");
            machine.starts += 1;
            let node = Handle::current().create_node().name(format!("{host} start {}", machine.starts)).build();
            self.moments().begun(node.id(), host);
            let incarnation = Arc::new(Incarnation::new(host, machine.starts));
            let clocks = (Arc::clone(&machine.monotonic), Arc::clone(&machine.wall));
            let env = SimEnv::new(self, incarnation, node, machine.disk.clone(), clocks);
            machine.running = Some(env.clone());
            env
        })
    }

    /// Gives `host` the disk of another host, as a volume that both have mounted, from its next process on. Returns the disk that
    /// it had.
    pub fn mount(&self, host: impl Into<Host>, disk: Disk) -> Disk {
        self.machine(host.into(), |machine| std::mem::replace(&mut machine.disk, disk))
    }

    /// Starts a process on `host` that listens on a port and hangs: its kernel accepts connections that are never answered.
    ///
    /// # Panics
    /// If a process is running there.
    pub fn start_hung(&self, host: impl Into<Host>, port: u16) {
        let hangs = |env: SimEnv| async move {
            let _listener = env.network().listen(port).expect("no other process runs on this host");
            std::future::pending::<()>().await;
        };
        // It ends with its process.
        drop(self.start(host, hangs));
    }

    /// The environment of the process that runs on `host`.
    ///
    /// # Panics
    /// If none is running there.
    pub fn env(&self, host: impl Into<Host>) -> SimEnv {
        let host = host.into();
        match self.machine(host, |machine| machine.running.clone()) {
            Some(env) => env,
            None => panic!("no process is running on host {host}"),
        }
    }

    /// Whether a process is running on `host`. One that reached a crash point is, until it is killed.
    pub fn is_running(&self, host: impl Into<Host>) -> bool {
        self.machine(host.into(), |machine| machine.running.is_some())
    }

    /// What the process on `host` holds, if one is running.
    pub fn held(&self, host: impl Into<Host>) -> Option<HeldByProcess> {
        self.machine(host.into(), |machine| machine.running.as_ref().map(|env| env.incarnation().gauges.read()))
    }

    /// Ends the process on `host`, if one is running, and cuts the power of the host if that is `how`. Its tasks are
    /// dropped at this instant, but after the caller's next await.
    pub fn kill(&self, host: impl Into<Host>, how: Stop) {
        let host = host.into();
        self.wake(host);
        let running = self.machine(host, |machine| machine.running.take());
        if let Some(env) = &running {
            env.incarnation().end();
        }
        self.net().host_down(host, how);
        self.disk(host).stop(host, how);
        if let Some(env) = running {
            // A kill drops paused tasks on the spot, with a lock of madsim's held that their destructors may want.
            Handle::current().resume(env.node().id());
            Handle::current().kill(env.node().id());
        }
    }

    /// Switches the power of a host on or off on which no process is running: its kernel refuses connections, or is silent.
    ///
    /// # Panics
    /// If one is running there.
    pub fn set_power(&self, host: impl Into<Host>, on: bool) {
        let host = host.into();
        assert!(!self.is_running(host), "kill the process on host {host} to switch its power");
        if on { self.net().host_up(host) } else { self.net().host_down(host, Stop::PowerLost) }
    }

    /// Stops the process on `host` (SIGSTOP): its tasks are not polled. Its kernel goes on.
    pub fn pause(&self, host: impl Into<Host>) {
        Handle::current().pause(self.env(host).node().id());
    }

    /// Lets a paused process go on.
    pub fn resume(&self, host: impl Into<Host>) {
        Handle::current().resume(self.env(host).node().id());
    }

    /// The process on `host` dies at its disk operation number `ops + 1` from now (of those that change something): that
    /// one fails, nothing it does from then on has an effect. The future completes when that happens; the caller then
    /// calls [`World::kill`], which says what the disk keeps.
    pub fn crash_after_disk_ops(&self, host: impl Into<Host>, ops: u64) -> impl Future<Output = ()> + Send + 'static {
        let point = self.disk(host).crash_after(ops);
        async move { point.reached().await }
    }

    /// Takes back a crash point that has not been reached.
    pub fn cancel_crash(&self, host: impl Into<Host>) {
        self.disk(host).cancel_crash();
    }

    /// What the wall clock of `host` shows, in milliseconds since the Unix epoch.
    pub fn wall_ms(&self, host: impl Into<Host>) -> u64 {
        self.wall(host).read(self.now_us())
    }

    /// How often the wall clock of `host` was read.
    pub fn clock_readings(&self, host: impl Into<Host>) -> u64 {
        self.wall(host).readings()
    }

    /// Makes the wall clock of `host` wrong by so many milliseconds from now on.
    pub fn set_offset_ms(&self, host: impl Into<Host>, offset_ms: i64) {
        self.wall(host).set_offset_ms(offset_ms);
    }

    /// Steps the wall clock of `host`, forth or back.
    pub fn step_clock_ms(&self, host: impl Into<Host>, by_ms: i64) {
        self.wall(host).step_ms(by_ms);
    }

    /// Makes the wall clock of `host` gain, or lose, so many microseconds in each second from now on.
    pub fn set_drift_ppm(&self, host: impl Into<Host>, drift_ppm: i64) {
        self.wall(host).set_drift_ppm(drift_ppm, self.now_us());
    }

    fn wall(&self, host: impl Into<Host>) -> Arc<WallClock> {
        self.machine(host.into(), |machine| Arc::clone(&machine.wall))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        path::Path,
        sync::atomic::{AtomicI64, Ordering},
    };

    use seedbed_env::{Disk as _, DiskFile as _, Task as _};

    use super::*;
    use crate::{clock::WALL_BASE_MS, host::HUB, simulate};

    /// Writes to its disk when it is dropped, as a database does.
    struct WritesOnDrop(SimEnv);

    impl Drop for WritesOnDrop {
        fn drop(&mut self) {
            let written = self.0.disk().open(Path::new("/late")).and_then(|file| file.write_at(0, b"late"));
            assert!(written.is_err(), "a dead process wrote");
            self.0.spawn(async { unreachable!("a dead process ran a task") }).abort();
        }
    }

    #[test]
    fn the_destructors_of_a_killed_process_have_no_effect() {
        for paused in [false, true] {
            let names = simulate(1, async move |world| {
                world.start(1, |env| async move {
                    let _guard = WritesOnDrop(env.clone());
                    std::future::pending::<()>().await;
                });
                world.sleep_us(10).await;
                if paused {
                    world.pause(1);
                }
                world.kill(1, Stop::Killed);
                world.sleep_us(10).await;
                world.boot(1).disk().list(Path::new("/")).expect("the root is there")
            });
            assert!(names.is_empty());
        }
    }

    #[test]
    fn a_paused_process_does_nothing_until_it_is_resumed() {
        simulate(1, async |world| {
            let ticks = Arc::new(AtomicI64::new(0));
            let count = Arc::clone(&ticks);
            world.start(1, |env| async move {
                loop {
                    env.sleep(std::time::Duration::from_micros(10)).await;
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
            world.sleep_us(105).await;
            world.pause(1);
            world.sleep_us(1_000).await;
            assert_eq!(ticks.load(Ordering::Relaxed), 10);
            world.resume(1);
            world.sleep_us(100).await;
            assert!(ticks.load(Ordering::Relaxed) > 15);
        });
    }

    #[test]
    fn wall_clocks_differ_by_their_offsets_and_survive_restarts() {
        simulate(1, async |world| {
            world.set_offset_ms(2, -90_000);
            world.sleep_us(5_000_000).await;
            let [first, second] = [world.boot(1), world.boot(2)].map(|env| env.wall_ms());
            assert_eq!(first, WALL_BASE_MS + 5_000);
            assert_eq!(second, first - 90_000);
            world.kill(2, Stop::PowerLost);
            assert_eq!(world.boot(2).wall_ms(), second);
            assert_eq!(world.wall_ms(HUB), first);
        });
    }

    #[test]
    fn randomness_differs_by_host_and_by_start_and_not_by_run() {
        let draw = || {
            simulate(7, async |world| {
                let first = world.boot(1).random();
                let other = world.boot(2).random();
                world.kill(1, Stop::Killed);
                [first, other, world.boot(1).random()]
            })
        };
        let [first, other, again] = draw();
        assert!(first != other && first != again && other != again);
        assert_eq!(draw(), [first, other, again]);
    }
}
