//! Changes to the directories of stores by an operator or another process: in one of six runs, once or twice. For half of the changes
//! the instance is cut off from Redis before and after, so that its store holds pending writes.

use rand::{RngExt, seq::IndexedRandom};

use super::{Direction, Fault, Frame, PlannedFault, StoreChange};
use crate::seed::Stream;

/// How long an instance is cut off before its store is changed, and after it is open again, at most, in microseconds.
const CUT_OFF_US: u64 = 2_000_000;

pub(super) fn add(plan: &mut Vec<PlannedFault>, draw: &mut Stream, frame: &Frame) {
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
            let fault = Fault::Partition { instances: vec![instance], direction: Direction::Both };
            plan.push(PlannedFault { start_us, end_us, at: None, fault });
        }
        plan.push(PlannedFault { start_us, end_us, at: None, fault });
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
