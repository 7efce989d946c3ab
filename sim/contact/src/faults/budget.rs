//! What keeps a plan within what the guarantees promise to survive:
//!
//! - A copy of a `Shared` write is written behind, so an instance that crashes may lose its copies of the last moments,
//!   while Redis has them. Redis therefore never loses data after an instance has crashed, and no instance crashes within
//!   [`LOSS_MARGIN_US`] after Redis lost data: every acknowledged write keeps a durable copy (G5). Keys that are evicted,
//!   and what a rollback or a replica that was behind takes, are losses like others.
//! - An instance keeps no copies while its disk fails, and a sync that fails ends its store until it is opened again, and
//!   with it what was written behind: errors of a disk count as a crash.
//! - Where Redis loses data, no process ends while its disk is in trouble or it is paused or sleeps, nor within that margin after:
//!   its copies may not have reached the disk.
//! - Damage to a store (bit rot, lost or misdirected writes, a directory or a log that is removed, cut, or replaced by an older
//!   copy of itself) may destroy copies and acknowledged local writes. Redis then keeps its data, so that only the writes which
//!   that instance alone held can be lost; those are outside of G5 and G6, and the history names the instance (G10 demands that
//!   it noticed).
//! - A copy of another store that takes the place of an instance's own one costs that instance what only its own one held.
//! - An instance whose store is moved away, or opened on another host, keeps no copies until it is opened again: that counts as a crash
//!   too. A store that two hosts opened holds what both wrote: nothing damages it later, and no acknowledged write is lost.
//! - Clocks may step and drift as they like: by far less than `tombstone_ttl`, which promises are measured by. Where that is
//!   set short, clocks are right, and no instance can be away for half of it: a removal that is forgotten may be undone.
//! - Where instances may keep few copies, and forget the others, Redis keeps its data: nobody else may have it.
//! - Cancelled calls, pauses, suspended machines and slow or stalled disks cost no copy, and have no limit.
//!
//! A plan beyond the budget is held to nothing of this. In any plan, one thing suffers one fault at a time: a process that is
//! down cannot crash, a fault of a disk ends with that disk's troubles.

use super::{DiskTrouble, Fault, NetTrouble, PlannedFault};

/// How long after a loss of Redis's data no instance crashes: several times the interval within which copies are
/// written behind.
pub const LOSS_MARGIN_US: u64 = 2_000_000;

/// How long an instance may take to be back after a fault: the longest delay before a reconnect, and an attempt that fails.
const BACK_US: u64 = 12_000_000;

/// What can suffer only one fault at a time.
#[derive(PartialEq, Eq)]
enum Victim {
    Redis,
    RedisClock,
    EveryProcess,
    Process(u32),
    Disk(u32),
    Clock(u32),
    Calls(u32),
    Network(u32),
    Resolver(u32),
    /// Bits that flip in transit: one setting applies to all instances at once.
    Bits,
}

/// Takes out what the header of this file rules out.
pub(super) fn within(plan: Vec<PlannedFault>) -> Vec<PlannedFault> {
    let last_loss_us = plan.iter().filter(|planned| planned.fault.loses_data()).map(|planned| planned.end_us).max();
    let Some(last_loss_us) = last_loss_us else { return plan };
    let holds_back: Vec<_> = plan.iter().filter(|planned| keeps_copies_from_disk(&planned.fault)).cloned().collect();
    let may_be_unflushed = |planned: &PlannedFault| {
        holds_back
            .iter()
            .filter(|other| *other != planned && meet(&other.fault, &planned.fault))
            .any(|other| other.start_us <= planned.end_us && planned.start_us <= other.end_us + LOSS_MARGIN_US)
    };
    plan.into_iter()
        .filter(|planned| {
            let too_early = forgets(&planned.fault) && planned.start_us < last_loss_us + LOSS_MARGIN_US;
            let ends_process = forgets(&planned.fault) || restarts(&planned.fault);
            !(too_early || planned.fault.damages_store() || ends_process && may_be_unflushed(planned))
        })
        .collect()
}

/// Takes out what loses data of Redis.
pub(super) fn kept_by_redis(plan: Vec<PlannedFault>) -> Vec<PlannedFault> {
    plan.into_iter().filter(|planned| !planned.fault.loses_data()).collect()
}

/// Takes out what could keep an instance away for half of the time for which removals are remembered, or makes a clock
/// wrong.
pub(super) fn remembered(plan: Vec<PlannedFault>, tombstone_ttl_us: u64) -> Vec<PlannedFault> {
    // Faults so near to each other that an instance may not have been back between them.
    let (mut begun_us, mut over_us) = (0, 0);
    let away = |planned: &PlannedFault| match planned.fault {
        Fault::ClockStep { .. } | Fault::ClockDrift { .. } | Fault::RedisClockStep { .. } => false,
        _ => {
            if planned.start_us > over_us {
                begun_us = planned.start_us;
            }
            let until_us = over_us.max(planned.end_us + BACK_US);
            let short = until_us - begun_us <= tombstone_ttl_us / 2;
            if short {
                over_us = until_us;
            }
            short
        }
    };
    plan.into_iter().filter(away).collect()
}

/// Takes out what comes while its victim suffers something else.
pub(super) fn one_at_a_time(plan: Vec<PlannedFault>) -> Vec<PlannedFault> {
    let mut kept: Vec<PlannedFault> = Vec::new();
    for planned in plan {
        let overlaps =
            kept.iter().any(|other| other.end_us >= planned.start_us && collide(&other.fault, &planned.fault));
        if !overlaps {
            kept.push(planned);
        }
    }
    kept
}

/// Whether a plan has room for one more fault.
pub(super) fn is_free(plan: &[PlannedFault], more: &PlannedFault) -> bool {
    let shared = match &more.fault {
        Fault::StoreShared { instances, .. } => instances.first(),
        _ => None,
    };
    plan.iter().all(|other| {
        let is_before = other.end_us < more.start_us;
        let is_apart = is_before || more.end_us < other.start_us;
        let damages = other.fault.damages_store() && other.fault.instances().first() == shared;
        (is_apart || !collide(&other.fault, &more.fault)) && (is_before || !damages)
    })
}

/// The first two faults of a plan, by their positions, of which one thing would suffer both at a time.
pub fn colliding(plan: &[PlannedFault]) -> Option<(usize, usize)> {
    plan.iter().enumerate().find_map(|(later, planned)| {
        let at_once = |other: &PlannedFault| other.end_us > planned.start_us && collide(&other.fault, &planned.fault);
        plan[..later].iter().position(at_once).map(|earlier| (earlier, later))
    })
}

/// Whether an instance may lose what it had not synced, or keep no copy of what it wrote to Redis.
fn forgets(fault: &Fault) -> bool {
    match fault {
        Fault::InstanceCrash { .. }
        | Fault::CrashAtDisk { .. }
        | Fault::StoreChange { .. }
        | Fault::StoreShared { .. } => true,
        Fault::BadDisk { trouble, .. } => !matches!(trouble, DiskTrouble::SlowSync { .. } | DiskTrouble::Stalled),
        _ => false,
    }
}

/// Whether an instance closes its cache and opens it again.
fn restarts(fault: &Fault) -> bool {
    matches!(fault, Fault::InstanceRestart { .. } | Fault::RollingRestart { .. } | Fault::LockHeld { .. })
}

/// Whether copies may stay in memory for as long as it lasts.
fn keeps_copies_from_disk(fault: &Fault) -> bool {
    matches!(fault, Fault::BadDisk { .. } | Fault::StoreChange { .. } | Fault::StoreShared { .. })
        || fault.stops_process()
}

/// Whether two faults concern one instance.
fn meet(one: &Fault, other: &Fault) -> bool {
    let everyone = |fault: &Fault| matches!(fault, Fault::RollingRestart { .. });
    everyone(one) || everyone(other) || one.instances().iter().any(|instance| other.instances().contains(instance))
}

fn collide(one: &Fault, other: &Fault) -> bool {
    let others = victims(other);
    victims(one).iter().any(|victim| {
        others.iter().any(|other| match (victim, other) {
            (Victim::EveryProcess, Victim::Process(_)) | (Victim::Process(_), Victim::EveryProcess) => true,
            (victim, other) => victim == other,
        })
    })
}

fn victims(fault: &Fault) -> Vec<Victim> {
    match fault {
        Fault::RedisCrash { .. }
        | Fault::RedisPowerLoss { .. }
        | Fault::RedisFailover { .. }
        | Fault::RedisSwap { .. }
        | Fault::RedisPause
        | Fault::RedisRefuses { .. }
        | Fault::RedisRefusesOne { .. }
        | Fault::RedisDenies { .. }
        | Fault::RedisLimits { .. }
        | Fault::RedisBusyScript { .. }
        | Fault::ForeignKeys { .. }
        | Fault::ScriptFlush
        | Fault::FlushAll
        | Fault::Eviction { .. }
        | Fault::RedisRollback { .. } => vec![Victim::Redis],
        Fault::InstanceRestart { instance }
        | Fault::InstanceCrash { instance, .. }
        | Fault::CrashAtDisk { instance, .. }
        | Fault::InstancePause { instance }
        | Fault::InstanceSuspend { instance } => vec![Victim::Process(*instance)],
        Fault::RollingRestart { .. } => vec![Victim::EveryProcess],
        Fault::LockHeld { instance }
        | Fault::BitRot { instance, .. }
        | Fault::BadWrites { instance, .. }
        | Fault::StoreChange { instance, .. } => vec![Victim::Process(*instance), Victim::Disk(*instance)],
        Fault::StoreShared { instances, .. } => {
            let of = |instance: &u32| [Victim::Process(*instance), Victim::Disk(*instance)];
            instances.iter().flat_map(of).collect()
        }
        Fault::BadDisk { instance, .. } => vec![Victim::Disk(*instance)],
        Fault::CancelledCalls { instance, .. } => vec![Victim::Calls(*instance)],
        Fault::ClockStep { instance, .. } | Fault::ClockDrift { instance, .. } => vec![Victim::Clock(*instance)],
        Fault::RedisClockStep { .. } => vec![Victim::RedisClock],
        Fault::BadNetwork { instances, trouble } => {
            let bits = matches!(trouble, NetTrouble::Flips { .. }).then_some(Victim::Bits);
            instances.iter().copied().map(Victim::Network).chain(bits).collect()
        }
        Fault::BadNames { instances, .. } => instances.iter().copied().map(Victim::Resolver).collect(),
        Fault::Partition { .. } | Fault::SlowLink { .. } | Fault::ResetConnections { .. } => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Emphasis, PlanFrame, generate},
        *,
    };
    use crate::seed::Seed;

    const FRAME: PlanFrame = PlanFrame {
        instances: 4,
        length_us: 20_000_000,
        emphasis: Emphasis::None,
        tombstone_ttl_us: None,
        forgets_copies: false,
        expires: false,
        beyond_budget: false,
    };

    /// Of every emphasis.
    fn plans() -> impl Iterator<Item = Vec<PlannedFault>> {
        let each = [Emphasis::None, Emphasis::Outages, Emphasis::Churn, Emphasis::Impatience];
        let frames = each.map(|emphasis| PlanFrame { emphasis, ..FRAME });
        (0..2000).map(move |seed| generate(Seed(seed), &frames[usize::try_from(seed % 4).expect("small")]))
    }

    #[test]
    fn no_instance_crashes_before_or_soon_after_redis_loses_its_data() {
        for plan in plans() {
            let losses = plan.iter().filter(|planned| planned.fault.loses_data());
            let last_loss_us = losses.map(|planned| planned.end_us).max().unwrap_or(0);
            let crashes = plan.iter().filter(|planned| forgets(&planned.fault));
            let first_crash_us = crashes.map(|planned| planned.start_us).min().unwrap_or(u64::MAX);
            assert!(last_loss_us == 0 || first_crash_us >= last_loss_us + LOSS_MARGIN_US, "{plan:?}");
        }
    }

    #[test]
    fn a_process_that_is_down_suffers_nothing_else() {
        for plan in plans() {
            for (index, planned) in plan.iter().enumerate() {
                for later in &plan[index + 1..] {
                    let same = collide(&planned.fault, &later.fault);
                    assert!(!same || later.start_us > planned.end_us, "{planned:?} {later:?}");
                }
            }
        }
    }

    #[test]
    fn where_redis_loses_data_no_store_is_damaged_and_no_copy_is_kept_from_its_disk_by_an_end() {
        for plan in plans().filter(|plan| plan.iter().any(|planned| planned.fault.loses_data())) {
            assert!(!plan.iter().any(|planned| planned.fault.damages_store()), "{plan:?}");
            for ends in plan.iter().filter(|planned| forgets(&planned.fault) || restarts(&planned.fault)) {
                let held_back =
                    plan.iter().filter(|planned| *planned != ends && keeps_copies_from_disk(&planned.fault));
                for other in held_back.filter(|other| meet(&other.fault, &ends.fault)) {
                    let apart = ends.end_us < other.start_us || ends.start_us > other.end_us + LOSS_MARGIN_US;
                    assert!(apart, "{other:?} {ends:?}");
                }
            }
        }
    }

    #[test]
    fn a_store_that_two_hosts_opened_is_not_damaged_later() {
        let mut shared = 0;
        for plan in plans() {
            for (index, planned) in plan.iter().enumerate() {
                let Fault::StoreShared { instances, .. } = &planned.fault else { continue };
                shared += 1;
                let mut later = plan[index + 1..].iter().map(|later| &later.fault);
                assert!(!later.any(|fault| fault.damages_store() && fault.instances()[0] == instances[0]), "{plan:?}");
            }
        }
        assert!(shared > 20, "{shared}");
    }

    #[test]
    fn a_plan_beyond_the_budget_loses_data_after_a_crash() {
        let frame = PlanFrame { beyond_budget: true, ..FRAME };
        let mut beyond = (0..2000).map(|seed| generate(Seed(seed), &frame));
        assert!(beyond.any(|plan| {
            let crash = plan.iter().find(|planned| matches!(planned.fault, Fault::InstanceCrash { .. }));
            let loss = plan.iter().rfind(|planned| planned.fault.loses_data());
            crash.zip(loss).is_some_and(|(crash, loss)| crash.start_us < loss.start_us)
        }));
    }

    #[test]
    fn redis_keeps_its_data_where_instances_forget_copies() {
        let frame = PlanFrame { forgets_copies: true, ..FRAME };
        let plans = || (0..500).map(|seed| generate(Seed(seed), &frame));
        assert!(plans().all(|plan| plan.iter().all(|planned| !planned.fault.loses_data())));
        assert!(plans().any(|plan| plan.iter().any(|planned| matches!(planned.fault, Fault::RedisCrash { .. }))));
    }

    #[test]
    fn no_instance_is_away_for_long_where_removals_are_soon_forgotten() {
        let tombstone_ttl_us = 120_000_000;
        let frame = PlanFrame { length_us: 300_000_000, tombstone_ttl_us: Some(tombstone_ttl_us), ..FRAME };
        let mut longest_us = 0;
        for plan in (0..500).map(|seed| generate(Seed(seed), &frame)) {
            let mut stretches: Vec<(u64, u64)> = Vec::new();
            for planned in &plan {
                let until_us = planned.end_us + BACK_US;
                match stretches.last_mut() {
                    Some((_, last_us)) if planned.start_us <= *last_us => *last_us = until_us.max(*last_us),
                    _ => stretches.push((planned.start_us, until_us)),
                }
            }
            let longest = stretches.iter().map(|(from, until)| until - from).max().unwrap_or(0);
            assert!(longest <= tombstone_ttl_us / 2, "{plan:?}");
            longest_us = longest_us.max(longest);
        }
        assert!(longest_us > tombstone_ttl_us / 4, "nothing is left");
    }
}
