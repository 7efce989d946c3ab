//! The whole bed: workload, client, network, Redis, disk, history and judges, as `run` runs them.
//!
//! Five instances share a prefix, however many there are, and each has a record of its own. So every operation does the
//! same work, and what grows with the number of instances is the bed's doing.

use serde_json::{Map, json};

use super::{Spent, timed};
use crate::{
    checker::{Verdict, judge},
    faults::{Fault, Persistence, PlannedFault},
    history::{Call, Patch, What},
    outcomes::{ending, worst},
    runner::{self, FinishedRun},
    scenario::Scenario,
    seed::Seed,
    subject::SubjectKind,
    workload::{PlannedCall, Workload},
};

/// Instances that share a prefix.
const GROUP: u32 = 5;
/// When the operations that are measured begin; the records are written before.
const BEGIN_US: u64 = 1_000_000;
/// How long Redis is down where writes shall stay local: longer than they take.
const OUTAGE_US: u64 = 60_000_000;
/// Seeds of a workload that are run to see what judging costs.
const SEEDS: u64 = 20;

/// The key of a record of the bed's.
pub(super) const KEY: &str = "cc1:group0:u0";

/// A scenario of `each` calls on each of `instances`.
fn scenario(instances: u32, each: u32, call: impl Fn(&str, &str, u32) -> Call) -> Scenario {
    let prefixes: Vec<_> = (0..instances).map(|instance| format!("group{}", instance / GROUP)).collect();
    let mut operations = Vec::new();
    let mut plan = |at_us, instance: u32, call: &dyn Fn(&str, &str, u32) -> Call| {
        let number = u32::try_from(operations.len()).expect("some thousands");
        let call = call(&prefixes[instance as usize], &format!("u{instance}"), number);
        operations.push(PlannedCall { at_us, instance, call: call.into() });
    };
    (0..instances).for_each(|instance| plan(0, instance, &upsert));
    for _ in 0..each {
        (0..instances).for_each(|instance| plan(BEGIN_US, instance, &call));
    }
    Scenario {
        workload: Workload::Consistency,
        seed: Seed(1),
        scheduler_seed: 1,
        clock_offsets_ms: vec![0; prefixes.len()],
        tuning: crate::subject::Tuning::default(),
        prefixes,
        workers: 1,
        operations,
        faults: Vec::new(),
        subject: SubjectKind::ContactCache,
        beyond_budget: false,
    }
}

/// A typical write: a contact point, a profile field and a metadata field.
fn upsert(prefix: &str, uid: &str, number: u32) -> Call {
    let tag = json!([prefix, uid, number]);
    let patch = Patch {
        contacts: vec![json!({"type": "email", "value": "a@x.org", "label": tag})],
        profile: Map::from_iter([("name".to_owned(), tag.clone())]),
        metadata: Map::from_iter([("source".to_owned(), tag)]),
        ..Patch::default()
    };
    Call::upsert(uid, patch)
}

/// Reads that Redis answers.
pub(super) fn gets(instances: u32, each: u32) -> Spent {
    spent(&scenario(instances, each, |_, uid, _| Call::get(uid)), "read shared", instances * each)
}

/// Writes that Redis takes: each runs the script.
pub(super) fn shared_upserts(instances: u32, each: u32) -> Spent {
    spent(&scenario(instances, each, upsert), "written shared", instances * each)
}

/// Writes while Redis is down: each waits for a commit to the disk.
pub(super) fn local_upserts(instances: u32, each: u32) -> Spent {
    let mut scenario = scenario(instances, each, upsert);
    let fault = Fault::RedisCrash { data: Persistence::Kept };
    scenario.faults.push(PlannedFault { start_us: 0, end_us: OUTAGE_US, at: None, fault });
    spent(&scenario, "written local", instances * each)
}

/// What running and judging takes. At least `count` calls must end as `wanted`, or something else was measured.
fn spent(scenario: &Scenario, wanted: &str, count: u32) -> Spent {
    let (run, spent) = run(scenario);
    let ended = |event: &&crate::history::Event| match &event.what {
        What::Complete { outcome, .. } => ending(outcome) == wanted,
        _ => false,
    };
    let ended = run.history.events.iter().filter(ended).count();
    assert!(ended >= count as usize, "only {ended} of {count} calls were {wanted}");
    spent
}

fn run(scenario: &Scenario) -> (FinishedRun, Spent) {
    let (run, running) = timed(|| runner::run(scenario).unwrap_or_else(|panic| panic!("{panic}")));
    let (judgements, judging) = timed(|| judge(&run.history));
    assert_eq!(worst(&judgements), Verdict::Pass, "what breaks a guarantee is no measure");
    (run, Spent { running, judging })
}

/// Some runs as an exploration has them.
pub(super) fn seeds(workload: Workload) -> Spent {
    (0..SEEDS).map(|seed| run(&Scenario::generate(workload, Seed(seed))).1).sum()
}

/// A run in which nothing is asked.
pub(super) fn idle(instances: u32) {
    let mut scenario = scenario(instances, 0, upsert);
    scenario.operations.clear();
    let run = runner::run(&scenario).unwrap_or_else(|panic| panic!("{panic}"));
    let started = run.history.events.iter().filter(|event| matches!(event.what, What::Started { .. })).count();
    // At the beginning, and once more at the end.
    assert_eq!(started, 2 * instances as usize, "some did not open");
}

/// What Redis answers when it is asked for such a record.
pub(super) fn record_of_redis() -> Vec<u8> {
    let stamp = "0199".repeat(8);
    let tag = json!(["group0", "u0", 1000]);
    let fields = [
        ("c[\"email\",\"a@x.org\"]", format!("{stamp}[[1767225601000,0],{{\"label\":{tag}}}]")),
        ("e", format!("{stamp}1")),
        ("pname", format!("{stamp}{tag}")),
        ("msource", format!("{stamp}{tag}")),
        ("f", "019b76daa801".to_owned()),
        ("l", "019b76daa801".to_owned()),
    ];
    let words = fields.iter().flat_map(|(name, value)| [*name, value]);
    let begin = format!("*{}\r\n", 2 * fields.len());
    words.fold(begin, |reply, word| reply + &format!("${}\r\n{word}\r\n", word.len())).into_bytes()
}
