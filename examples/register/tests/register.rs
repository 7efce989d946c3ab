//! The correct register passes, and each mistake is found.

use register::{Bug, Registers, bed};
use seedbed::{Bed, Seed};

#[seedbed::test(seeds = 200)]
fn correct() -> Bed<Registers> {
    bed(None)
}

#[test]
fn each_mistake_is_found_within_300_seeds() {
    for bug in [Bug::WithoutQuorum, Bug::NoWriteBack, Bug::NoSync] {
        let found = bed(Some(bug)).first_violation(Seed(0), 300);
        let (seed, found) = found.unwrap_or_else(|| panic!("{bug:?} was not found"));
        assert_eq!(found.guarantee, "linearizable", "{bug:?}, seed {seed}: {}", found.what);
        println!("{bug:?}: seed {seed}");
    }
}
