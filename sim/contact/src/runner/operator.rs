//! Runs in which an operator of Redis denies a command, lowers a limit, or runs a script without end.

use std::sync::Arc;

use crate::{
    faults::{Denied, Fault, PlannedFault, ServerLimit},
    history::{Answer, Call, History, Outcome, Patch, Placement, Source, What},
    runner,
    scenario::Scenario,
    seed::Seed,
    workload::{PlannedCall, Workload},
};

/// One instance that reads, lists and writes every second for ten seconds, and this fault from the second to the eighth.
fn played(fault: Fault) -> History {
    played_with(fault, 0)
}

/// The same with so many bytes more in each write.
fn played_with(fault: Fault, more_bytes: usize) -> History {
    let mut scenario = Scenario::generate(Workload::Consistency, Seed(1));
    (scenario.prefixes, scenario.clock_offsets_ms, scenario.workers) = (vec!["p".to_owned()], vec![0], 1);
    scenario.operations.clear();
    for second in 0..10 {
        let mut patch = Patch::default();
        patch.profile.insert("name".to_owned(), serde_json::json!(["p", "u", second]));
        if more_bytes > 0 {
            patch.profile.insert("notes".to_owned(), serde_json::json!(["p", "u", second, "x".repeat(more_bytes)]));
        }
        for call in [Call::upsert("u", patch), Call::get("u"), Call::List] {
            scenario.operations.push(PlannedCall { at_us: second * 1_000_000, instance: 0, call: Arc::new(call) });
        }
    }
    scenario.faults = vec![PlannedFault { start_us: 1_500_000, end_us: 7_500_000, at: None, fault }];
    runner::run(&scenario).unwrap().history
}

fn effects(history: &History) -> u64 {
    let mut ends = history.events.iter().filter_map(|event| match event.what {
        What::FaultEnd { effects, .. } => Some(effects),
        _ => None,
    });
    ends.next().expect("it ends")
}

/// How many answers are of this kind.
fn answers(history: &History, wanted: impl Fn(&Answer) -> bool) -> usize {
    let is_wanted =
        |what: &What| matches!(what, What::Complete { outcome: Outcome::Ok { answer }, .. } if wanted(answer));
    history.events.iter().filter(|event| is_wanted(&event.what)).count()
}

#[test]
fn where_scan_is_denied_lists_are_local_and_writes_and_reads_are_shared() {
    let history = played(Fault::RedisDenies { denied: Denied::Scan });
    assert!(effects(&history) > 0);
    assert!(answers(&history, |answer| matches!(answer, Answer::Listed { source: Source::Local, .. })) >= 5);
    let shared = |answer: &Answer| matches!(answer, Answer::Written { placement: Placement::Shared, .. });
    assert_eq!(answers(&history, shared), 10);
}

#[test]
fn keys_of_another_service_are_in_no_list() {
    let history = played(Fault::ForeignKeys { spellings: 3, strings: 3, crowd: 600 });
    assert_eq!(effects(&history), 606);
    let ours = |answer: &Answer| matches!(answer, Answer::Listed { source: Source::Shared, uids } if uids == &["u"]);
    assert_eq!(answers(&history, ours), 10);
}

#[test]
fn a_crowd_of_keys_beside_a_large_record_is_a_small_one() {
    // A thousand copies of it would be a hundred megabytes, in Redis and in the history.
    let history = played_with(Fault::ForeignKeys { spellings: 1, strings: 1, crowd: 1_000 }, 100_000);
    assert_eq!(effects(&history), 2 + 83);
}

#[test]
fn a_script_without_end_is_silent_then_busy_and_killed_at_the_end() {
    let history = played(Fault::RedisBusyScript { silent_us: 2_000_000 });
    assert!(effects(&history) > 0, "it answered that it was busy");
    let local = |answer: &Answer| matches!(answer, Answer::Written { placement: Placement::Local, .. });
    assert!((4..=8).contains(&answers(&history, local)));
}

#[test]
fn limits_end_connections_and_the_instance_goes_on() {
    for to in [ServerLimit::BulkBytes { bytes: 20 }, ServerLimit::QueryBytes { bytes: 60 }] {
        let history = played(Fault::RedisLimits { to });
        assert!(effects(&history) > 0, "{to:?}");
        let written = |answer: &Answer| matches!(answer, Answer::Written { .. });
        assert_eq!(answers(&history, written), 10, "{to:?}");
    }
}
