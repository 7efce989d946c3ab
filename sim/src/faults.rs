//! The faults that a run can suffer, as data. A plan lies beside the workload and knows nothing of it; the nemesis
//! plays it, the history records it.

use serde::{Deserialize, Serialize};

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
    /// SCRIPT FLUSH: every cached script is forgotten.
    ScriptFlush,
    /// FLUSHALL: an operator deletes everything.
    FlushAll,
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
            Self::ScriptFlush => "script flush",
            Self::FlushAll => "FLUSHALL",
            Self::InstanceCrash { power_loss: false, .. } => "instance kill",
            Self::InstanceCrash { power_loss: true, .. } => "instance power loss",
        }
    }
}
