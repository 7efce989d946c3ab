//! Why there is no order: the first return that none gets past, the longest order up to there, and the smallest set of
//! operations that has none.

use crate::{
    object::Object,
    search::{Limits, SearchEnd, TimedOperation, search, up_to},
    shrink::smallest,
};

/// How much is spent on making a violation small.
const SHRINK_STEPS: u64 = 3_000_000;

/// What the verdict already knows of a violation.
pub(crate) struct Hint {
    /// What was called before this moment has no order.
    pub(crate) by: u64,
    /// Nor have these.
    pub(crate) shown: Option<Vec<usize>>,
}

/// Why operations have no order. Each by its place among them.
pub(crate) struct Evidence {
    pub(crate) stuck: Option<usize>,
    pub(crate) order: Vec<usize>,
    pub(crate) shown: Vec<usize>,
    pub(crate) is_smallest: bool,
}

/// Moments as places in the order of events, calls before returns: operations that touch overlap. Operations are given
/// by their calls. With the moment of each place.
pub(crate) fn timed<T: Ord + Copy, A>(
    ops: impl Iterator<Item = (T, Option<T>, A)>,
) -> (Vec<TimedOperation<A>>, Vec<T>) {
    let mut moments = Vec::with_capacity(ops.size_hint().0 * 2);
    let mut timed = Vec::with_capacity(ops.size_hint().0);
    for (index, (called, returned, act)) in ops.enumerate() {
        moments.push((called, false, index));
        moments.extend(returned.map(|at| (at, true, index)));
        timed.push(TimedOperation { called: 0, returned: None, act });
    }
    moments.sort_unstable();
    for (place, &(_, is_return, index)) in (0..).zip(&moments) {
        if is_return {
            timed[index].returned = Some(place);
        } else {
            timed[index].called = place;
        }
    }
    (timed, moments.into_iter().map(|(moment, ..)| moment).collect())
}

/// What shows that there is no order.
pub(crate) fn evidence<O: Object>(object: &O, ops: &[TimedOperation<O::Act>], hint: Hint, limits: Limits) -> Evidence {
    let limits = Limits { steps: limits.steps.min(SHRINK_STEPS), ..limits };
    let order_at = |moment: u64| {
        let (begun, indices) = up_to(moment, ops);
        match search(object, &begun, limits).0 {
            SearchEnd::Linearizable(order) => Ok(order.into_iter().map(|placed| indices[placed]).collect()),
            SearchEnd::Violated { .. } => Err(true),
            SearchEnd::GaveUp { .. } => Err(false),
        }
    };
    let mut returns: Vec<_> = (0..ops.len()).filter(|&index| ops[index].returned.is_some()).collect();
    returns.sort_by_key(|&index| ops[index].returned);
    let at = |index: usize| ops[index].returned.unwrap_or(u64::MAX);
    returns.retain(|&index| at(index) <= hint.by);
    let explained = returns.partition_point(|&index| order_at(at(index)) != Err(true));
    let stuck = returns.get(explained).copied();
    let before = explained.checked_sub(1).map(|last| order_at(at(returns[last])));
    let order: Vec<usize> = before.and_then(Result::ok).unwrap_or_default();
    let by = stuck.map_or(hint.by, at);
    let all = || (0..ops.len()).filter(|&index| ops[index].called < by).collect();
    let (shown, is_smallest) = smallest(object, ops, hint.shown.unwrap_or_else(all), limits.steps);
    Evidence { stuck, order, shown, is_smallest }
}

/// Why a search was given up.
pub(crate) fn gave_up(steps: u64, bytes: usize) -> String {
    format!("the search was given up after {steps} steps and {} MiB", bytes >> 20)
}
