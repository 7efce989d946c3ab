//! The faults that a run can suffer, as data. A plan lies beside the workload and knows nothing of it; the nemesis
//! plays it, the history records it.
//!
//! - here: the kinds and their parameters, as replay files hold them.
//! - `generate`: how a plan grows from a seed.
//! - `budget`: which of what was drawn stays, so that the plan is within what the guarantees promise to survive.

mod budget;
mod generate;

use serde::{Deserialize, Serialize};

pub use self::{
    budget::LOSS_MARGIN_US,
    generate::{clock_offsets_ms, generate},
};

/// One fault of a plan, with its times.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedFault {
    /// When it begins, in simulated microseconds after the start of the phase of faults.
    pub start_us: u64,
    /// When it ends, likewise; a fault of a moment ends when it begins.
    pub end_us: u64,
    /// What it is.
    pub fault: Fault,
}

/// A kind of fault and its parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub enum Fault {
    /// Segments between these instances and Redis are lost in the direction given (TCP sends them again after heal).
    Partition {
        /// The instances cut off.
        instances: Vec<u32>,
        /// Which way is cut.
        direction: Direction,
    },
    /// Every segment between these instances and Redis takes this much longer.
    SlowLink {
        /// The instances concerned.
        instances: Vec<u32>,
        /// Added to each segment's latency, one way, in microseconds.
        extra_us: u64,
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
    /// The process of Redis is stopped (SIGSTOP) and goes on at the end of the fault; connections stay open.
    RedisPause,
    /// Redis runs and answers commands with an error.
    RedisRefuses {
        /// Which, and to which commands.
        with: Refusal,
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
}

/// Which way a partition cuts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Nothing gets through.
    Both,
    /// Requests are lost, replies get through.
    ToRedis,
    /// Requests get through, replies are lost.
    FromRedis,
}

/// Why Redis answers with errors, by the code that these begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// It reads its data set: nothing works.
    Loading,
    /// It has become a replica: writes are refused.
    ReadOnly,
    /// Its memory is full: writes are refused.
    OutOfMemory,
    /// It cannot save to its disk: writes are refused.
    Misconfigured,
    /// A script runs for too long: nothing works.
    Busy,
    /// A password was set: nothing works.
    NoAuth,
    /// It is a replica without its master, and serves no stale data: nothing works.
    MasterDown,
    /// The user has lost the right to use any command.
    NoPermission,
    /// It takes no more clients: connections that stand go on.
    MaxClients,
}

/// Every refusal.
pub const REFUSALS: [Refusal; 9] = [
    Refusal::Loading,
    Refusal::ReadOnly,
    Refusal::OutOfMemory,
    Refusal::Misconfigured,
    Refusal::Busy,
    Refusal::NoAuth,
    Refusal::MasterDown,
    Refusal::NoPermission,
    Refusal::MaxClients,
];

/// What Redis holds after a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Persistence {
    /// Everything (append-only file, synced at every write).
    Kept,
    /// Nothing (no persistence).
    Lost,
}

impl Fault {
    /// The kind, as it is named in reports.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Partition { direction: Direction::Both, .. } => "partition",
            Self::Partition { direction: Direction::ToRedis, .. } => "partition of requests",
            Self::Partition { direction: Direction::FromRedis, .. } => "partition of replies",
            Self::SlowLink { .. } => "slow link",
            Self::ResetConnections { .. } => "connection reset",
            Self::RedisCrash { data: Persistence::Kept } => "Redis crash, data kept",
            Self::RedisCrash { data: Persistence::Lost } => "Redis crash, data lost",
            Self::RedisPause => "Redis pause",
            Self::RedisRefuses { .. } => "Redis refuses",
            Self::ScriptFlush => "script flush",
            Self::FlushAll => "FLUSHALL",
            Self::InstanceRestart { .. } => "instance restart",
            Self::InstanceCrash { power_loss: false, .. } => "instance kill",
            Self::InstanceCrash { power_loss: true, .. } => "instance power loss",
        }
    }
}

impl Fault {
    /// The instances that it names.
    pub fn instances(&self) -> &[u32] {
        match self {
            Self::Partition { instances, .. }
            | Self::SlowLink { instances, .. }
            | Self::ResetConnections { instances } => instances,
            Self::InstanceRestart { instance } | Self::InstanceCrash { instance, .. } => std::slice::from_ref(instance),
            Self::RedisCrash { .. }
            | Self::RedisPause
            | Self::RedisRefuses { .. }
            | Self::ScriptFlush
            | Self::FlushAll => &[],
        }
    }

    /// Whether Redis's data is gone with it.
    pub fn loses_data(&self) -> bool {
        match self {
            Self::RedisCrash { data: Persistence::Lost } | Self::FlushAll => true,
            Self::RedisCrash { data: Persistence::Kept }
            | Self::Partition { .. }
            | Self::SlowLink { .. }
            | Self::ResetConnections { .. }
            | Self::RedisPause
            | Self::RedisRefuses { .. }
            | Self::ScriptFlush
            | Self::InstanceRestart { .. }
            | Self::InstanceCrash { .. } => false,
        }
    }

    /// Of a moment, rather than with a beginning and an end.
    fn is_momentary(&self) -> bool {
        matches!(self, Self::ResetConnections { .. } | Self::ScriptFlush | Self::FlushAll)
    }

    /// What can suffer only one fault at a time.
    fn victim(&self) -> Option<Victim> {
        match self {
            Self::RedisCrash { .. }
            | Self::RedisPause
            | Self::RedisRefuses { .. }
            | Self::ScriptFlush
            | Self::FlushAll => Some(Victim::Redis),
            Self::InstanceRestart { instance } | Self::InstanceCrash { instance, .. } => {
                Some(Victim::Instance(*instance))
            }
            Self::Partition { .. } | Self::SlowLink { .. } | Self::ResetConnections { .. } => None,
        }
    }
}

#[derive(PartialEq, Eq)]
enum Victim {
    Redis,
    Instance(u32),
}

/// The kinds, as they are named in reports.
pub const KIND_NAMES: [&str; 14] = [
    "partition",
    "partition of requests",
    "partition of replies",
    "slow link",
    "connection reset",
    "Redis crash, data kept",
    "Redis crash, data lost",
    "Redis pause",
    "Redis refuses",
    "script flush",
    "FLUSHALL",
    "instance restart",
    "instance kill",
    "instance power loss",
];
