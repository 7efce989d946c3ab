//! Runs in which a fault waits for a moment of the protocol.

use std::sync::Arc;

use crate::{
    faults::{Fault, Moment, Persistence, PlannedFault, Trigger},
    history::{Answer, Call, Event, History, Outcome, Patch, Placement, Stop, What},
    runner,
    scenario::Scenario,
    seed::Seed,
    workload::{PlannedCall, Workload},
};

/// One instance that writes one record in the second second, and this fault, which waits from the first to the tenth.
fn played(moment: Moment, fault: Fault) -> History {
    beside(None, moment, fault)
}

fn beside(other: Option<PlannedFault>, moment: Moment, fault: Fault) -> History {
    let mut scenario = Scenario::generate(Workload::Consistency, Seed(1));
    (scenario.prefixes, scenario.clock_offsets_ms, scenario.workers) = (vec!["p".to_owned()], vec![0], 1);
    let mut patch = Patch::default();
    patch.profile.insert("name".to_owned(), serde_json::json!(["p", "u", 0]));
    let call = Arc::new(Call::upsert("u", patch));
    scenario.operations = vec![PlannedCall { at_us: 2_000_000, instance: 0, call }];
    let at = Some(Trigger { moment, nth: 1, lasts_us: 2_000_000 });
    scenario.faults = other.into_iter().collect();
    scenario.faults.push(PlannedFault { start_us: 1_000_000, end_us: 10_000_000, at, fault });
    runner::run(&scenario).unwrap().history
}

fn event(history: &History, wanted: impl Fn(&What) -> bool) -> Option<&Event> {
    history.events.iter().find(|event| wanted(&event.what))
}

fn struck(history: &History) -> &Event {
    event(history, |what| matches!(what, What::FaultBegin { .. })).expect("its moment came")
}

fn crash_of_redis() -> Fault {
    Fault::RedisCrash { data: Persistence::Kept }
}

fn is_written(what: &What, wanted: Placement) -> bool {
    matches!(what, What::Complete { outcome: Outcome::Ok { answer: Answer::Written { placement, .. } }, .. }
        if *placement == wanted)
}

#[test]
fn redis_dies_before_or_after_it_runs_a_merge_and_the_write_is_kept_locally() {
    for moment in [Moment::MergeArrives, Moment::MergeDone] {
        let history = played(moment.clone(), crash_of_redis());
        let called = event(&history, |what| matches!(what, What::Invoke { .. })).expect("it is");
        let begun = struck(&history);
        let answered = event(&history, |what| is_written(what, Placement::Local)).expect("it is");
        assert!(called.at_us < begun.at_us && begun.at_us < answered.at_us, "{moment}");
        assert!(begun.at_us - called.at_us < 10_000, "{moment}: one way, at most");
        assert_eq!(begun.what, What::FaultBegin { fault: 0, what: crash_of_redis(), at: Some(moment) });
        let ended = event(&history, |what| matches!(what, What::FaultEnd { .. })).expect("it does");
        assert_eq!(ended.at_us - begun.at_us, 2_000_000);
    }
}

#[test]
fn a_process_dies_between_the_sync_of_its_log_and_the_answer() {
    let without_redis = PlannedFault { start_us: 0, end_us: 9_000_000, at: None, fault: Fault::RedisPause };
    let crash = Fault::InstanceCrash { instance: 0, power_loss: true };
    let history = beside(Some(without_redis), Moment::LogSynced, crash);
    let is_crash =
        |what: &What| matches!(what, What::FaultBegin { what: Fault::InstanceCrash { .. }, at: Some(_), .. });
    let begun = event(&history, is_crash).expect("its moment came");
    let died = event(&history, |what| matches!(what, What::Stopped { how: Stop::PowerLost, .. })).expect("it does");
    assert_eq!(died.at_us, begun.at_us);
    let answered = event(&history, |what| matches!(what, What::Complete { op: 0, .. }));
    assert_eq!(answered, None, "the answer was on its way");
    let tagged = serde_json::json!(["p", "u", 0]).to_string();
    let read = event(&history, |what| matches!(what, What::Complete { op: 1, .. })).expect("the final read");
    assert!(serde_json::to_string(read).unwrap().contains(&tagged), "what was synced is there after the restart");
}

#[test]
fn what_was_replayed_is_struck_where_the_client_counts_it() {
    let mark = Moment::Mark("pending write merged".into());
    let mut scenario = Scenario::generate(Workload::Consistency, Seed(1));
    scenario.faults = vec![
        PlannedFault { start_us: 0, end_us: 2_000_000, at: None, fault: Fault::RedisPause },
        PlannedFault {
            start_us: 2_000_001,
            end_us: 60_000_000,
            at: Some(Trigger { moment: mark.clone(), nth: 1, lasts_us: 1_000 }),
            fault: Fault::ResetConnections {
                instances: (0..u32::try_from(scenario.prefixes.len()).unwrap()).collect(),
            },
        },
    ];
    let history = runner::run(&scenario).unwrap().history;
    let begun = event(&history, |what| matches!(what, What::FaultBegin { fault: 1, .. })).expect("its moment came");
    let What::FaultBegin { what, at, .. } = &begun.what else { unreachable!() };
    assert_eq!((what.instances().len(), at.as_ref()), (1, Some(&mark)), "the instance that brought it");
}

#[test]
fn a_moment_that_does_not_come_leaves_the_fault_out() {
    let history = played(Moment::ScanGoesOn, crash_of_redis());
    assert_eq!(event(&history, |what| matches!(what, What::FaultBegin { .. } | What::FaultEnd { .. })), None);
    assert!(event(&history, |what| is_written(what, Placement::Shared)).is_some());
}
