//! The world as one process sees it: the simulated [`Env`].

use std::{
    fmt,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use madsim::{runtime::NodeHandle, task::AbortHandle};
use rand::Rng;
use seedbed_env::{Env, Task};

use super::{
    Host, SimDisk, SimNetwork, World,
    clock::Clock,
    disk::Disk,
    held::{Holdable, HoldingGuard},
    incarnation::Incarnation,
    suspend::MonotonicClock,
    wall::WallClock,
};
use crate::seed::Stream;

/// The environment of one incarnation of a process. Once that has ended, nothing done with it has an effect.
#[derive(Clone)]
pub struct SimEnv(Arc<EnvState>);

struct EnvState {
    clock: Clock,
    network: SimNetwork,
    disk: SimDisk,
    node: NodeHandle,
    incarnation: Arc<Incarnation>,
    monotonic: Arc<MonotonicClock>,
    wall: Arc<WallClock>,
    stream: Mutex<Stream>,
}

impl SimEnv {
    pub(super) fn new(
        world: &World,
        incarnation: Arc<Incarnation>,
        node: NodeHandle,
        disk: Disk,
        (monotonic, wall): (Arc<MonotonicClock>, Arc<WallClock>),
    ) -> Self {
        let clock = world.clock().clone();
        let purpose = match incarnation.host {
            host @ Host::Server { .. } => format!("{host} start {}", incarnation.start),
            Host::Instance(number) => format!("instance {number} start {}", incarnation.start),
        };
        Self(Arc::new(EnvState {
            network: SimNetwork::new(world.net().clone(), Arc::clone(&incarnation)),
            disk: SimDisk::new(world, disk, Arc::clone(&incarnation)),
            stream: Mutex::new(world.0.seed.stream(&purpose)),
            clock,
            node,
            incarnation,
            monotonic,
            wall,
        }))
    }

    /// The host that the process runs on.
    pub fn host(&self) -> Host {
        self.0.incarnation.host
    }

    /// Counts the starts on this host, from 1.
    pub fn start(&self) -> u32 {
        self.0.incarnation.start
    }

    /// Whether the process has neither been killed nor reached its crash point. What one that has not observes is no
    /// part of the history.
    pub fn is_alive(&self) -> bool {
        self.0.incarnation.check().is_ok()
    }

    pub(super) fn node(&self) -> &NodeHandle {
        &self.0.node
    }

    pub(super) fn incarnation(&self) -> &Incarnation {
        &self.0.incarnation
    }
}

impl Env for SimEnv {
    type Network = SimNetwork;
    type Disk = SimDisk;
    type Task = SimTask;

    fn network(&self) -> &SimNetwork {
        &self.0.network
    }

    fn disk(&self) -> &SimDisk {
        &self.0.disk
    }

    #[inline] // A client asks at every step, from another crate.
    fn now(&self) -> Duration {
        Duration::from_micros(self.0.monotonic.read(self.0.clock.now_us()))
    }

    fn wall_ms(&self) -> u64 {
        self.0.wall.read(self.0.clock.now_us())
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send + 'static {
        let (clock, monotonic) = (self.0.clock.clone(), Arc::clone(&self.0.monotonic));
        let timer = clock.sleep(duration);
        let due_us = monotonic.read(clock.now_us()) + timer.us();
        async move {
            timer.await;
            // The machine may have slept meanwhile.
            while let left_us @ 1.. = due_us.saturating_sub(monotonic.read(clock.now_us())) {
                clock.sleep_us(left_us).await;
            }
        }
    }

    fn random(&self) -> u64 {
        self.0.stream.lock().unwrap_or_else(PoisonError::into_inner).next_u64()
    }

    fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) -> SimTask {
        // On the node of this incarnation, not on that of the caller: a destructor may run anywhere.
        let holding = HoldingGuard::new(&self.0.incarnation.gauges, Holdable::Task);
        let future = async move {
            future.await;
            drop(holding);
        };
        SimTask(self.0.node.spawn(future).abort_handle())
    }

    fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = T> + Send + 'static {
        let env = self.clone();
        async move {
            // Reads and writes outside `blocking` are as quick as memory: their time is not charged to this work.
            env.0.disk.take_account_us();
            let output = work();
            let us = env.0.disk.take_account_us();
            if us > 0 {
                env.0.clock.sleep_us(us).await;
            }
            output
        }
    }
}

impl fmt::Debug for SimEnv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SimEnv").field(&self.0.incarnation).finish()
    }
}

/// A task of a simulated process.
pub struct SimTask(AbortHandle);

impl Task for SimTask {
    fn abort(&self) {
        self.0.abort();
    }

    fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}
