//! The instances that a fault names, to be changed: a shrinker takes single ones out.

use super::{Fault, StoreChange};

/// The instances that a fault names, by the form in which it holds them.
#[derive(Debug, PartialEq, Eq)]
pub enum NamedInstances<'a> {
    /// It concerns Redis, or every instance.
    Absent,
    /// It concerns this one.
    One(&'a mut u32),
    /// It concerns the first, and needs the second for it.
    Pair(&'a mut u32, &'a mut u32),
    /// It concerns each of these.
    Several(&'a mut Vec<u32>),
}

impl Fault {
    /// The instances that it names, to change them.
    pub fn instances_mut(&mut self) -> NamedInstances<'_> {
        match self {
            Self::Partition { instances, .. }
            | Self::SlowLink { instances, .. }
            | Self::BadNetwork { instances, .. }
            | Self::BadNames { instances, .. }
            | Self::StoreShared { instances, .. }
            | Self::ResetConnections { instances } => NamedInstances::Several(instances),
            Self::StoreChange { instance, change: StoreChange::CopyOf { original, .. }, .. } => {
                NamedInstances::Pair(instance, original)
            }
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
            | Self::ClockDrift { instance, .. } => NamedInstances::One(instance),
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
            | Self::RedisRollback { .. } => NamedInstances::Absent,
        }
    }
}
