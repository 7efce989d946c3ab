//! What can go wrong in a run. A kind of fault says in one place how it is drawn, which hosts it strikes, how it begins and
//! ends, and how its effect is measured.
//!
//! - `network`, `process`, `clock`, `disk`, `redis`: the kinds that are given, by what they strike
//! - `plan`: how the faults of a run are drawn, so that no two are in each other's way
//!
//! A kind of one's own is a type that implements [`FaultKind`], and one call of [`Faults::with`].

mod clock;
mod disk;
mod network;
mod plan;
mod process;
mod redis;

use std::{fmt, sync::Arc};

use seedbed_world::{
    Host, Stop, World,
    seed::{Seed, Stream},
};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

pub use self::{
    clock::{ClockDrift, ClockStep},
    disk::{DiskError, SlowDisk},
    network::{PacketLoss, Partition, ResetConnections, SlowLink},
    process::{Blackout, Crash, CrashAtDisk, Pause, PowerLoss, ServerCrash, Suspend},
    redis::{FlushAll, RedisCrash, RedisPause, RedisRefuses},
};
use crate::{milliseconds::Ms, redis_host::RedisHost, system::Data};

/// One fault of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedFault {
    /// When it begins, in simulated microseconds after the start of the phase of faults.
    pub start_us: u64,
    /// When it ends, likewise. A fault of a moment ends when it begins.
    pub end_us: u64,
    /// The name of its kind.
    pub kind: String,
    /// What its kind has drawn.
    pub parameters: Json,
}

impl fmt::Display for PlannedFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.parameters)?;
        match self.end_us - self.start_us {
            0 => Ok(()),
            us => write!(f, ", for {}", Ms(us)),
        }
    }
}

/// What a fault strikes. Two faults that strike the same part of the same host do not overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The process, or the power of its machine.
    Process,
    /// Connections.
    Network,
    /// The wall clock.
    Clock,
    /// The disk.
    Disk,
    /// What the server answers, or holds.
    Service,
}

/// A kind of fault.
pub trait FaultKind: Send + Sync + 'static {
    /// What is drawn of it, as replay files hold it.
    type Parameters: Data;

    /// Its name, for people and for `--faults`.
    fn name(&self) -> &'static str;

    /// What it strikes.
    fn part(&self) -> Part;

    /// Draws one; none if there is nothing here that it could strike, or the budget does not allow it.
    fn draw(&self, draw: &mut Stream, frame: &Frame) -> Option<Self::Parameters>;

    /// The hosts that it strikes, by their names.
    fn victims(&self, parameters: &Self::Parameters) -> Vec<String>;

    /// Whether it is of a moment, and has no end.
    fn is_momentary(&self) -> bool {
        false
    }

    /// Whether the processes of its victims stand still while it lasts: their calls are not held to a deadline.
    fn stops_processes(&self) -> bool {
        false
    }

    /// Begins it.
    fn begin(&self, parameters: &Self::Parameters, stage: &Stage<'_>);

    /// Ends it.
    fn end(&self, _parameters: &Self::Parameters, _stage: &Stage<'_>) {}

    /// How often anything has changed so far what a process sees of what this fault strikes. The difference between its end and
    /// its beginning is its effect. For one that always has an effect: 1 once it has begun.
    fn effects(&self, parameters: &Self::Parameters, stage: &Stage<'_>, has_begun: bool) -> u64;
}

/// What there is in a run that faults could strike.
#[derive(Clone, Debug)]
pub struct Frame {
    /// How many instances.
    pub instances: u32,
    /// The servers, by their names; a Redis is not among them.
    pub servers: Vec<&'static str>,
    /// Whether there is a Redis.
    pub has_redis: bool,
    /// How far faults may go.
    pub budget: Budget,
    /// When the last fault ends, in simulated microseconds after the start of the phase of faults.
    pub horizon_us: u64,
}

impl Frame {
    /// The names of all hosts: instances, servers, Redis.
    pub fn hosts(&self) -> Vec<String> {
        let instances = (0..self.instances).map(|instance| instance.to_string());
        let servers = self.servers.iter().map(ToString::to_string);
        instances.chain(servers).chain(self.has_redis.then(|| crate::redis_host::NAME.to_owned())).collect()
    }
}

/// How far faults may go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Budget {
    /// What Redis has acknowledged stays: its data outlives crashes, and nobody deletes it.
    #[default]
    RedisKeepsData,
    /// Redis may come back empty, or be emptied.
    RedisMayLoseData,
}

/// What faults do their work on.
pub struct Stage<'a> {
    /// The world of the run.
    pub world: &'a World,
    /// Its Redis, if it has one.
    pub redis: Option<&'a RedisHost>,
    /// All hosts of the run.
    pub(crate) all: &'a [Host],
    /// Ends and starts processes.
    pub(crate) processes: &'a dyn Processes,
}

/// Ends and starts processes of a run.
pub(crate) trait Processes {
    fn stop(&self, host: Host, how: Stop);
    fn start(&self, host: Host);
    fn stop_at_disk_op(&self, host: Host, ops: u64, how: Stop);
    fn end_ambush(&self, host: Host, how: Stop);
}

impl Stage<'_> {
    /// The host of this name.
    ///
    /// # Panics
    /// If there is none: a plan names hosts of its own run.
    pub fn host(&self, name: &str) -> Host {
        let named = self.all.iter().find(|host| host.to_string() == name);
        *named.unwrap_or_else(|| panic!("the plan of faults names {name:?}, which is no host of the run"))
    }

    /// All other hosts of the run.
    pub fn others(&self, than: &[Host]) -> Vec<Host> {
        self.all.iter().copied().filter(|host| !than.contains(host)).collect()
    }

    /// Ends the process on a host, unless none is running there.
    pub fn stop(&self, host: Host, how: Stop) {
        if self.world.is_running(host) {
            self.processes.stop(host, how);
        }
    }

    /// Ends the process on a host when it asks its disk for the operation after so many more that change something: that one is not
    /// done. Until [`Self::end_ambush`].
    pub fn stop_at_disk_op(&self, host: Host, ops: u64, how: Stop) {
        if self.world.is_running(host) {
            self.processes.stop_at_disk_op(host, ops, how);
        }
    }

    /// Lets a process live that has not come to the operation of [`Self::stop_at_disk_op`].
    pub fn end_ambush(&self, host: Host, how: Stop) {
        self.processes.end_ambush(host, how);
    }

    /// Starts the process of a host again, unless it is running.
    pub fn start(&self, host: Host) {
        if !self.world.is_running(host) {
            self.processes.start(host);
        }
    }
}

/// The kinds that may come in the runs of a bed.
#[derive(Clone, Default)]
pub struct Faults {
    kinds: Vec<Arc<dyn ErasedKind>>,
    budget: Budget,
}

impl Faults {
    /// No faults.
    pub fn none() -> Self {
        Self::default()
    }

    /// Every kind that is given.
    pub fn all() -> Self {
        Self::none()
            .with(Partition)
            .with(SlowLink)
            .with(PacketLoss)
            .with(ResetConnections)
            .with(Crash)
            .with(PowerLoss)
            .with(Blackout)
            .with(CrashAtDisk)
            .with(Pause)
            .with(Suspend)
            .with(ServerCrash)
            .with(ClockStep)
            .with(ClockDrift)
            .with(DiskError)
            .with(SlowDisk)
            .with(RedisCrash)
            .with(RedisPause)
            .with(RedisRefuses)
            .with(FlushAll)
    }

    /// With this kind as well.
    ///
    /// # Panics
    /// If another kind has its name.
    #[must_use]
    pub fn with(mut self, kind: impl FaultKind) -> Self {
        assert!(self.kind(kind.name()).is_none(), "two kinds of faults have the name {:?}", kind.name());
        self.kinds.push(Arc::new(Typed(kind)));
        self
    }

    /// Without the kind of this name.
    ///
    /// # Panics
    /// If there is none: it would be left out in vain.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        assert!(
            self.kind(name).is_some(),
            "no kind of faults is called {name:?}: there are {}",
            self.names().join(", ")
        );
        self.kinds.retain(|kind| kind.name() != name);
        self
    }

    /// Only these kinds.
    ///
    /// # Errors
    /// A name that none of them has.
    pub fn only(mut self, names: &[String]) -> Result<Self, String> {
        if let Some(unknown) = names.iter().find(|name| self.kind(name).is_none()) {
            return Err(format!("no kind of faults is called {unknown:?}: there are {}", self.names().join(", ")));
        }
        self.kinds.retain(|kind| names.iter().any(|name| name == kind.name()));
        Ok(self)
    }

    /// Within this budget; at first [`Budget::RedisKeepsData`].
    #[must_use]
    pub fn within(mut self, budget: Budget) -> Self {
        self.budget = budget;
        self
    }

    /// The names of the kinds.
    pub fn names(&self) -> Vec<&'static str> {
        self.kinds.iter().map(|kind| kind.name()).collect()
    }

    /// The names of the kinds that have something to strike in such runs.
    pub(crate) fn of_use(&self, frame: &Frame) -> Vec<&'static str> {
        let draw = &mut Seed(0).stream("of use");
        self.kinds.iter().filter(|kind| kind.draw(draw, frame).is_some()).map(|kind| kind.name()).collect()
    }

    pub(crate) fn budget(&self) -> Budget {
        self.budget
    }

    pub(crate) fn kind(&self, name: &str) -> Option<&dyn ErasedKind> {
        self.kinds.iter().find(|kind| kind.name() == name).map(|kind| &**kind)
    }
}

/// A kind of fault whose parameters are JSON.
pub(crate) trait ErasedKind: Send + Sync {
    fn name(&self) -> &'static str;
    fn part(&self) -> Part;
    fn is_momentary(&self) -> bool;
    fn stops_processes(&self) -> bool;
    fn draw(&self, draw: &mut Stream, frame: &Frame) -> Option<Json>;
    /// The hosts that it strikes. The error says what is wrong with the parameters.
    fn victims(&self, parameters: &Json) -> Result<Vec<String>, String>;
    fn begin(&self, parameters: &Json, stage: &Stage<'_>);
    fn end(&self, parameters: &Json, stage: &Stage<'_>);
    fn effects(&self, parameters: &Json, stage: &Stage<'_>, has_begun: bool) -> u64;
}

struct Typed<K>(K);

impl<K: FaultKind> Typed<K> {
    fn parameters(parameters: &Json) -> K::Parameters {
        serde_json::from_value(parameters.clone()).expect("a plan is checked before it is played")
    }
}

impl<K: FaultKind> ErasedKind for Typed<K> {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn part(&self) -> Part {
        self.0.part()
    }

    fn is_momentary(&self) -> bool {
        self.0.is_momentary()
    }

    fn stops_processes(&self) -> bool {
        self.0.stops_processes()
    }

    fn draw(&self, draw: &mut Stream, frame: &Frame) -> Option<Json> {
        let drawn = self.0.draw(draw, frame)?;
        Some(serde_json::to_value(drawn).expect("parameters are plain data"))
    }

    fn victims(&self, parameters: &Json) -> Result<Vec<String>, String> {
        let parameters = serde_json::from_value(parameters.clone()).map_err(|wrong| wrong.to_string())?;
        Ok(self.0.victims(&parameters))
    }

    fn begin(&self, parameters: &Json, stage: &Stage<'_>) {
        self.0.begin(&Self::parameters(parameters), stage);
    }

    fn end(&self, parameters: &Json, stage: &Stage<'_>) {
        self.0.end(&Self::parameters(parameters), stage);
    }

    fn effects(&self, parameters: &Json, stage: &Stage<'_>, has_begun: bool) -> u64 {
        self.0.effects(&Self::parameters(parameters), stage, has_begun)
    }
}
