//! When an instance cannot have heard from Redis, by the faults of a run.

use crate::{
    faults::Fault,
    history::{Event, What},
};

/// How late a reply may arrive that was on its way when the network was cut.
pub(super) const ON_ITS_WAY_US: u64 = 1_000_000;

/// The times of a run in which instances cannot have heard from Redis.
#[derive(Default)]
pub(super) struct Cuts(Vec<CutStretch>);

struct CutStretch {
    fault: u32,
    /// All if empty.
    instances: Vec<u32>,
    from_us: u64,
    until_us: u64,
}

impl Cuts {
    pub(super) fn of(events: &[Event]) -> Self {
        let mut cuts = Self::default();
        for event in events {
            match &event.what {
                What::FaultBegin { fault, what, .. } => cuts.0.extend(CutStretch::of(*fault, what, event.at_us)),
                What::FaultEnd { fault, .. } => {
                    let ended = cuts.0.iter_mut().filter(|cut| cut.fault == *fault);
                    ended.for_each(|cut| cut.until_us = event.at_us);
                }
                _ => {}
            }
        }
        cuts
    }

    /// Since when an instance had been cut off at the first of these times, if it was until the second.
    pub(super) fn around(&self, instance: u32, from_us: u64, until_us: u64) -> Option<u64> {
        let cuts = self.0.iter().filter(|cut| cut.instances.is_empty() || cut.instances.contains(&instance));
        cuts.filter(|cut| cut.from_us <= from_us && until_us <= cut.until_us).map(|cut| cut.from_us).min()
    }
}

impl CutStretch {
    /// What a fault that begins now cuts off, if it does.
    fn of(fault: u32, what: &Fault, from_us: u64) -> Option<Self> {
        let instances = match what {
            Fault::Partition { instances, .. } => instances.clone(),
            Fault::InstanceSuspend { instance } => vec![*instance],
            Fault::RedisCrash { .. } | Fault::RedisPowerLoss { .. } | Fault::RedisPause => Vec::new(),
            _ => return None,
        };
        Some(Self { fault, instances, from_us, until_us: u64::MAX })
    }
}
