//! A seed is a run: two processes that are given the same seeds see the same event streams, to the byte.
//!
//! Separate processes, because state that leaks from one run into the next (hash seeds, process-wide counters) would
//! leak in the same way twice within one. They differ in what must not matter: how many runs at the same time, in which
//! order, how much is logged.

use std::path::Path;

use seedbed_contact::{
    determinism::{ComparedSeeds, compare},
    outcomes::Common,
    seed::Seed,
    workload::ALL,
};

#[test]
fn the_same_seeds_give_the_same_event_streams_in_separate_processes() {
    let plan =
        ComparedSeeds { workloads: ALL.to_vec(), base: Seed(1_000), seeds: 25, alone: 3, common: Common::default() };
    let comparison = compare(Path::new(env!("CARGO_BIN_EXE_seedbed")), &plan).expect("the processes end well");
    assert_eq!(comparison.runs, 25 * ALL.len() as u64);
    assert!(comparison.differences.is_empty(), "{:#?}", comparison.differences);
}
