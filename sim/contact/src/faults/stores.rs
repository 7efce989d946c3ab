//! Changes to the directories of stores by an operator or another process: in one of six runs, once or twice. For half of the changes
//! the instance is cut off from Redis before and after, so that its store holds pending writes. And, in one of ten runs each, copies of
//! running stores that run beside their originals, and stores that two hosts open.

use rand::{RngExt, seq::IndexedRandom};

use super::{CutDirection, Fault, PlanFrame, PlannedFault, StoreChange, budget};
use crate::seed::Stream;

/// How long an instance is cut off before its store is changed, and after it is open again, at most, in microseconds.
const CUT_OFF_US: u64 = 2_000_000;

pub(super) fn add(plan: &mut Vec<PlannedFault>, draw: &mut Stream, frame: &PlanFrame) {
    if !draw.random_bool(1.0 / 6.0) {
        return;
    }
    for _ in 0..draw.random_range(1..=2) {
        let instance = draw.random_range(0..frame.instances);
        let change = change(draw, frame.length_us);
        // A process that is down does not see the move: the directory is back before it starts.
        let running = change == StoreChange::MovedAway || draw.random();
        let fault = Fault::StoreChange { instance, change, running };
        let start_us = draw.random_range(frame.length_us / 10..frame.length_us * 8 / 10);
        let end_us = start_us + draw.random_range(50_000..frame.length_us / 10);
        if draw.random() {
            let start_us = start_us.saturating_sub(draw.random_range(0..CUT_OFF_US));
            let end_us = (end_us + draw.random_range(0..CUT_OFF_US)).min(frame.length_us);
            let fault = Fault::Partition { instances: vec![instance], direction: CutDirection::Both };
            plan.push(PlannedFault { start_us, end_us, at: None, fault });
        }
        plan.push(PlannedFault { start_us, end_us, at: None, fault });
    }
}

/// Copies of running stores, and stores that two hosts open, each with the instances cut off from Redis around it in half of the
/// cases: so both hold the same pending writes, and more of their own. The instance that gets a copy is cut off no sooner than that:
/// pending writes of the replaced store would be lost, and another fault tries that. These faults are added last and change no other fault of the plan.
/// They are not drawn where Redis loses data, where removals are soon forgotten, or where the wall clocks of two hosts
/// differ: ages and estimates in a store are by the wall clock of the host that wrote them, and the checkers go by the other's.
pub(super) fn add_for_two(
    plan: &mut Vec<PlannedFault>,
    streams: [&mut Stream; 2],
    frame: &PlanFrame,
    clocks_agree: bool,
) {
    let loses_data = plan.iter().any(|planned| planned.fault.loses_data());
    let is_allowed = frame.instances > 1 && !loses_data && frame.tombstone_ttl_us.is_none() && clocks_agree;
    for (draw, kind) in streams.into_iter().zip([copy as fn(&mut Stream, &PlanFrame) -> PlannedFault, shared]) {
        if !draw.random_bool(0.1) || !is_allowed {
            continue;
        }
        for _ in 0..draw.random_range(1..=2) {
            let planned = kind(draw, frame);
            let cut_off = if draw.random() { cut_off(draw, frame, &planned) } else { Vec::new() };
            if budget::is_free(plan, &planned) {
                plan.push(planned);
                plan.extend(cut_off);
            }
        }
    }
    plan.sort_by_key(|planned| planned.start_us);
}

fn copy(draw: &mut Stream, frame: &PlanFrame) -> PlannedFault {
    let [original, instance] = two(draw, frame);
    let age_us = *[0, 0, 300_000, frame.length_us / 10].choose(draw).expect("four");
    let change = StoreChange::CopyOf { original, age_us, volume: draw.random() };
    let start_us = draw.random_range(frame.length_us / 5..frame.length_us * 8 / 10);
    let end_us = start_us + draw.random_range(1_000..300_000);
    PlannedFault { start_us, end_us, at: None, fault: Fault::StoreChange { instance, change, running: false } }
}

fn shared(draw: &mut Stream, frame: &PlanFrame) -> PlannedFault {
    let instances = two(draw, frame).into();
    let start_us = draw.random_range(frame.length_us / 10..frame.length_us * 8 / 10);
    let end_us = start_us + draw.random_range(50_000..frame.length_us / 5);
    PlannedFault { start_us, end_us, at: None, fault: Fault::StoreShared { instances, taken_back: draw.random() } }
}

/// Two different instances.
fn two(draw: &mut Stream, frame: &PlanFrame) -> [u32; 2] {
    let one = draw.random_range(0..frame.instances);
    [one, (one + draw.random_range(1..frame.instances)) % frame.instances]
}

/// Cuts the instances of a fault off, from before a copy is made or another host opens the store until after it.
fn cut_off(draw: &mut Stream, frame: &PlanFrame, planned: &PlannedFault) -> Vec<PlannedFault> {
    let age_us = planned.fault.copy_age_us().unwrap_or(0);
    let before_us = planned.start_us.saturating_sub(age_us + draw.random_range(0..CUT_OFF_US));
    let end_us = (planned.end_us + draw.random_range(0..2 * CUT_OFF_US)).min(frame.length_us);
    let off = |instances: Vec<u32>, start_us: u64| PlannedFault {
        start_us,
        end_us,
        at: None,
        fault: Fault::Partition { instances, direction: CutDirection::Both },
    };
    match &planned.fault {
        Fault::StoreChange { instance, change: StoreChange::CopyOf { original, .. }, .. } => {
            vec![off(vec![*original], before_us), off(vec![*instance], planned.start_us)]
        }
        other => vec![off(other.instances().to_vec(), before_us)],
    }
}

fn change(draw: &mut Stream, length_us: u64) -> StoreChange {
    match draw.random_range(0..7) {
        0 => StoreChange::Removed,
        1 => StoreChange::Emptied,
        2 => StoreChange::LogRemoved,
        3 => StoreChange::MovedAway,
        // A fresh copy, as on another disk; or an older one, as from a backup.
        4 | 5 => {
            StoreChange::CopiedBack { age_us: *[0, 300_000, length_us / 10, length_us / 3].choose(draw).expect("four") }
        }
        _ => StoreChange::Cut { per_mille: *[0, 200, 500, 900, 999].choose(draw).expect("five") },
    }
}
