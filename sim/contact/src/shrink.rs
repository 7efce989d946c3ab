//! Makes a failing scenario small: delta debugging on its faults and operations, which are plain data.
//!
//! A candidate is a scenario with less in it. It replaces the current one if a run of it breaks the same guarantee of the
//! same record. The scheduler draws once for every step of a task, so a smaller scenario is scheduled differently: a
//! candidate that passes is run with a few other scheduler seeds before it is given up.
//!
//! Shrinking never leaves the budget of faults (`faults::budget`): its rules forbid pairs of faults that are too near to each
//! other, and a candidate has fewer faults, which end earlier, and clocks that are less wrong.

use std::{fmt, sync::Arc};

use seedbed::shrink::Reducer;

use crate::{
    checker::{Guarantee, Verdict},
    explore::JudgedRun,
    faults::{NamedInstances, Trigger},
    history::{Patch, RecordName},
    scenario::Scenario,
};

/// Scheduler seeds that a candidate is run with besides its own.
const OTHER_SCHEDULES: u64 = 4;

/// What is violated, and has to stay so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ViolationKept {
    /// A guarantee.
    Broken {
        /// Which.
        guarantee: Guarantee,
        /// The first record that the violation names, if it names one.
        record: Option<RecordName>,
    },
    /// The run panics or ends its process.
    Unjudged {
        /// The message. Other digits in it make no other violation.
        message: String,
    },
}

impl ViolationKept {
    /// The first violation of a judged run of `scenario`. `None` if the run has no violation.
    pub fn of(judged: &JudgedRun, scenario: &Scenario) -> Option<Self> {
        Self::all(judged, scenario).into_iter().next()
    }

    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Unjudged { message }, Self::Unjudged { message: other }) => {
                without_digits(message) == without_digits(other)
            }
            (this, other) => this == other,
        }
    }

    /// Each violation of a judged run, in the order of the guarantees.
    fn all(judged: &JudgedRun, scenario: &Scenario) -> Vec<Self> {
        match &judged.outcome {
            Ok(outcomes) => {
                let broken = outcomes.judgements.iter().filter_map(|judgement| match &judgement.verdict {
                    Verdict::Violation { message, .. } => {
                        Some(Self::Broken { guarantee: judgement.guarantee, record: first_record(message, scenario) })
                    }
                    Verdict::Pass | Verdict::Unknown { .. } => None,
                });
                broken.collect()
            }
            Err(why) => vec![Self::Unjudged { message: why.to_string() }],
        }
    }
}

impl fmt::Display for ViolationKept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken { guarantee, record: None } => write!(f, "{guarantee}"),
            Self::Broken { guarantee, record: Some(RecordName { prefix, uid }) } => {
                write!(f, "{guarantee} of record {uid:?} under prefix {prefix:?}")
            }
            Self::Unjudged { message } => write!(f, "{message}"),
        }
    }
}

/// A scenario from which no single fault or operation can be taken any more.
#[derive(Clone, Debug)]
pub struct ShrunkScenario {
    /// The scenario, with the scheduler seed that fails.
    pub scenario: Scenario,
    /// How many runs it took.
    pub runs: u64,
}

/// Makes a scenario small whose run violates `target`. `judge` runs candidates. `tell` sees the scenario after each pass that took something out of
/// it, and the number of runs so far.
pub fn shrink(
    scenario: &Scenario,
    target: &ViolationKept,
    judge: &mut dyn FnMut(&Scenario) -> JudgedRun,
    mut tell: impl FnMut(&Scenario, u64),
) -> ShrunkScenario {
    let fails = |candidate: &Scenario| {
        let judged = judge(candidate);
        ViolationKept::all(&judged, candidate).iter().any(|found| found.is_same(target))
    };
    let another = |candidate: &mut Scenario, chance| candidate.scheduler_seed = chance - 1;
    let mut reducer = Reducer::new(scenario.clone(), u64::MAX, another, fails);
    reducer.set_chances(1 + OTHER_SCHEDULES);
    loop {
        let round = reducer.best().clone();
        for pass in PASSES {
            let before = reducer.best().clone();
            pass(&mut reducer);
            if *reducer.best() != before {
                tell(reducer.best(), reducer.runs());
            }
        }
        // What one pass took out may let another take out more.
        if *reducer.best() == round {
            return ShrunkScenario { runs: reducer.runs(), scenario: reducer.into_best() };
        }
    }
}

/// A pass, which takes out one kind of thing.
type ShrinkPass = fn(&mut Reducer<'_, Scenario>);

/// The passes, in their order: what takes out most comes first, since every later run is quicker then.
const PASSES: [ShrinkPass; 8] = [
    take_out_faults,
    take_out_operations,
    take_out_instances,
    spare_instances,
    shorten_faults,
    simplify_moments,
    simplify_world,
    shorten_patches,
];

fn take_out_faults(reducer: &mut Reducer<'_, Scenario>) {
    reducer.take_out(|scenario| scenario.faults.len(), |scenario, range| drop(scenario.faults.drain(range)));
}

fn take_out_operations(reducer: &mut Reducer<'_, Scenario>) {
    reducer.take_out(|scenario| scenario.operations.len(), |scenario, range| drop(scenario.operations.drain(range)));
}

/// Takes out instances, with the operations and faults that name only them. Those behind move up.
fn take_out_instances(reducer: &mut Reducer<'_, Scenario>) {
    for instance in (0..reducer.best().prefixes.len()).rev() {
        if reducer.best().prefixes.len() > 1 {
            let candidate = without_instance(reducer.best(), instance);
            reducer.accept(&candidate);
        }
    }
}

/// Takes single instances out of faults that concern several.
fn spare_instances(reducer: &mut Reducer<'_, Scenario>) {
    for fault in 0..reducer.best().faults.len() {
        for position in (0..reducer.best().faults[fault].fault.instances().len()).rev() {
            reducer.change(|candidate| {
                if let NamedInstances::Several(named) = candidate.faults[fault].fault.instances_mut()
                    && named.len() > 1
                {
                    named.remove(position);
                }
            });
        }
    }
}

/// Lets faults end as they begin, or else after half of their time as often as that goes.
fn shorten_faults(reducer: &mut Reducer<'_, Scenario>) {
    for fault in 0..reducer.best().faults.len() {
        let start_us = reducer.best().faults[fault].start_us;
        reducer.lower(start_us, |scenario| &mut scenario.faults[fault].end_us);
    }
}

/// Lets faults strike at a time instead of a moment, or at the first such moment, or for a shorter time.
fn simplify_moments(reducer: &mut Reducer<'_, Scenario>) {
    for fault in 0..reducer.best().faults.len() {
        if reducer.best().faults[fault].at.is_none() || reducer.change(|scenario| scenario.faults[fault].at = None) {
            continue;
        }
        reducer.change(|scenario| trigger(scenario, fault).nth = 1);
        reducer.lower(0, |scenario| &mut trigger(scenario, fault).lasts_us);
    }
}

fn trigger(scenario: &mut Scenario, fault: usize) -> &mut Trigger {
    scenario.faults[fault].at.as_mut().expect("this fault waits for a moment")
}

/// One worker, right clocks, default settings.
fn simplify_world(reducer: &mut Reducer<'_, Scenario>) {
    let simplifications: [fn(&mut Scenario); 8] = [
        |scenario| scenario.workers = 1,
        |scenario| scenario.clock_offsets_ms.fill(0),
        |scenario| scenario.tuning.record_ttl_ms = None,
        |scenario| scenario.tuning.tombstone_ttl_ms = None,
        |scenario| scenario.tuning.pending_bytes_max = None,
        |scenario| scenario.tuning.copies_bytes_max = None,
        |scenario| scenario.tuning.syncs_every_write = false,
        |scenario| scenario.tuning.accepts_losses = false,
    ];
    for simplify in simplifications {
        reducer.change(simplify);
    }
}

/// Takes single contacts and fields out of upserts.
fn shorten_patches(reducer: &mut Reducer<'_, Scenario>) {
    for operation in 0..reducer.best().operations.len() {
        let Some(patch) = reducer.best().operations[operation].call.patch() else { continue };
        for part in (0..parts(patch)).rev() {
            reducer.change(|candidate| {
                if let Some(patch) = Arc::make_mut(&mut candidate.operations[operation].call).patch_mut() {
                    take_out_part(patch, part);
                }
            });
        }
    }
}

fn without_instance(scenario: &Scenario, gone: usize) -> Scenario {
    let mut smaller = scenario.clone();
    smaller.prefixes.remove(gone);
    smaller.clock_offsets_ms.remove(gone);
    let gone = u32::try_from(gone).expect("dozens of instances");
    smaller.operations.retain_mut(|planned| keep(&mut planned.instance, gone));
    smaller.faults.retain_mut(|planned| match planned.fault.instances_mut() {
        NamedInstances::Absent => true,
        NamedInstances::One(instance) => keep(instance, gone),
        NamedInstances::Pair(one, other) => keep(one, gone) & keep(other, gone),
        NamedInstances::Several(instances) => {
            instances.retain_mut(|instance| keep(instance, gone));
            !instances.is_empty()
        }
    });
    smaller
}

/// Whether an instance stays; gives it the number that it has then.
fn keep(instance: &mut u32, gone: u32) -> bool {
    let stays = *instance != gone;
    *instance -= u32::from(*instance > gone);
    stays
}

fn parts(patch: &Patch) -> usize {
    let removed = patch.without_contacts.len() + patch.without_profile.len() + patch.without_metadata.len();
    patch.contacts.len() + patch.profile.len() + patch.metadata.len() + removed
}

fn take_out_part(patch: &mut Patch, mut part: usize) {
    if part < patch.contacts.len() {
        patch.contacts.remove(part);
        return;
    }
    part -= patch.contacts.len();
    for fields in [&mut patch.profile, &mut patch.metadata] {
        if let Some(name) = fields.keys().nth(part).cloned() {
            fields.remove(&name);
            return;
        }
        part -= fields.len();
    }
    if part < patch.without_contacts.len() {
        patch.without_contacts.remove(part);
        return;
    }
    part -= patch.without_contacts.len();
    for names in [&mut patch.without_profile, &mut patch.without_metadata] {
        if part < names.len() {
            names.remove(part);
            return;
        }
        part -= names.len();
    }
}

/// The record that a message names first. Messages name records as `checker::operations` shows them.
fn first_record(message: &str, scenario: &Scenario) -> Option<RecordName> {
    let records = scenario.records().into_iter();
    let named = records.filter_map(|record| {
        let position = message.find(&format!("{:?} under prefix {:?}", record.uid, record.prefix))?;
        Some((position, record))
    });
    named.min().map(|(_, record)| record)
}

fn without_digits(message: &str) -> String {
    message.chars().map(|character| if character.is_ascii_digit() { '0' } else { character }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        explore::Unjudged,
        outcomes::{Common, judge_scenario},
        seed::Seed,
        subject::SubjectKind,
        workload::Workload,
    };

    fn judge(scenario: &Scenario) -> JudgedRun {
        JudgedRun::of(scenario, judge_scenario(scenario).0.map_err(Unjudged::from))
    }

    /// The older client breaks its promises by design, so this violation stays.
    fn violated() -> (Scenario, ViolationKept) {
        let common = Common { subject: SubjectKind::Legacy, ..Common::default() };
        let scenario = common.scenario((Workload::Isolation, Seed(120)));
        let target = ViolationKept::of(&judge(&scenario), &scenario).expect("a violation");
        (scenario, target)
    }

    #[test]
    fn a_violation_shrinks_to_a_few_operations_that_break_the_same_guarantee_of_the_same_record() {
        let (scenario, target) = violated();
        let shrunk = shrink(&scenario, &target, &mut judge, |_, _| {});
        let small = &shrunk.scenario;
        assert!(small.operations.len() <= 4 && small.faults.len() <= 1, "{small:?}");
        assert!(small.prefixes.len() <= 2 && small.workers == 1, "{small:?}");
        assert!(scenario.operations.len() > 20, "it was no small one");
        assert_eq!(ViolationKept::of(&judge(small), small), Some(target.clone()), "it still is");
        let again = shrink(small, &target, &mut judge, |_, _| panic!("there was something left to take out"));
        assert_eq!(again.scenario, *small);
    }

    #[test]
    fn a_violation_names_its_record() {
        let (scenario, _) = violated();
        let message = |uid: &str, prefix: &str| format!("cell of record {uid:?} under prefix {prefix:?}: stale");
        let RecordName { prefix, uid } = scenario.records().into_iter().next_back().expect("some");
        assert_eq!(first_record(&message(&uid, &prefix), &scenario), Some(RecordName { prefix, uid }));
        assert_eq!(first_record(&message("stranger", "p"), &scenario), None);
    }

    #[test]
    fn an_instance_that_is_taken_out_leaves_no_trace() {
        let scenario = Scenario::generate(Workload::Mixed, Seed(1));
        for gone in 0..scenario.prefixes.len() {
            let smaller = without_instance(&scenario, gone);
            assert_eq!(smaller.check(), Ok(()));
            assert_eq!(smaller.prefixes.len() + 1, scenario.prefixes.len());
            let of_others = scenario.operations.iter().filter(|planned| planned.instance as usize != gone);
            assert!(of_others.map(|planned| &planned.call).eq(smaller.operations.iter().map(|planned| &planned.call)));
        }
    }

    #[test]
    fn each_part_of_a_patch_can_be_taken_out() {
        let patch = serde_json::json!({"contacts": [{"type": "a"}], "profile": {"b": 1, "c": 2}, "metadata": {"d": 3}});
        let patch: Patch = serde_json::from_value(patch).unwrap();
        let mut left = Vec::new();
        for part in 0..parts(&patch) {
            let mut smaller = patch.clone();
            take_out_part(&mut smaller, part);
            assert_eq!(parts(&smaller), 3);
            left.push(serde_json::to_string(&smaller).unwrap());
        }
        left.dedup();
        assert_eq!(left.len(), 4, "{left:?}");
    }
}
