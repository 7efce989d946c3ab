//! The smallest set of operations that has no order: what can go without making one possible goes, as much at a time as
//! can.
//!
//! What only looks may go: the rest of an order is one without it. A change may go once nothing is left that may answer as
//! it does because of it ([`Object::may_show`]); with it gone too early, what showed it would be unexplained for that
//! reason alone.

use std::ops::Range;

use crate::{
    object::{EffectOnObject, Object},
    search::{Limits, SearchEnd, TimedOperation, search},
};

/// Shrinks operations that have no order, within so many steps of searching. Says whether none of them can go.
pub(crate) fn smallest<O: Object>(
    object: &O,
    all: &[TimedOperation<O::Act>],
    mut kept: Vec<usize>,
    steps: u64,
) -> (Vec<usize>, bool) {
    kept.sort_by_key(|&index| all[index].called);
    let mut left = CheckBudget(steps);
    // What only looks first: then few are left that a change has to be compared with.
    for with_changes in [false, true] {
        let mut chunk = kept.len().div_ceil(2).max(1);
        loop {
            let (mut start, mut has_changed) = (0, false);
            while start < kept.len() {
                let end = (start + chunk).min(kept.len());
                let without = without(object, all, &kept, start..end, with_changes);
                if without.len() < kept.len() {
                    match left.is_violated(object, all, &without) {
                        None => return (kept, false),
                        Some(true) => {
                            // What follows has moved to where the chunk was.
                            start = end - (kept.len() - without.len());
                            (kept, has_changed) = (without, true);
                            continue;
                        }
                        Some(false) => {}
                    }
                }
                start = end;
            }
            if chunk == 1 && !has_changed {
                break;
            }
            chunk = (chunk / 2).max(1);
        }
    }
    (kept, true)
}

/// `kept` without what may go of a chunk of it.
fn without<O: Object>(
    object: &O,
    all: &[TimedOperation<O::Act>],
    kept: &[usize],
    chunk: Range<usize>,
    with_changes: bool,
) -> Vec<usize> {
    let act = |place: usize| &all[kept[place]].act;
    let mut goes: Vec<bool> = (0..kept.len()).map(|place| chunk.contains(&place) && act(place).only_looks()).collect();
    // From the end: a compare-and-set looks as well, and goes before what it shows.
    for place in chunk.rev().filter(|&place| with_changes && !act(place).only_looks()) {
        let mut others = (0..kept.len()).filter(|&other| other != place && !goes[other]);
        goes[place] = !others.any(|other| object.may_show(act(place), act(other)));
    }
    kept.iter().zip(goes).filter(|(_, goes)| !goes).map(|(index, _)| *index).collect()
}

struct CheckBudget(u64);

impl CheckBudget {
    /// Whether these have no order; none if it was not found out.
    fn is_violated<O: Object>(&mut self, object: &O, all: &[TimedOperation<O::Act>], kept: &[usize]) -> Option<bool> {
        let ops: Vec<_> = kept.iter().map(|&index| all[index]).collect();
        let (found, steps) = search(object, &ops, Limits { steps: self.0, bytes: 1 << 28 });
        // To lay it out takes time as well.
        self.0 = self.0.saturating_sub(steps + ops.len() as u64);
        match found {
            _ if self.0 == 0 => None,
            SearchEnd::Linearizable(_) => Some(false),
            SearchEnd::Violated { .. } => Some(true),
            SearchEnd::GaveUp { .. } => None,
        }
    }
}
