//! The world of one run: hosts with a process each, the network between them, their disks and their clocks, all grown
//! from one seed and kept on madsim's virtual time.
//!
//! ```
//! use std::time::Duration;
//!
//! use seedbed_env::Env as _;
//! use seedbed_world::{Host, simulate};
//!
//! let hours = simulate(1, async |world| {
//!     let env = world.boot(Host::Instance(1));
//!     env.sleep(Duration::from_secs(3_600)).await;
//!     world.now_us() / 3_600_000_000
//! });
//! assert_eq!(hours, 1);
//! ```
//!
//! - [`seed`]: the one integer, and the streams of randomness that grow from it.
//! - [`clock`]: time, and the queue of what is to happen.
//! - [`net`]: byte streams that fail as TCP's do.
//! - [`disk`]: files of which a power loss keeps what was synced.
//! - [`held`]: what a process holds of its host.
//! - [`moments`]: steps of programs that faults wait for.
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
mod host;
mod incarnation;
mod isolated;
pub mod moments;
pub mod net;
mod net_event;
pub mod process;
pub mod seed;
pub mod suspend;
mod wall;

use std::{
    collections::BTreeMap,
    future::poll_fn,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use futures_util::future::{Either, select};
use madsim::task::JoinHandle;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use self::seed::Seed;
use self::{
    clock::{Clock, ClockEvent, Due, Sleep},
    disk::Disk,
    moments::Moments,
    net::Net,
    process::Machine,
};
pub use self::{
    disk::SimDisk,
    env::SimEnv,
    host::Host,
    isolated::{isolated, panic_text, simulate},
    net::{SimListener, SimNetwork, SimStream},
};

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stop {
    /// It was killed; the page cache of its host survived.
    Killed,
    /// Its host lost power: what was not synced may be gone.
    PowerLost,
    /// It closed what it had open, and exited.
    Closed,
}

/// The world of one run. Cloning is cheap and gives the same world.
#[derive(Clone)]
pub struct World(Arc<WorldState>);

struct WorldState {
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
        Self(Arc::new(WorldState { seed, clock, net, trace, moments, machines, driver }))
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

    /// The server of this name: a machine that others find under it. The world has it from now on.
    pub fn server(&self, name: &'static str) -> Host {
        self.net().server(name)
    }

    /// Gives the world a machine on which nothing runs: its name leads to its address from now on. Whatever is done with a machine does
    /// so too.
    ///
    /// # Panics
    /// If another server has its number or its name.
    pub fn add(&self, host: impl Into<Host>) {
        self.net().add(host.into());
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
            self.kill(host, crate::Stop::Killed);
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
        self.net().add(host);
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
                Due::Event(ClockEvent::Wake(waker)) => waker.wake(),
                Due::Event(ClockEvent::Net(event)) => net.on(event),
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
