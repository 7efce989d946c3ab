//! What a process holds of its host: sockets, tasks, open files. Counted by the world, whatever the process says of
//! itself.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// How much of something a process holds, and the most that it ever held at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// At this moment.
    pub now: u64,
    /// Since the process was started.
    pub most: u64,
}

/// What a process holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeldByProcess {
    /// Streams, those that are being connected too.
    pub sockets: Count,
    /// Tasks that were spawned and have not ended.
    pub tasks: Count,
    /// Files that are open, and locks.
    pub files: Count,
}

/// What can be held.
#[derive(Clone, Copy, Debug)]
pub(super) enum Holdable {
    Socket,
    Task,
    File,
}

/// The counts of one incarnation.
#[derive(Default)]
pub(super) struct Gauges([Gauge; 3]);

#[derive(Default)]
struct Gauge {
    now: AtomicU64,
    most: AtomicU64,
}

impl Gauges {
    pub(super) fn read(&self) -> HeldByProcess {
        let [sockets, tasks, files] = self
            .0
            .each_ref()
            .map(|gauge| Count { now: gauge.now.load(Ordering::Relaxed), most: gauge.most.load(Ordering::Relaxed) });
        HeldByProcess { sockets, tasks, files }
    }

    fn of(&self, kind: Holdable) -> &Gauge {
        &self.0[kind as usize]
    }
}

/// One thing that a process holds, until this is dropped.
pub(super) struct HoldingGuard {
    gauges: Arc<Gauges>,
    kind: Holdable,
}

impl HoldingGuard {
    pub(super) fn new(gauges: &Arc<Gauges>, kind: Holdable) -> Self {
        let gauge = gauges.of(kind);
        let now = gauge.now.fetch_add(1, Ordering::Relaxed) + 1;
        gauge.most.fetch_max(now, Ordering::Relaxed);
        Self { gauges: Arc::clone(gauges), kind }
    }
}

impl Drop for HoldingGuard {
    fn drop(&mut self) {
        self.gauges.of(self.kind).now.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use seedbed_env::{Disk as _, DiskFile as _, Endpoint, Env as _, Network as _, Task as _};

    use super::*;
    use crate::{Stop, host::HUB, net::connect_in_turn, simulate};

    #[test]
    fn what_a_process_holds_is_counted_until_it_lets_go_and_the_most_is_remembered() {
        simulate(1, async |world| {
            let server = world.boot(HUB).network().listen(1).expect("a free port");
            let env = world.boot(1);
            assert_eq!(world.held(1), Some(HeldByProcess::default()));
            let endpoint = Endpoint::tcp("server", 1);
            let stream = connect_in_turn(env.network(), &endpoint).await.expect("somebody listens");
            let tasks = [1, 2].map(|_| env.spawn(std::future::pending()));
            let file = env.disk().open(Path::new("/file")).expect("a disk");
            let lock = env.disk().open(Path::new("/lock")).and_then(|file| file.lock()).expect("nobody holds it");
            let held = world.held(1).expect("it runs");
            assert_eq!([held.sockets.now, held.tasks.now, held.files.now], [1, 2, 2]);
            drop((stream, file.clone(), file, lock));
            for task in tasks {
                task.abort();
            }
            env.spawn(async {}).abort();
            world.sleep_us(10).await;
            let held = world.held(1).expect("it runs");
            assert_eq!([held.sockets, held.files], [Count { now: 0, most: 1 }, Count { now: 0, most: 2 }]);
            assert_eq!((held.tasks.now, held.tasks.most), (0, 3));
            drop(server);
            world.kill(1, Stop::Killed);
            assert_eq!(world.held(1), None);
        });
    }
}
