//! The correct lock passes, and each mistake is found.

use lock::{Bug, Locks, bed};
use seedbed::{Bed, Seed};

#[seedbed::test(seeds = 200)]
fn correct() -> Bed<Locks> {
    bed(None)
}

#[test]
fn each_mistake_is_found_within_300_seeds() {
    for bug in [Bug::NoFencing, Bug::UnlockWithoutCompare, Bug::IncrThenExpire] {
        let found = bed(Some(bug)).first_violation(Seed(0), 300);
        let (seed, found) = found.unwrap_or_else(|| panic!("{bug:?} was not found"));
        println!("{bug:?}: seed {seed}: {}", found.guarantee);
    }
}
