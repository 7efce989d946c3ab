//! How it is measured that a fault had an effect that a client could see. Some show at once when a fault begins (the keys
//! that a FLUSHALL took, the sectors that a loss of power took), or when it ends (the calls that waited for a paused
//! process); the rest are counters of the world, read before and after.

use super::Nemesis;
use crate::{
    faults::{Fault, NetTrouble},
    redis_host::HOSTS,
};

impl Nemesis<'_> {
    /// A counter that goes on while the fault has effects.
    pub(super) fn measure(&self, fault: &Fault) -> u64 {
        let world = self.world;
        match fault {
            // Segments lost or slowed between them.
            Fault::Partition { instances, .. }
            | Fault::SlowLink { instances, .. }
            | Fault::BadNetwork {
                instances,
                trouble: NetTrouble::Loss { .. } | NetTrouble::Narrow { .. } | NetTrouble::Jitter { .. },
            } => {
                let links = instances.iter().flat_map(|instance| HOSTS.map(|redis| (*instance, redis)));
                links.map(|(instance, redis)| world.net().troubled(instance, redis)).sum()
            }
            Fault::BadNetwork { trouble: NetTrouble::ResetWithin { .. }, .. } => world.net().counters().planned_resets,
            Fault::BadNetwork { trouble: NetTrouble::Flips { .. }, .. } => self.redis.garbled(),
            Fault::BadNetwork { trouble: NetTrouble::Short { .. }, .. } => world.net().counters().shortened,
            // Connects that asked for an address meanwhile.
            Fault::BadNames { .. } => world.net().counters().troubled_names,
            // Connects refused, beside the connections that broke.
            Fault::RedisCrash { .. }
            | Fault::RedisPowerLoss { .. }
            | Fault::RedisFailover { .. }
            | Fault::RedisSwap { .. }
            | Fault::RedisRollback { .. } => world.net().counters().refused,
            // What arrives while Redis stands still, and is answered late.
            Fault::RedisPause => world.net().counters().segments,
            Fault::RedisRefuses { .. }
            | Fault::RedisRefusesOne { .. }
            | Fault::RedisDenies { .. }
            | Fault::RedisLimits { .. }
            | Fault::RedisBusyScript { .. } => self.redis.with_engine(|engine| engine.refusals()),
            // Errors, waits, bad writes, flipped bits, locks refused.
            Fault::LockHeld { instance }
            | Fault::BadDisk { instance, .. }
            | Fault::BitRot { instance, .. }
            | Fault::BadWrites { instance, .. } => world.disk(*instance).effects(),
            Fault::CancelledCalls { instance, .. } => self.instances.cancelled(*instance),
            // Readings of the wrong time.
            Fault::ClockStep { instance, .. } | Fault::ClockDrift { instance, .. } => world.clock_readings(*instance),
            Fault::RedisClockStep { .. } => HOSTS.iter().map(|host| world.clock_readings(*host)).sum(),
            Fault::ResetConnections { .. }
            | Fault::ForeignKeys { .. }
            | Fault::ScriptFlush
            | Fault::FlushAll
            | Fault::Eviction { .. }
            | Fault::InstanceRestart { .. }
            | Fault::InstanceCrash { .. }
            | Fault::CrashAtDisk { .. }
            | Fault::RollingRestart { .. }
            | Fault::InstancePause { .. }
            | Fault::InstanceSuspend { .. }
            | Fault::StoreChange { .. }
            | Fault::StoreShared { .. } => 0,
        }
    }
}
