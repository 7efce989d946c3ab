//! Faults that a workload is there to meet, beside those that any run may: in most of its runs, where any run has few.

use rand::{RngExt, seq::IndexedRandom};

use super::{Direction, Fault, Frame, NetTrouble, Persistence, PlannedFault, REFUSALS, generate::moment_us};
use crate::seed::Stream;

/// What a plan has more of than others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Emphasis {
    /// Nothing.
    #[default]
    None,
    /// Redis is away for a good part of the phase, and instances restart meanwhile.
    Outages,
    /// Instances come and go.
    Churn,
    /// Callers give up, and Redis is slow.
    Impatience,
    /// Any of these.
    Any,
}

pub(super) fn add(plan: &mut Vec<PlannedFault>, draw: &mut Stream, frame: &Frame) {
    use Emphasis::{Any, Churn, Impatience, None, Outages};
    match frame.emphasis {
        None => {}
        Outages => outages(plan, draw, frame),
        Churn => churn(plan, draw, frame),
        Impatience => impatience(plan, draw, frame),
        Any => {
            let emphasis = *[None, Outages, Churn, Impatience].choose(draw).expect("four");
            add(plan, draw, &Frame { emphasis, ..*frame });
        }
    }
}

fn outages(plan: &mut Vec<PlannedFault>, draw: &mut Stream, frame: &Frame) {
    for _ in 0..draw.random_range(1..=3) {
        let data = if draw.random_bool(0.7) { Persistence::Kept } else { Persistence::Lost };
        let fault = match draw.random_range(0..6) {
            0 | 1 => Fault::RedisCrash { data },
            2 => Fault::RedisPowerLoss { data },
            3 => Fault::RedisPause,
            4 => Fault::RedisRefuses { with: *REFUSALS.choose(draw).expect("some") },
            _ => Fault::Partition { instances: (0..frame.instances).collect(), direction: Direction::Both },
        };
        let start_us = draw.random_range(0..frame.length_us * 6 / 10);
        let end_us = start_us + draw.random_range(frame.length_us / 8..frame.length_us / 3);
        plan.push(PlannedFault { start_us, end_us, fault });
        for _ in 0..draw.random_range(0..4) {
            let at_us = draw.random_range(start_us..end_us);
            plan.push(comes_and_goes(draw, frame, at_us));
        }
    }
}

fn churn(plan: &mut Vec<PlannedFault>, draw: &mut Stream, frame: &Frame) {
    for _ in 0..draw.random_range(frame.instances..=3 * frame.instances) {
        let at_us = draw.random_range(0..frame.length_us);
        plan.push(comes_and_goes(draw, frame, at_us));
    }
}

/// An instance that ends, in order or not, and starts again after a while.
fn comes_and_goes(draw: &mut Stream, frame: &Frame, at_us: u64) -> PlannedFault {
    let instance = draw.random_range(0..frame.instances);
    let fault = match draw.random_range(0..8) {
        0..4 => Fault::InstanceRestart { instance },
        4..6 => Fault::InstanceCrash { instance, power_loss: draw.random() },
        6 => {
            let end_us = (at_us + moment_us(draw, frame.length_us)).min(frame.length_us);
            let fault = Fault::CrashAtDisk { instance, ops: draw.random_range(0..8), power_loss: draw.random() };
            return PlannedFault { start_us: at_us, end_us, fault };
        }
        _ => {
            let down_us = draw.random_range(1_000..100_000);
            return PlannedFault { start_us: at_us, end_us: at_us, fault: Fault::RollingRestart { down_us } };
        }
    };
    let down_us = *[1_000, 100_000, 1_000_000, 10_000_000].choose(draw).expect("four");
    PlannedFault { start_us: at_us, end_us: (at_us + down_us).min(frame.length_us), fault }
}

fn impatience(plan: &mut Vec<PlannedFault>, draw: &mut Stream, frame: &Frame) {
    let everyone: Vec<u32> = (0..frame.instances).collect();
    for instance in everyone.iter().copied().filter(|_| draw.random_bool(0.8)).collect::<Vec<_>>() {
        let start_us = draw.random_range(0..frame.length_us / 4);
        let fault = Fault::CancelledCalls { instance, polls_max: draw.random_range(2..12) };
        plan.push(PlannedFault { start_us, end_us: frame.length_us, fault });
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
    plan.push(PlannedFault { start_us, end_us, fault });
}
