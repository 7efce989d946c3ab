//! The correct queue passes, and each mistake is found.

use std::ops::ControlFlow;

use queue::{Bug, Queue, bed};
use seedbed::{Bed, Seed};

#[seedbed::test(seeds = 200)]
fn correct() -> Bed<Queue> {
    bed(None)
}

#[test]
fn each_mistake_is_found_within_300_seeds() {
    let mistakes = [
        (Bug::PopThenPush, "no job is lost"),
        (Bug::DoThenAcknowledge, "no job is done twice"),
        (Bug::NoFencing, "no job is done twice"),
    ];
    for (bug, guarantee) in mistakes {
        let found = bed(Some(bug)).explore(Seed(0), 300, |_, run| {
            if run.violation().is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        let (seed, violation) = found.violations().next().unwrap_or_else(|| panic!("{bug:?} was not found"));
        println!("{bug:?}: seed {seed}, after {} runs: {}", found.runs, violation.guarantee);
        assert_eq!(violation.guarantee, guarantee, "{bug:?}, seed {seed}: {}", violation.what);
    }
}
