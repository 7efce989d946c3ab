//! What the instances are asked to do. A workload draws a list of operations from its own stream of the seed; it knows
//! nothing of the faults beside it, nor of the checkers behind it.
//!
//! Every value written carries a tag `[prefix, uid, number]`, unique in the run: checkers know a write by it.

mod calls;
mod cancelled;
mod churn;
mod consistency;
mod contention;
mod expiry;
mod fallback;
mod isolation;
mod large;
mod listing;
mod mixed;
mod moments;
mod outages;
mod prefixes;
mod serialization;

use std::{fmt, str::FromStr, sync::Arc};

use rand::{RngExt, seq::IndexedRandom};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};

use crate::{
    history::{Call, Patch, Tuning},
    seed::{Seed, Stream},
};

/// The four validations, and workloads that each stress one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Workload {
    /// What is written comes back equal, from every tier.
    Serialization,
    /// While Redis is away the instances go on, and nothing is lost.
    Fallback,
    /// The instances of one prefix agree.
    Consistency,
    /// Prefixes do not see each other.
    Isolation,
    /// Writes to few cells meet each other.
    Contention,
    /// Many prefixes with hostile names.
    Prefixes,
    /// Redis is away for minutes, and instances restart meanwhile.
    Outages,
    /// Instances come and go.
    Churn,
    /// Records expire, while Redis is away and while it is there.
    Expiry,
    /// Lists and clears beside writes, of more records than fit into a page.
    Listing,
    /// Records with many contact points and large values.
    Large,
    /// Callers give up most of their calls.
    Cancelled,
    /// Calls that ask for more than any answer.
    Calls,
    /// Of everything something.
    Mixed,
    /// Faults strike between two certain steps.
    Moments,
}

/// All workloads, in the order of reports: the validations first.
pub const ALL: [Workload; 15] = [
    Workload::Serialization,
    Workload::Fallback,
    Workload::Consistency,
    Workload::Isolation,
    Workload::Contention,
    Workload::Prefixes,
    Workload::Outages,
    Workload::Churn,
    Workload::Expiry,
    Workload::Listing,
    Workload::Large,
    Workload::Cancelled,
    Workload::Calls,
    Workload::Mixed,
    Workload::Moments,
];

/// The four validations, which a client of any kind can be held to.
pub const VALIDATIONS: [Workload; 4] =
    [Workload::Serialization, Workload::Fallback, Workload::Consistency, Workload::Isolation];

/// What a workload asks for.
#[derive(Clone, Debug)]
pub struct WorkloadPlan {
    /// The key prefix of each instance.
    pub prefixes: Vec<String>,
    /// Operations under way at the same time on one instance, at most.
    pub workers: u32,
    /// The operations, in the order of their times.
    pub operations: Vec<PlannedCall>,
    /// How long it lasts, and the phase of faults with it, in simulated microseconds.
    pub length_us: u64,
    /// What the instances are set to.
    pub tuning: Tuning,
}

/// An operation and its time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedCall {
    /// Simulated microseconds after the start of the phase of faults; later if its instance is busy or down then.
    pub at_us: u64,
    /// The instance that is called.
    pub instance: u32,
    /// What is asked.
    pub call: Arc<Call>,
}

impl Workload {
    /// What grows from a seed.
    pub fn plan(self, seed: Seed) -> WorkloadPlan {
        let mut plan = self.plan_by(&mut seed.stream("workload"));
        match self {
            Self::Expiry => expiry::outlive(&mut plan, &mut seed.stream("records without an end")),
            Self::Large => large::enlarge(&mut plan, &mut seed.stream("a very large record")),
            _ => {}
        }
        plan
    }

    fn plan_by(self, draw: &mut Stream) -> WorkloadPlan {
        match self {
            Self::Serialization => serialization::plan(draw),
            Self::Fallback => fallback::plan(draw),
            Self::Consistency => consistency::plan(draw),
            Self::Isolation => isolation::plan(draw),
            Self::Contention => contention::plan(draw),
            Self::Prefixes => prefixes::plan(draw),
            Self::Outages => outages::plan(draw),
            Self::Churn => churn::plan(draw),
            Self::Expiry => expiry::plan(draw),
            Self::Listing => listing::plan(draw),
            Self::Large => large::plan(draw),
            Self::Cancelled => cancelled::plan(draw),
            Self::Calls => calls::plan(draw),
            Self::Mixed => mixed::plan(draw),
            Self::Moments => moments::plan(draw),
        }
    }

    /// Whether it is one of the four validations.
    pub fn is_validation(self) -> bool {
        VALIDATIONS.contains(&self)
    }

    /// The name on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Serialization => "serialization",
            Self::Fallback => "fallback",
            Self::Consistency => "consistency",
            Self::Isolation => "isolation",
            Self::Contention => "contention",
            Self::Prefixes => "prefixes",
            Self::Outages => "outages",
            Self::Churn => "churn",
            Self::Expiry => "expiry",
            Self::Listing => "listing",
            Self::Large => "large",
            Self::Cancelled => "cancelled",
            Self::Calls => "calls",
            Self::Mixed => "mixed",
            Self::Moments => "moments",
        }
    }

    /// What it validates, or stresses, in a few words.
    pub fn about(self) -> &'static str {
        match self {
            Self::Serialization => "what is written comes back equal, from every tier",
            Self::Fallback => "without Redis the instances go on, and lose nothing",
            Self::Consistency => "the instances of one prefix agree",
            Self::Isolation => "prefixes do not see each other",
            Self::Contention => "few cells, many instances, all at the same time",
            Self::Prefixes => "many prefixes with hostile names in one Redis",
            Self::Outages => "Redis is away for minutes, instances restart meanwhile",
            Self::Churn => "up to dozens of instances that come and go",
            Self::Expiry => "records with a time to live, also while Redis is away",
            Self::Listing => "lists and clears beside writes, over several pages",
            Self::Large => "hundreds of contact points, values of 100 kB",
            Self::Cancelled => "callers give most calls up, Redis is slow",
            Self::Calls => "calls that ask for Redis's word, a fresh copy, several records",
            Self::Mixed => "something of everything",
            Self::Moments => "faults strike between two steps of the protocol",
        }
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A name that no workload has.
#[derive(Debug, thiserror::Error)]
#[error("unknown workload {name:?}: there are {}", names())]
pub struct UnknownWorkload {
    name: String,
}

/// All names, for messages.
pub fn names() -> String {
    ALL.map(Workload::name).join(", ")
}

impl FromStr for Workload {
    type Err = UnknownWorkload;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let found = ALL.into_iter().find(|workload| workload.name() == name);
        found.ok_or_else(|| UnknownWorkload { name: name.to_owned() })
    }
}

/// Collects operations and numbers them.
struct Planner<'a> {
    draw: &'a mut Stream,
    prefixes: Vec<String>,
    operations: Vec<PlannedCall>,
}

/// How often each kind of operation is drawn.
struct Mix {
    upsert: u32,
    get: u32,
    remove: u32,
    list: u32,
    clear: u32,
}

impl<'a> Planner<'a> {
    fn new(draw: &'a mut Stream, prefixes: Vec<String>) -> Self {
        Self { draw, prefixes, operations: Vec::new() }
    }

    fn instances(&self) -> u32 {
        u32::try_from(self.prefixes.len()).expect("a handful of instances")
    }

    /// The tag of the next write.
    fn tag(&self, instance: u32, uid: &str) -> Json {
        json!([self.prefixes[instance as usize], uid, self.operations.len()])
    }

    fn push(&mut self, at_us: u64, instance: u32, call: Call) {
        self.operations.push(PlannedCall { at_us, instance, call: call.into() });
    }

    /// Operations of a mix, over the whole length; `patch` makes what an upsert writes from its tag.
    fn mixed(
        &mut self,
        count: usize,
        length_us: u64,
        mix: &Mix,
        uids: &[String],
        mut patch: impl FnMut(&mut Stream, &Json) -> Patch,
    ) {
        // In half of the runs in bursts, so that operations meet each other on their way.
        let bursts: Vec<u64> =
            (0..self.draw.random_range(3..=12)).map(|_| self.draw.random_range(0..length_us)).collect();
        let burst_us = self.draw.random_range(1_000..400_000);
        let bursts = Some(bursts).filter(|_| self.draw.random());
        for _ in 0..count {
            let at_us = match &bursts {
                Some(bursts) => bursts.choose(self.draw).expect("three") + self.draw.random_range(0..burst_us),
                None => self.draw.random_range(0..length_us),
            };
            self.one_of(at_us, mix, uids, &mut patch);
        }
    }

    /// One operation of a mix.
    fn one_of(&mut self, at_us: u64, mix: &Mix, uids: &[String], mut patch: impl FnMut(&mut Stream, &Json) -> Patch) {
        let weights = [mix.upsert, mix.get, mix.remove, mix.list, mix.clear];
        let instance = self.draw.random_range(0..self.instances());
        let uid = uids.choose(self.draw).expect("at least one uid").clone();
        let kind = (0..weights.len()).collect::<Vec<_>>();
        let kind = *kind.choose_weighted(self.draw, |kind| weights[*kind]).expect("some weight");
        let call = match kind {
            0 => {
                let tag = self.tag(instance, &uid);
                Call::upsert(&uid, patch(self.draw, &tag))
            }
            1 => Call::get(&uid),
            2 => Call::remove(&uid),
            3 => Call::List,
            _ => Call::Clear,
        };
        self.push(at_us, instance, call);
    }

    /// Up to so many syncs, anywhere.
    fn syncs(&mut self, max: usize, length_us: u64) {
        for _ in 0..self.draw.random_range(0..=max) {
            let (at_us, instance) = (self.draw.random_range(0..length_us), self.draw.random_range(0..self.instances()));
            self.push(at_us, instance, Call::Sync);
        }
    }

    fn finish(mut self, workers: u32, length_us: u64) -> WorkloadPlan {
        self.operations.sort_by_key(|planned| planned.at_us);
        let Self { prefixes, operations, .. } = self;
        WorkloadPlan { prefixes, workers, operations, length_us, tuning: Tuning::default() }
    }
}

/// A patch over a few fields, each written or not; at least one is.
fn fields(draw: &mut Stream, tag: &Json) -> Patch {
    let mut patch = Patch::default();
    for value in ["a@x.org", "b@x.org"] {
        if draw.random_bool(0.3) {
            patch.contacts.push(json!({"type": "email", "value": value, "label": tag}));
        }
    }
    for name in ["name", "title"] {
        if draw.random_bool(0.4) {
            patch.profile.insert(name.to_owned(), tag.clone());
        }
    }
    if patch == Patch::default() || draw.random_bool(0.3) {
        patch.metadata = Map::from_iter([("source".to_owned(), tag.clone())]);
    }
    patch
}

fn numbered(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}{number}")).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_write_of_a_run_has_a_tag_of_its_own_that_names_its_prefix_and_uid() {
        for workload in ALL {
            for seed in 0..50 {
                let plan = workload.plan(Seed(seed));
                let mut tags = BTreeSet::new();
                for planned in &plan.operations {
                    let Call::Upsert { uid, patch, .. } = &*planned.call else { continue };
                    if patch.contacts.is_empty() && patch.profile.is_empty() && patch.metadata.is_empty() {
                        assert!(patch.removes_cells(), "{workload} {seed}: it writes nothing");
                        continue;
                    }
                    let prefix = &plan.prefixes[planned.instance as usize];
                    let text = serde_json::to_string(patch).unwrap();
                    let start = serde_json::to_string(&json!([prefix, uid])).unwrap();
                    let start = start.trim_end_matches(']');
                    let at = text.find(start).unwrap_or_else(|| panic!("{workload} {seed}: no tag in {text}"));
                    let number = &text[at + start.len() + 1..];
                    assert!(tags.insert(number[..number.find(']').unwrap()].to_owned()), "{workload} {seed}: twice");
                }
                assert!(!tags.is_empty(), "{workload} {seed} writes nothing");
            }
        }
    }

    #[test]
    fn every_kind_of_operation_is_asked_for() {
        let mut kinds = BTreeSet::new();
        for workload in ALL {
            for seed in 0..20 {
                for planned in workload.plan(Seed(seed)).operations {
                    kinds.insert(serde_json::to_value(&planned.call).unwrap()["call"].to_string());
                }
            }
        }
        assert_eq!(kinds.len(), 8, "{kinds:?}");
    }

    #[test]
    fn an_unknown_workload_is_an_error_that_names_those_there_are() {
        let error = "chaos".parse::<Workload>().unwrap_err().to_string();
        assert!(error.contains("\"chaos\"") && error.contains("isolation") && error.contains("mixed"), "{error}");
    }
}
