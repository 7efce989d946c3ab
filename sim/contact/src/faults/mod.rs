//! The faults that a run can suffer, as data. A plan lies beside the workload and knows nothing of it; the nemesis
//! plays it, the history records it.
//!
//! - here: the kinds and their parameters, as replay files hold them.
//! - `generate`: how a plan grows from a seed, within a `frame`; `emphasis`: what it has more of for some workloads.
//! - `kinds`: how reports name them.
//! - `moment`: the moments of the protocol that a fault can wait for.
//! - `server`: what users of Redis are denied; its refusals and limits are the engine's.
//! - `named`: the instances of a fault, for a shrinker to change.
//! - `budget`: which of what was drawn stays, so that the plan is within what the guarantees promise to survive.

mod budget;
mod emphasis;
mod frame;
mod generate;
mod kinds;
mod moment;
mod named;
mod server;
mod stores;

pub use seedbed::redis_host::Persistence;
pub use seedbed_redis::{REFUSALS, Refusal, ServerLimit};
pub use seedbed_world::disk::BadWrite;
use serde::{Deserialize, Serialize};

pub use self::{
    budget::{LOSS_MARGIN_US, colliding},
    frame::{Emphasis, PlanFrame},
    generate::{clock_offsets_ms, generate},
    kinds::KIND_NAMES,
    moment::{Moment, STEPS, Trigger},
    named::NamedInstances,
    server::{DENIALS, Denied},
};

/// One fault of a plan, with its times.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedFault {
    /// When it begins, in simulated microseconds after the start of the phase of faults.
    pub start_us: u64,
    /// When it ends, likewise; a fault of a moment ends when it begins.
    pub end_us: u64,
    /// What it waits for from its beginning on; if that does not come before its end, it does not strike. `None`: it strikes
    /// at its beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Trigger>,
    /// What it is.
    pub fault: Fault,
}

/// A kind of fault and its parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// Segments between these instances and Redis are lost in the direction given (TCP sends them again after heal).
    Partition {
        /// The instances cut off.
        instances: Vec<u32>,
        /// Which way is cut.
        direction: CutDirection,
    },
    /// Every segment between these instances and Redis takes this much longer.
    SlowLink {
        /// The instances concerned.
        instances: Vec<u32>,
        /// Added to each segment's latency, one way, in microseconds.
        extra_us: u64,
    },
    /// The network between these instances and Redis works badly.
    BadNetwork {
        /// The instances concerned.
        instances: Vec<u32>,
        /// How.
        trouble: NetTrouble,
    },
    /// The resolvers of these instances answer badly.
    BadNames {
        /// The instances concerned.
        instances: Vec<u32>,
        /// How long they take to answer, in microseconds.
        delay_us: u64,
        /// What they answer.
        answer: NameAnswer,
    },
    /// The connections between these instances and Redis are reset.
    ResetConnections {
        /// The instances concerned.
        instances: Vec<u32>,
    },
    /// The process of Redis is killed, and started again at the end of the fault.
    RedisCrash {
        /// What the restarted Redis holds.
        data: Persistence,
    },
    /// The host of Redis loses power, without a word to its clients, and starts again at the end of the fault.
    RedisPowerLoss {
        /// What the restarted Redis holds.
        data: Persistence,
    },
    /// Redis ends; at the end of the fault its replica takes over, on another host, and with it the name.
    RedisFailover {
        /// How far behind the replica is, in microseconds: what came after is lost, the marker of its generation is not.
        lag_us: u64,
        /// Whether the old host loses power, so that connections to it just fall silent, rather than only its process.
        silent: bool,
    },
    /// Redis ends, and its name leads to another server from then on. At the end of the fault the other server ends, and the name
    /// leads to Redis with its earlier data.
    RedisSwap {
        /// The data of the other server.
        holds: OtherData,
    },
    /// The process of Redis is stopped (SIGSTOP) and goes on at the end of the fault; connections stay open.
    RedisPause,
    /// Redis runs and answers commands with an error.
    RedisRefuses {
        /// Which, and to which commands.
        with: Refusal,
    },
    /// Redis answers one instance with an error, and works for the others.
    RedisRefusesOne {
        /// Which.
        instance: u32,
        /// Which error.
        with: Refusal,
        /// All of its connections, as of one user; or only the oldest one.
        user: bool,
    },
    /// Users of Redis are denied some commands, and may use all others.
    RedisDenies {
        /// Which.
        denied: Denied,
    },
    /// A limit of Redis is set low.
    RedisLimits {
        /// Which, and how low.
        to: ServerLimit,
    },
    /// Somebody else's script runs for long, and is killed at the end of the fault.
    RedisBusyScript {
        /// How long Redis answers nothing before it answers that it is busy (`busy-reply-threshold`), in microseconds.
        silent_us: u64,
    },
    /// Another service writes keys beside those of a prefix, and beside its records.
    ForeignKeys {
        /// Copies of a record under names in another spelling than the client's.
        spellings: u32,
        /// Strings under such names.
        strings: u32,
        /// Hashes of another prefix that begins as this one does.
        crowd: u32,
    },
    /// SCRIPT FLUSH: every cached script is forgotten.
    ScriptFlush,
    /// FLUSHALL: an operator deletes everything.
    FlushAll,
    /// An instance closes its cache and ends in order, and starts again at the end of the fault.
    InstanceRestart {
        /// Which.
        instance: u32,
    },
    /// An instance stops, and starts again at the end of the fault with what its disk kept.
    InstanceCrash {
        /// Which.
        instance: u32,
        /// Whether its host loses power with it.
        power_loss: bool,
    },
    /// The same, at an operation on its disk, if that comes before the end of the fault.
    CrashAtDisk {
        /// Which.
        instance: u32,
        /// How many operations that change something succeed before.
        ops: u64,
        /// Whether its host loses power with it.
        power_loss: bool,
    },
    /// All instances restart in order, one after the other.
    RollingRestart {
        /// How long each is down, in microseconds.
        down_us: u64,
    },
    /// The process of an instance is stopped (SIGSTOP) and goes on at the end of the fault.
    InstancePause {
        /// Which.
        instance: u32,
    },
    /// The machine of an instance sleeps and wakes at the end of the fault: its process and its monotonic clock stand still,
    /// its peers hear no word, its wall clock goes on.
    InstanceSuspend {
        /// Which.
        instance: u32,
    },
    /// An instance restarts in order, but another process holds the lock of its store until the end of the fault.
    LockHeld {
        /// Which.
        instance: u32,
    },
    /// The callers of an instance lose patience: they drop their calls after at most so many polls.
    CancelledCalls {
        /// Which.
        instance: u32,
        /// At most; each call is given another number of them, from one.
        polls_max: u64,
    },
    /// The disk of an instance works badly.
    BadDisk {
        /// Whose.
        instance: u32,
        /// How.
        trouble: DiskTrouble,
    },
    /// One bit of an instance's store flips: while it runs, or while it is down for the time of the fault.
    BitRot {
        /// Whose.
        instance: u32,
        /// Whether it is running.
        running: bool,
    },
    /// Writes of an instance are acknowledged by its disk and go wrong. It restarts in order at the end of the fault.
    BadWrites {
        /// Whose.
        instance: u32,
        /// How.
        how: BadWrite,
        /// How many.
        writes: u32,
    },
    /// An operator or another process changes the directory of an instance's store. A running instance restarts in order at the end
    /// of the fault. Otherwise the instance is down for the time of the fault.
    StoreChange {
        /// Whose.
        instance: u32,
        /// How.
        change: StoreChange,
        /// Whether it is running.
        running: bool,
    },
    /// The second of two instances of one prefix opens the store of the first, which runs, on another host that does not see its lock.
    /// At the end of the fault it has its own store again, and the first is restarted.
    StoreShared {
        /// Whose store it is, and who opens it too.
        instances: Vec<u32>,
        /// Whether the first is restarted while the second runs yet: then it is the later one.
        taken_back: bool,
    },
    /// The wall clock of an instance steps, and steps back at the end of the fault.
    ClockStep {
        /// Whose.
        instance: u32,
        /// By so many milliseconds.
        by_ms: i64,
    },
    /// The wall clock of an instance drifts.
    ClockDrift {
        /// Whose.
        instance: u32,
        /// Microseconds gained in each second.
        ppm: i64,
    },
    /// Redis's wall clock steps, and steps back at the end of the fault.
    RedisClockStep {
        /// By so many milliseconds.
        by_ms: i64,
    },
    /// Redis evicts single keys, markers of its generation among them.
    Eviction {
        /// So many, if it has them.
        keys: u32,
        /// Which: the first in an order that grows from this number.
        draw: u64,
    },
    /// The process of Redis is killed, and started again at the end of the fault with an older save of its data: what came
    /// after is lost, the marker of its generation is not.
    RedisRollback {
        /// How long before the fault it was saved, in microseconds.
        age_us: u64,
    },
}

/// How a network works badly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "network", rename_all = "snake_case", deny_unknown_fields)]
pub enum NetTrouble {
    /// It loses segments, which TCP then sends again.
    Loss {
        /// Of a thousand, each way.
        per_mille: u32,
    },
    /// It carries little.
    Narrow {
        /// Bytes a second, each way.
        bytes_per_s: u64,
    },
    /// Its latencies differ widely.
    Jitter {
        /// Up to this much more than a millisecond, one way, in microseconds.
        jitter_us: u64,
    },
    /// The connections are reset within a request or a reply.
    ResetWithin {
        /// After so many more bytes.
        bytes: u64,
        /// Of requests, or of replies.
        of_requests: bool,
    },
    /// Bits flip in transit, in the framing of a request or a reply.
    Flips {
        /// In requests, or in replies.
        of_requests: bool,
        /// In so many segments, one bit each.
        segments: u32,
        /// Another number flips other bits.
        draw: u64,
    },
    /// The instances' kernels read and write fewer bytes than they could.
    Short {
        /// Of a thousand reads and writes.
        per_mille: u32,
    },
}

/// What a resolver in trouble answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NameAnswer {
    /// What is right, after its delay.
    Right,
    /// Nothing.
    Nothing,
    /// The other host that Redis can run on, where nobody listens.
    Refusing,
    /// The same, and it has no power.
    Silent,
    /// First that host, then the right one.
    RefusingFirst,
    /// The same, and that host has no power: SYNs to it are lost.
    SilentFirst,
    /// The same, and a process that hangs has the port there: connections are accepted and never answered.
    MuteFirst,
}

/// How a disk works badly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "disk", rename_all = "snake_case", deny_unknown_fields)]
pub enum DiskTrouble {
    /// It has no room.
    Full,
    /// So many reads fail with a device error.
    ReadErrors {
        /// How many.
        times: u32,
    },
    /// So many writes fail with a device error.
    WriteErrors {
        /// How many.
        times: u32,
    },
    /// So many syncs fail with a device error, and drop what was not synced.
    SyncErrors {
        /// How many.
        times: u32,
    },
    /// It has become read-only.
    ReadOnly,
    /// Every sync takes longer.
    SlowSync {
        /// By so many microseconds.
        extra_us: u64,
    },
    /// It does not answer before the end of the fault.
    Stalled,
}

/// A change to the directory of a store by an operator or another process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "store", rename_all = "snake_case", deny_unknown_fields)]
pub enum StoreChange {
    /// It is removed, with all in it.
    Removed,
    /// An empty one takes its place.
    Emptied,
    /// The log in it is removed.
    LogRemoved,
    /// It is moved away, and back at the end of the fault, before the instance starts again.
    MovedAway,
    /// A copy of itself takes its place.
    CopiedBack {
        /// How long before the fault the copy was made, in microseconds.
        age_us: u64,
    },
    /// A copy of another instance's store takes its place, made while that instance runs. An instance of another prefix is not
    /// copied.
    CopyOf {
        /// Whose store is copied.
        original: u32,
        /// How long before the fault the copy was made, in microseconds.
        age_us: u64,
        /// The whole volume was copied in one moment: its files keep their numbers, and hold what a loss of power could have left.
        volume: bool,
    },
    /// The log in it is cut.
    Cut {
        /// So many of a thousand bytes are left.
        per_mille: u32,
    },
}

/// Which way a partition cuts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CutDirection {
    /// Nothing gets through.
    Both,
    /// Requests are lost, replies get through.
    ToRedis,
    /// Requests get through, replies are lost.
    FromRedis,
}

/// The data of another server that the name of Redis leads to for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OtherData {
    /// No keys.
    Nothing,
    /// Markers of a generation of its own, and no records.
    Markers,
    /// A copy of Redis's data at that moment, with markers of a generation of its own.
    Clone,
}

impl Fault {
    /// The instances that it names.
    pub fn instances(&self) -> &[u32] {
        match self {
            Self::Partition { instances, .. }
            | Self::SlowLink { instances, .. }
            | Self::BadNetwork { instances, .. }
            | Self::BadNames { instances, .. }
            | Self::StoreShared { instances, .. }
            | Self::ResetConnections { instances } => instances,
            Self::InstanceRestart { instance }
            | Self::InstanceCrash { instance, .. }
            | Self::CrashAtDisk { instance, .. }
            | Self::InstancePause { instance }
            | Self::InstanceSuspend { instance }
            | Self::LockHeld { instance }
            | Self::CancelledCalls { instance, .. }
            | Self::BadDisk { instance, .. }
            | Self::BitRot { instance, .. }
            | Self::BadWrites { instance, .. }
            | Self::StoreChange { instance, .. }
            | Self::RedisRefusesOne { instance, .. }
            | Self::ClockStep { instance, .. }
            | Self::ClockDrift { instance, .. } => std::slice::from_ref(instance),
            Self::RedisCrash { .. }
            | Self::RedisPowerLoss { .. }
            | Self::RedisFailover { .. }
            | Self::RedisSwap { .. }
            | Self::RedisPause
            | Self::RedisRefuses { .. }
            | Self::RedisDenies { .. }
            | Self::RedisLimits { .. }
            | Self::RedisBusyScript { .. }
            | Self::ForeignKeys { .. }
            | Self::ScriptFlush
            | Self::FlushAll
            | Self::RollingRestart { .. }
            | Self::RedisClockStep { .. }
            | Self::Eviction { .. }
            | Self::RedisRollback { .. } => &[],
        }
    }

    /// Whether data of Redis is gone with it: all, or some.
    pub fn loses_data(&self) -> bool {
        match self {
            Self::RedisCrash { data } | Self::RedisPowerLoss { data } => *data == Persistence::Lost,
            Self::FlushAll | Self::RedisSwap { .. } => true,
            _ => self.loses_records(),
        }
    }

    /// Whether single records of Redis are lost or older afterwards, which no instance notices before it reads them.
    pub fn loses_records(&self) -> bool {
        matches!(self, Self::Eviction { .. }) || self.save_age_us().is_some()
    }

    /// How old the save is that Redis goes on with after the fault, if it is one.
    pub fn save_age_us(&self) -> Option<u64> {
        match self {
            Self::RedisRollback { age_us } => Some(*age_us),
            Self::RedisFailover { lag_us, .. } => Some(*lag_us).filter(|lag_us| *lag_us > 0),
            _ => None,
        }
    }

    /// Whether the store of an instance is other afterwards than the instance wrote it.
    pub fn damages_store(&self) -> bool {
        match self {
            Self::BitRot { .. } | Self::BadWrites { .. } => true,
            Self::StoreChange { change, .. } => *change != StoreChange::MovedAway,
            _ => false,
        }
    }

    /// How long before the fault the copy was made that replaces an instance's store; `None` for other faults.
    pub fn copy_age_us(&self) -> Option<u64> {
        match self {
            Self::StoreChange {
                change: StoreChange::CopiedBack { age_us } | StoreChange::CopyOf { age_us, .. },
                ..
            } => Some(*age_us),
            _ => None,
        }
    }

    /// Whether calls of the instance may fail meanwhile, since its disk does not work.
    pub fn troubles_disk(&self) -> bool {
        matches!(self, Self::BadDisk { .. } | Self::StoreChange { .. } | Self::StoreShared { .. })
            || self.damages_store()
    }

    /// Whether the process of an instance stands still meanwhile.
    pub fn stops_process(&self) -> bool {
        matches!(self, Self::InstancePause { .. } | Self::InstanceSuspend { .. })
    }

    /// Of a moment, rather than with a beginning and an end.
    pub(crate) fn is_momentary(&self) -> bool {
        matches!(
            self,
            Self::ResetConnections { .. }
                | Self::ScriptFlush
                | Self::FlushAll
                | Self::Eviction { .. }
                | Self::ForeignKeys { .. }
                | Self::RollingRestart { .. }
        )
    }
}
