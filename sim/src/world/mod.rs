//! The world of one run: hosts with a process each, the network between them, their disks and their clocks, all grown
//! from one seed and kept on madsim's virtual time.
//!
//! - [`clock`]: time, and the queue of what is to happen.
//! - [`net`]: byte streams that fail as TCP's do.
//! - [`disk`]: files of which a power loss keeps what was synced.
//! - [`held`]: what a process holds of its host.
//! - [`moments`]: steps of the protocol that faults wait for.
//! - [`process`]: hosts that start, pause, die; the incarnations that everything belongs to.
//! - [`suspend`]: machines that sleep.
//! - [`mod@env`]: all of it as the client sees it, an `Env`.
//!
//! A run has its own madsim runtime on its own thread, and makes its [`World`] in it. Every random choice comes from a
//! stream of the seed. What crosses a link or reaches a disk is folded into one digest, [`World::trace`]: two runs of
//! one scenario that differ anywhere differ there.

pub mod clock;
pub mod disk;
pub mod env;
pub mod held;
pub mod moments;
pub mod net;
pub mod process;
pub mod suspend;
mod wall;

use std::{
    collections::BTreeMap,
    fmt,
    future::poll_fn,
    net::Ipv4Addr,
    pin::pin,
    str::FromStr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use futures_util::future::{Either, select};
use madsim::task::JoinHandle;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use self::{
    clock::{Clock, Due, Event, Sleep},
    disk::Disk,
    moments::Moments,
    net::Net,
    process::Machine,
};
pub use self::{
    disk::SimDisk,
    env::SimEnv,
    net::{SimListener, SimNetwork, SimStream},
};
use crate::seed::Seed;

/// A machine of a run, with one process on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Host {
    /// The Redis server's; on the network its name is `redis`.
    Redis,
    /// The one that a Redis server moves to when it fails over; its name is `replica`.
    Replica,
    /// An instance's; its name is its number.
    Instance(u32),
}

impl Host {
    /// A number of its own, for digests.
    fn code(self) -> u64 {
        match self {
            Self::Redis => 0,
            Self::Replica => u64::MAX,
            Self::Instance(number) => u64::from(number) + 1,
        }
    }

    /// Its address: 10.0.0.1 is Redis's, 10.0.0.2 the replica's, 10.1.0.1 plus n that of instance n.
    pub fn address(self) -> Ipv4Addr {
        match self {
            Self::Redis => Ipv4Addr::new(10, 0, 0, 1),
            Self::Replica => Ipv4Addr::new(10, 0, 0, 2),
            Self::Instance(number) => u32::from(FIRST_INSTANCE).wrapping_add(number).into(),
        }
    }

    /// The host that has this address.
    pub fn with_address(address: Ipv4Addr) -> Self {
        match address.octets() {
            [10, 0, 0, 1] => Self::Redis,
            [10, 0, 0, 2] => Self::Replica,
            _ => Self::Instance(u32::from(address).wrapping_sub(FIRST_INSTANCE.into())),
        }
    }
}

/// The address of instance 0.
const FIRST_INSTANCE: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);

impl From<u32> for Host {
    fn from(instance: u32) -> Self {
        Self::Instance(instance)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Redis => f.write_str("redis"),
            Self::Replica => f.write_str("replica"),
            Self::Instance(number) => number.fmt(f),
        }
    }
}

/// A name that no host has.
#[derive(Debug, thiserror::Error)]
#[error("unknown host {name:?}: hosts are \"redis\", \"replica\" and the numbers of instances")]
pub struct UnknownHost {
    name: String,
}

impl FromStr for Host {
    type Err = UnknownHost;

    fn from_str(name: &str) -> Result<Self, UnknownHost> {
        match name {
            "redis" => Ok(Self::Redis),
            "replica" => Ok(Self::Replica),
            _ => name.parse().map(Self::Instance).map_err(|_| UnknownHost { name: name.into() }),
        }
    }
}

/// The world of one run. Cloning is cheap and gives the same world.
#[derive(Clone)]
pub struct World(Arc<Shared>);

struct Shared {
    seed: Seed,
    clock: Clock,
    net: Net,
    trace: Arc<Trace>,
    moments: Moments,
    machines: Mutex<BTreeMap<Host, Machine>>,
    driver: Mutex<Option<JoinHandle<()>>>,
}

impl World {
    /// A world in which nothing has been started yet. Every host has power, an empty disk and a right clock.
    ///
    /// # Panics
    /// Outside a task of a madsim runtime.
    pub fn new(seed: Seed) -> Self {
        Self::watched(seed, Moments::default())
    }

    /// The same, in which these moments are watched for.
    ///
    /// # Panics
    /// Outside a task of a madsim runtime.
    pub fn watched(seed: Seed, moments: Moments) -> Self {
        let clock = Clock::new();
        let trace = Arc::new(Trace::default());
        let net = Net::new(seed, clock.clone(), Arc::clone(&trace));
        let driver = madsim::task::spawn(drive(clock.clone(), net.clone()));
        let (machines, driver) = (Mutex::default(), Mutex::new(Some(driver)));
        Self(Arc::new(Shared { seed, clock, net, trace, moments, machines, driver }))
    }

    /// The digest of all that crossed the network or reached a disk so far, with its times.
    pub fn trace(&self) -> u64 {
        self.0.trace.0.load(Ordering::Relaxed)
    }

    /// The clock of the run.
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// Simulated microseconds since the start of the run.
    pub fn now_us(&self) -> u64 {
        self.0.clock.now_us()
    }

    /// Completes after `us` simulated microseconds.
    pub fn sleep_us(&self, us: u64) -> Sleep {
        self.0.clock.sleep_us(us)
    }

    /// What `future` gives, unless that takes longer than `us` simulated microseconds: then it is dropped.
    pub async fn within_us<F: Future>(&self, us: u64, future: F) -> Option<F::Output> {
        match select(pin!(future), pin!(self.sleep_us(us))).await {
            Either::Left((output, _)) => Some(output),
            Either::Right(_) => None,
        }
    }

    /// The moments that faults wait for.
    pub fn moments(&self) -> &Moments {
        &self.0.moments
    }

    /// The network, with the verbs of the nemesis.
    pub fn net(&self) -> &Net {
        &self.0.net
    }

    /// The disk of a host, with the verbs of the nemesis.
    pub fn disk(&self, host: impl Into<Host>) -> Disk {
        self.machine(host.into(), |machine| machine.disk.clone())
    }

    /// Ends every process, waits until their tasks are gone, and forgets all that was to happen. Without it, the tasks
    /// of a run and the world hold each other in memory for ever.
    pub async fn end(self) {
        let hosts: Vec<Host> = self.machines().keys().copied().collect();
        for host in hosts {
            self.kill(host, crate::history::Stop::Killed);
        }
        // madsim drops the tasks of a killed node when it next polls them; time passes only when all that is done.
        self.sleep_us(1).await;
        self.0.clock.close();
        let driver = self.0.driver.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(driver) = driver {
            // An error would say that the driver was cancelled, which ends it too.
            let _ = driver.await;
        }
    }

    /// The machine of `host`, made when it is first spoken of.
    fn machine<T>(&self, host: Host, act: impl FnOnce(&mut Machine) -> T) -> T {
        let seed = self.0.seed;
        act(self.machines().entry(host).or_insert_with(|| Machine::new(seed, host)))
    }

    fn machines(&self) -> MutexGuard<'_, BTreeMap<Host, Machine>> {
        self.0.machines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Plays the run's queue.
async fn drive(clock: Clock, net: Net) {
    let play = |context: &mut Context<'_>| {
        loop {
            match clock.next_due(context) {
                Due::Event(Event::Wake(waker)) => waker.wake(),
                Due::Event(Event::Net(event)) => net.on(event),
                Due::Later => return Poll::Pending,
                Due::Closed => return Poll::Ready(()),
            }
        }
    };
    poll_fn(play).await;
}

/// The digest of a run.
#[derive(Default)]
struct Trace(AtomicU64);

impl Trace {
    fn fold(&self, header: [u64; 4], bytes: &[u8]) {
        let mut digest = self.0.load(Ordering::Relaxed);
        for word in header {
            digest = (digest ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        }
        self.0.store(xxh3_64_with_seed(bytes, digest), Ordering::Relaxed);
    }
}

/// Runs `scenario` in a world of its own, on a thread and a runtime of its own.
#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a run has its own thread: std's hash keys are drawn per thread")]
pub(crate) fn simulate<T: Send + 'static>(seed: u64, scenario: impl AsyncFnOnce(World) -> T + Send + 'static) -> T {
    let run = move || {
        let runtime = madsim::runtime::Runtime::with_seed_and_config(seed, madsim::Config::default());
        runtime.block_on(async move {
            let world = World::new(Seed(seed));
            let output = scenario(world.clone()).await;
            world.end().await;
            output
        })
    };
    std::thread::spawn(run).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
