//! The correct lock passes, and each mistake is found.

use std::ops::ControlFlow;

use lock::{Bug, Locks, bed};
use seedbed::{Bed, Seed};

#[seedbed::test(seeds = 200)]
fn correct() -> Bed<Locks> {
    bed(None)
}

#[test]
fn each_mistake_is_found_within_300_seeds() {
    for bug in [Bug::NoFencing, Bug::UnlockWithoutCompare, Bug::IncrThenExpire] {
        let stop = |run: &seedbed::run::Run<Locks>| {
            if run.violation().is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let explored = bed(Some(bug)).explore(Seed(0), 300, |_, run| stop(run));
        let (seed, found) = explored.violations().next().unwrap_or_else(|| panic!("{bug:?} was not found"));
        println!("{bug:?}: seed {seed}, after {} runs: {}", explored.runs, found.guarantee);
    }
}
