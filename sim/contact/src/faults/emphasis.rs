//! Faults that a workload is there to meet, beside those that any run may: in most of its runs, where any run has few.

use rand::{RngExt, seq::IndexedRandom};

use super::{
    CutDirection, DiskTrouble, Fault, Moment, NetTrouble, Persistence, PlanFrame, PlannedFault, REFUSALS, STEPS,
    ServerLimit, Trigger,
    frame::{Emphasis, moment_us},
};
use crate::seed::Stream;

pub(super) fn add(plan: &mut Vec<PlannedFault>, draw: &mut Stream, frame: &PlanFrame) {
    use Emphasis::{Any, Churn, Impatience, Moments, None, Outages};
    match frame.emphasis {
        None => {}
        Outages => outages(plan, draw, frame),
        Churn => churn(plan, draw, frame),
        Impatience => impatience(plan, draw, frame),
        Moments => moments(plan, draw, frame),
        Any => {
            let emphasis = *[None, Outages, Churn, Impatience].choose(draw).expect("four");
            add(plan, draw, &PlanFrame { emphasis, ..*frame });
        }
    }
}

fn outages(plan: &mut Vec<PlannedFault>, draw: &mut Stream, frame: &PlanFrame) {
    for _ in 0..draw.random_range(1..=3) {
        let data = if draw.random_bool(0.7) { Persistence::Kept } else { Persistence::Lost };
        let fault = match draw.random_range(0..6) {
            0 | 1 => Fault::RedisCrash { data },
            2 => Fault::RedisPowerLoss { data },
            3 => Fault::RedisPause,
            4 => Fault::RedisRefuses { with: *REFUSALS.choose(draw).expect("some") },
            _ => Fault::Partition { instances: (0..frame.instances).collect(), direction: CutDirection::Both },
        };
        let start_us = draw.random_range(0..frame.length_us * 6 / 10);
        let end_us = start_us + draw.random_range(frame.length_us / 8..frame.length_us / 3);
        plan.push(PlannedFault { start_us, end_us, at: None, fault });
        for _ in 0..draw.random_range(0..4) {
            let at_us = draw.random_range(start_us..end_us);
            plan.push(comes_and_goes(draw, frame, at_us));
        }
    }
}

fn churn(plan: &mut Vec<PlannedFault>, draw: &mut Stream, frame: &PlanFrame) {
    for _ in 0..draw.random_range(frame.instances..=3 * frame.instances) {
        let at_us = draw.random_range(0..frame.length_us);
        plan.push(comes_and_goes(draw, frame, at_us));
    }
}

/// Up to eight faults, each of which waits for a moment, for up to a third of the phase. In some runs Redis is away before, so
/// that something is pending.
fn moments(plan: &mut Vec<PlannedFault>, draw: &mut Stream, frame: &PlanFrame) {
    // Where Redis loses data, the budget takes most crashes of instances out.
    let loses_data = draw.random_bool(0.25);
    if draw.random_bool(0.4) {
        let start_us = draw.random_range(0..frame.length_us / 3);
        let fault = Fault::Partition { instances: (0..frame.instances).collect(), direction: CutDirection::Both };
        let end_us = start_us + draw.random_range(500_000..frame.length_us / 4);
        plan.push(PlannedFault { start_us, end_us, at: None, fault });
    }
    for _ in 0..draw.random_range(2..=8) {
        let moment = moment(draw);
        let fault = at_moment(draw, frame, (&moment, loses_data));
        let start_us = draw.random_range(0..frame.length_us * 8 / 10);
        let end_us = start_us + draw.random_range(frame.length_us / 20..frame.length_us / 3);
        // Pages, reads and syncs come one after the other; what is replayed comes in a row too.
        let nth = *[1, 1, 1, 2, 3, 5, 12].choose(draw).expect("seven");
        let lasts_us = *[1_000, 50_000, 400_000, 3_000_000].choose(draw).expect("four");
        plan.push(PlannedFault { start_us, end_us, at: Some(Trigger { moment, nth, lasts_us }), fault });
    }
}

fn moment(draw: &mut Stream) -> Moment {
    if draw.random_bool(0.2) {
        let marks = ["stamp conflict", "write of unknown outcome became pending (R10)", "pending write merged"];
        return Moment::Mark((*marks.choose(draw).expect("three")).into());
    }
    STEPS.choose(draw).expect("nine").clone()
}

/// What can strike at a moment: whatever ends a process, a connection or a way of the world at once.
fn at_moment(draw: &mut Stream, frame: &PlanFrame, (moment, loses_data): (&Moment, bool)) -> Fault {
    let instance = draw.random_range(0..frame.instances);
    let everyone: Vec<u32> = (0..frame.instances).collect();
    let data = if loses_data && draw.random() { Persistence::Lost } else { Persistence::Kept };
    let of_disk = matches!(moment, Moment::LogSynced | Moment::RewriteWrites);
    match draw.random_range(0..if of_disk { 6 } else { 14 }) {
        0..3 => Fault::InstanceCrash { instance, power_loss: draw.random() },
        3 => Fault::InstancePause { instance },
        4 => Fault::InstanceSuspend { instance },
        5 => Fault::BadDisk { instance, trouble: bad_at_once(draw) },
        6 => Fault::ResetConnections { instances: everyone },
        7 => {
            let direction =
                *[CutDirection::Both, CutDirection::ToRedis, CutDirection::FromRedis].choose(draw).expect("three");
            Fault::Partition { instances: everyone, direction }
        }
        8 | 9 => Fault::RedisCrash { data },
        10 => Fault::RedisPowerLoss { data },
        11 => Fault::RedisFailover { lag_us: 0, silent: draw.random() },
        12 => Fault::RedisRefuses { with: *REFUSALS.choose(draw).expect("some") },
        _ if loses_data => Fault::FlushAll,
        _ => [Fault::RedisPause, Fault::ScriptFlush].choose(draw).expect("two").clone(),
    }
}

fn bad_at_once(draw: &mut Stream) -> DiskTrouble {
    let times = *[1, u32::MAX].choose(draw).expect("two");
    let each = [
        DiskTrouble::Full,
        DiskTrouble::WriteErrors { times },
        DiskTrouble::SyncErrors { times },
        DiskTrouble::Stalled,
    ];
    *each.choose(draw).expect("four")
}

/// Adds the company without which rare faults would have no effect, in runs with the emphasis on moments. It is drawn from a stream
/// of its own, after all others.
pub(super) fn company(plan: &mut Vec<PlannedFault>, draw: &mut Stream, frame: &PlanFrame) {
    if frame.emphasis != Emphasis::Moments {
        return;
    }
    let mut beside = Vec::new();
    for planned in plan.iter_mut() {
        let (instance, start_us) = (draw.random_range(0..frame.instances), planned.start_us + 1);
        let (fault, end_us) = match planned.fault {
            // A client that probes its connection is idle for that long only while its process is paused.
            Fault::RedisLimits { to: ServerLimit::Idle { seconds } } => {
                let end_us = start_us + (seconds + 2) * 1_000_000;
                planned.end_us = planned.end_us.max(end_us);
                (Fault::InstancePause { instance }, end_us)
            }
            // The limit spares open connections, so that they are reset.
            Fault::RedisLimits { to: ServerLimit::Clients { .. } } => {
                (Fault::ResetConnections { instances: (0..frame.instances).collect() }, start_us)
            }
            _ => continue,
        };
        beside.push(PlannedFault { start_us, end_us, at: None, fault });
    }
    plan.append(&mut beside);
    if draw.random_bool(0.15) {
        let fault = at_moment(draw, frame, (&Moment::ScanGoesOn, false));
        let start_us = draw.random_range(0..frame.length_us / 2);
        let at = Some(Trigger { moment: Moment::ScanGoesOn, nth: 1, lasts_us: 400_000 });
        plan.push(PlannedFault { start_us, end_us: frame.length_us, at, fault });
    }
}

/// An instance that ends, in order or not, and starts again after a while.
fn comes_and_goes(draw: &mut Stream, frame: &PlanFrame, at_us: u64) -> PlannedFault {
    let instance = draw.random_range(0..frame.instances);
    let fault = match draw.random_range(0..8) {
        0..4 => Fault::InstanceRestart { instance },
        4..6 => Fault::InstanceCrash { instance, power_loss: draw.random() },
        6 => {
            let end_us = (at_us + moment_us(draw, frame.length_us)).min(frame.length_us);
            let fault = Fault::CrashAtDisk { instance, ops: draw.random_range(0..8), power_loss: draw.random() };
            return PlannedFault { start_us: at_us, end_us, at: None, fault };
        }
        _ => {
            let down_us = draw.random_range(1_000..100_000);
            return PlannedFault { start_us: at_us, end_us: at_us, at: None, fault: Fault::RollingRestart { down_us } };
        }
    };
    let down_us = *[1_000, 100_000, 1_000_000, 10_000_000].choose(draw).expect("four");
    PlannedFault { start_us: at_us, end_us: (at_us + down_us).min(frame.length_us), at: None, fault }
}

fn impatience(plan: &mut Vec<PlannedFault>, draw: &mut Stream, frame: &PlanFrame) {
    let everyone: Vec<u32> = (0..frame.instances).collect();
    for instance in everyone.iter().copied().filter(|_| draw.random_bool(0.8)).collect::<Vec<_>>() {
        let start_us = draw.random_range(0..frame.length_us / 4);
        let fault = Fault::CancelledCalls { instance, polls_max: draw.random_range(2..12) };
        plan.push(PlannedFault { start_us, end_us: frame.length_us, at: None, fault });
    }
    let start_us = draw.random_range(0..frame.length_us / 4);
    let end_us = draw.random_range(frame.length_us / 2..=frame.length_us);
    let fault = match draw.random_range(0..3) {
        0 => Fault::SlowLink { instances: everyone, extra_us: draw.random_range(20_000..126_000) },
        1 => {
            let trouble = NetTrouble::Jitter { jitter_us: *[5_000, 50_000].choose(draw).expect("two") };
            Fault::BadNetwork { instances: everyone, trouble }
        }
        _ => Fault::RedisPause,
    };
    plan.push(PlannedFault { start_us, end_us, at: None, fault });
}
