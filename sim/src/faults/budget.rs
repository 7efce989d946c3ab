//! What keeps a plan within what the guarantees promise to survive:
//!
//! - A copy of a `Shared` write is written behind, so an instance that crashes may lose its copies of the last moments,
//!   while Redis has them. Redis therefore never loses its data after an instance has crashed, and no instance crashes
//!   within [`LOSS_MARGIN_US`] after Redis lost its data: every acknowledged write keeps a durable copy (G5).
//! - One fault of Redis's process at a time, and one crash of an instance at a time: a process that is down cannot crash.

use super::{Fault, PlannedFault};

/// How long after a loss of Redis's data no instance crashes: several times the interval within which copies are
/// written behind.
pub const LOSS_MARGIN_US: u64 = 2_000_000;

/// Takes out what the header of this file rules out.
pub(super) fn within_budget(plan: Vec<PlannedFault>) -> Vec<PlannedFault> {
    let last_loss_us = plan.iter().filter(|planned| planned.fault.loses_data()).map(|planned| planned.end_us).max();
    let first_safe_us = last_loss_us.map_or(0, |loss| loss + LOSS_MARGIN_US);
    let mut kept: Vec<PlannedFault> = Vec::new();
    for planned in plan {
        let too_early = matches!(planned.fault, Fault::InstanceCrash { .. }) && planned.start_us < first_safe_us;
        let overlaps = planned.fault.victim().is_some_and(|victim| {
            kept.iter().any(|other| other.fault.victim().as_ref() == Some(&victim) && other.end_us >= planned.start_us)
        });
        if !too_early && !overlaps {
            kept.push(planned);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::{super::generate, *};
    use crate::seed::Seed;

    fn plans() -> impl Iterator<Item = Vec<PlannedFault>> {
        (0..2000).map(|seed| generate(Seed(seed), 4, 20_000_000))
    }

    #[test]
    fn no_instance_crashes_before_or_soon_after_redis_loses_its_data() {
        for plan in plans() {
            let losses = plan.iter().filter(|planned| planned.fault.loses_data());
            let last_loss_us = losses.map(|planned| planned.end_us).max().unwrap_or(0);
            let crashes = plan.iter().filter(|planned| matches!(planned.fault, Fault::InstanceCrash { .. }));
            let first_crash_us = crashes.map(|planned| planned.start_us).min().unwrap_or(u64::MAX);
            assert!(last_loss_us == 0 || first_crash_us >= last_loss_us + LOSS_MARGIN_US, "{plan:?}");
        }
    }

    #[test]
    fn a_process_that_is_down_suffers_nothing_else() {
        for plan in plans() {
            for (index, planned) in plan.iter().enumerate() {
                for later in &plan[index + 1..] {
                    let same = planned.fault.victim().is_some() && planned.fault.victim() == later.fault.victim();
                    assert!(!same || later.start_us > planned.end_us, "{planned:?} {later:?}");
                }
            }
        }
    }
}
