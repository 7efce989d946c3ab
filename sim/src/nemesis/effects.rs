//! How it is measured that a fault had an effect that a client could see. Some show at once when a fault begins (the keys
//! that a FLUSHALL took, the sectors that a loss of power took), or when it ends (the calls that waited for a paused
//! process); the rest are counters of the world, read before and after.

use super::Nemesis;
use crate::{faults::Fault, world::Host};

impl Nemesis<'_> {
    /// A counter that goes on while the fault has effects.
    pub(super) fn measure(&self, fault: &Fault) -> u64 {
        let world = self.world;
        match fault {
            // Segments lost or slowed between them.
            Fault::Partition { instances, .. } | Fault::SlowLink { instances, .. } => {
                instances.iter().map(|instance| world.net().troubled(*instance, Host::Redis)).sum()
            }
            // Connects refused, beside the connections that broke.
            Fault::RedisCrash { .. } | Fault::RedisRollback { .. } => world.net().counters().refused,
            // What arrives while Redis stands still, and is answered late.
            Fault::RedisPause => world.net().counters().segments,
            Fault::RedisRefuses { .. } => self.redis.with_engine(|engine| engine.refusals()),
            // Errors, waits, bad writes, flipped bits, locks refused.
            Fault::LockHeld { instance }
            | Fault::BadDisk { instance, .. }
            | Fault::BitRot { instance, .. }
            | Fault::BadWrites { instance, .. } => world.disk(*instance).effects(),
            Fault::CancelledCalls { instance, .. } => self.instances.cancelled(*instance),
            // Readings of the wrong time.
            Fault::ClockStep { instance, .. } | Fault::ClockDrift { instance, .. } => world.clock_readings(*instance),
            Fault::RedisClockStep { .. } => world.clock_readings(Host::Redis),
            Fault::ResetConnections { .. }
            | Fault::ScriptFlush
            | Fault::FlushAll
            | Fault::Eviction { .. }
            | Fault::InstanceRestart { .. }
            | Fault::InstanceCrash { .. }
            | Fault::CrashAtDisk { .. }
            | Fault::RollingRestart { .. }
            | Fault::InstancePause { .. } => 0,
        }
    }
}
