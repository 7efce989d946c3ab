//! The kinds of faults by the names that reports give them.

use super::{
    BadWrite, CutDirection, DiskTrouble, Fault, NameAnswer, NetTrouble, Persistence, ServerLimit, StoreChange,
};

impl Fault {
    /// The kind, as it is named in reports.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Partition { direction: CutDirection::Both, .. } => "partition",
            Self::Partition { direction: CutDirection::ToRedis, .. } => "partition of requests",
            Self::Partition { direction: CutDirection::FromRedis, .. } => "partition of replies",
            Self::SlowLink { .. } => "slow link",
            Self::BadNetwork { trouble, .. } => trouble.kind(),
            Self::BadNames { answer, .. } => answer.kind(),
            Self::RedisPowerLoss { .. } => "Redis power loss",
            Self::RedisFailover { silent: false, .. } => "Redis failover",
            Self::RedisFailover { silent: true, .. } => "Redis failover in silence",
            Self::RedisSwap { .. } => "another Redis",
            Self::ResetConnections { .. } => "connection reset",
            Self::RedisCrash { data: Persistence::Kept } => "Redis crash, data kept",
            Self::RedisCrash { data: Persistence::Lost } => "Redis crash, data lost",
            Self::RedisPause => "Redis pause",
            Self::RedisRefuses { .. } => "Redis refuses",
            Self::RedisRefusesOne { user: true, .. } => "Redis refuses a user",
            Self::RedisRefusesOne { user: false, .. } => "Redis refuses a connection",
            Self::RedisDenies { .. } => "denied command",
            Self::RedisLimits { to: ServerLimit::BulkBytes { .. } } => "limit of a word",
            Self::RedisLimits { to: ServerLimit::QueryBytes { .. } } => "limit of a query",
            Self::RedisLimits { to: ServerLimit::Idle { .. } } => "limit of idle time",
            Self::RedisLimits { to: ServerLimit::Clients { .. } } => "limit of clients",
            Self::RedisBusyScript { .. } => "endless script",
            Self::ForeignKeys { .. } => "foreign keys",
            Self::ScriptFlush => "script flush",
            Self::FlushAll => "FLUSHALL",
            Self::InstanceRestart { .. } => "instance restart",
            Self::InstanceCrash { power_loss: false, .. } => "instance kill",
            Self::InstanceCrash { power_loss: true, .. } => "instance power loss",
            Self::CrashAtDisk { .. } => "crash at a disk operation",
            Self::RollingRestart { .. } => "rolling restart",
            Self::InstancePause { .. } => "instance pause",
            Self::InstanceSuspend { .. } => "instance suspend",
            Self::LockHeld { .. } => "lock held by another",
            Self::CancelledCalls { .. } => "cancelled calls",
            Self::BadDisk { trouble, .. } => trouble.kind(),
            Self::BitRot { running: false, .. } => "bit rot while down",
            Self::BitRot { running: true, .. } => "bit rot while running",
            Self::BadWrites { how: BadWrite::Lost, .. } => "lost write",
            Self::BadWrites { how: BadWrite::Misdirected, .. } => "misdirected write",
            Self::StoreChange { change, .. } => change.kind(),
            Self::StoreShared { .. } => "store opened by two hosts",
            Self::ClockStep { .. } => "clock step",
            Self::ClockDrift { .. } => "clock drift",
            Self::RedisClockStep { .. } => "Redis clock step",
            Self::Eviction { .. } => "eviction",
            Self::RedisRollback { .. } => "Redis rollback",
        }
    }
}

impl NetTrouble {
    fn kind(self) -> &'static str {
        match self {
            Self::Loss { .. } => "packet loss",
            Self::Narrow { .. } => "low bandwidth",
            Self::Jitter { .. } => "jitter",
            Self::ResetWithin { .. } => "reset within a message",
            Self::Flips { of_requests: true, .. } => "flipped bits in requests",
            Self::Flips { of_requests: false, .. } => "flipped bits in replies",
            Self::Short { .. } => "short reads and writes",
        }
    }
}

impl NameAnswer {
    fn kind(self) -> &'static str {
        match self {
            Self::Right => "slow names",
            Self::Nothing => "failing names",
            Self::Refusing | Self::Silent => "wrong names",
            Self::RefusingFirst => "several addresses",
            Self::SilentFirst => "silent first address",
            Self::MuteFirst => "mute first address",
        }
    }
}

impl DiskTrouble {
    fn kind(self) -> &'static str {
        match self {
            Self::Full => "disk full",
            Self::ReadErrors { .. } => "disk read errors",
            Self::WriteErrors { .. } => "disk write errors",
            Self::SyncErrors { .. } => "disk sync errors",
            Self::ReadOnly => "disk read-only",
            Self::SlowSync { .. } => "disk slow sync",
            Self::Stalled => "disk stalled",
        }
    }
}

impl StoreChange {
    fn kind(self) -> &'static str {
        match self {
            Self::Removed => "store removed",
            Self::Emptied => "store emptied",
            Self::LogRemoved => "log removed",
            Self::MovedAway => "store moved away",
            Self::CopiedBack { .. } => "store copied back",
            Self::CopyOf { volume: false, .. } => "copy of a running store",
            Self::CopyOf { volume: true, .. } => "clone of a running volume",
            Self::Cut { .. } => "log cut",
        }
    }
}

/// The kinds, as they are named in reports.
pub const KIND_NAMES: [&str; 71] = [
    "partition",
    "partition of requests",
    "partition of replies",
    "slow link",
    "packet loss",
    "low bandwidth",
    "jitter",
    "reset within a message",
    "flipped bits in requests",
    "flipped bits in replies",
    "short reads and writes",
    "slow names",
    "failing names",
    "wrong names",
    "several addresses",
    "silent first address",
    "mute first address",
    "connection reset",
    "Redis power loss",
    "Redis failover",
    "Redis failover in silence",
    "another Redis",
    "Redis crash, data kept",
    "Redis crash, data lost",
    "Redis pause",
    "Redis refuses",
    "Redis refuses a user",
    "Redis refuses a connection",
    "denied command",
    "limit of a word",
    "limit of a query",
    "limit of idle time",
    "limit of clients",
    "endless script",
    "foreign keys",
    "script flush",
    "FLUSHALL",
    "instance restart",
    "instance kill",
    "instance power loss",
    "crash at a disk operation",
    "rolling restart",
    "instance pause",
    "instance suspend",
    "lock held by another",
    "cancelled calls",
    "disk full",
    "disk read errors",
    "disk write errors",
    "disk sync errors",
    "disk read-only",
    "disk slow sync",
    "disk stalled",
    "bit rot while down",
    "bit rot while running",
    "lost write",
    "misdirected write",
    "store removed",
    "store emptied",
    "log removed",
    "store moved away",
    "store copied back",
    "copy of a running store",
    "clone of a running volume",
    "store opened by two hosts",
    "log cut",
    "clock step",
    "clock drift",
    "Redis clock step",
    "eviction",
    "Redis rollback",
];
