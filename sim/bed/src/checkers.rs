//! Checkers: what judges the history of a run, and those that are given.

use std::{collections::BTreeMap, fmt::Write as _};

use seedbed_linearize as linearize;
use serde::{Deserialize, Serialize};

use crate::{
    history::{Call, History, Phase},
    milliseconds::Ms,
    system::{OpOf, Outcome, RetOf, Workload},
};

/// The guarantee that a run ends by itself, checked in every run that a worker process plays: it neither ends its process nor spins.
pub const RUN_ENDS: &str = "run ends";
/// The guarantee that nothing panics, checked in every run.
pub const NO_PANIC: &str = "no panic";
/// The guarantee that each instance is back after all faults have ended, checked in every run.
pub const COMES_BACK: &str = "comes back";
/// The guarantee that the simulated Redis has each command that it is asked for, checked in every run with a Redis.
pub const REDIS_SUFFICES: &str = "redis suffices";

/// Judges the histories of a workload.
pub trait Checker<W: Workload>: Send + Sync {
    /// The name of the guarantee that it checks.
    fn name(&self) -> &str;

    /// What it found. A function of the history alone.
    fn check(&self, history: &History<W>) -> Judged;

    /// Whether it looks for an answer that the last calls have to get: then shrinking leaves them as they are, since without them
    /// there is no such answer in any system.
    fn needs_last_calls(&self) -> bool {
        false
    }
}

/// What a checker found in a history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judged {
    /// Whether the guarantee held.
    pub verdict: Verdict,
    /// How much was judged: calls, unless the checker says otherwise.
    pub judged: u64,
    /// How much was not judged, by reason.
    pub excused: BTreeMap<String, u64>,
}

/// Whether a guarantee held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It did.
    Held,
    /// It did not.
    Violated {
        /// What it did not hold for: a key, an instance, a call. Empty if it is the run as a whole. Shrinking keeps it.
        object: String,
        /// What happened, in one or a few lines.
        what: String,
    },
    /// It cannot be said. This never passes for held.
    Unknown {
        /// Why not.
        why: String,
    },
}

impl Judged {
    /// It held, in so much that was judged.
    pub fn held(judged: u64) -> Self {
        Self { verdict: Verdict::Held, judged, excused: BTreeMap::new() }
    }

    /// It did not hold for this object.
    pub fn violated(object: impl Into<String>, what: impl Into<String>) -> Self {
        let verdict = Verdict::Violated { object: object.into(), what: what.into() };
        Self { verdict, judged: 1, excused: BTreeMap::new() }
    }

    /// So much more was not judged, for this reason.
    #[must_use]
    pub fn excusing(mut self, reason: &str, count: u64) -> Self {
        if count > 0 {
            *self.excused.entry(reason.to_owned()).or_default() += count;
        }
        self
    }
}

/// The calls of a history have an order that the model explains.
///
/// A call that certainly had no effect is left out, and one without an answer may have taken effect at any time after it was
/// made, or never. The times that a model with a lapse of time is told are simulated microseconds of the run.
pub fn linearizable<W, M>(model: M) -> impl Checker<W>
where
    W: Workload,
    M: linearize::Model<Op = OpOf<W>, Ret = RetOf<W>> + Send + Sync + 'static,
{
    LinearizableChecker { model, limits: linearize::Limits::default() }
}

struct LinearizableChecker<M> {
    model: M,
    limits: linearize::Limits,
}

impl<W, M> Checker<W> for LinearizableChecker<M>
where
    W: Workload,
    M: linearize::Model<Op = OpOf<W>, Ret = RetOf<W>> + Send + Sync + 'static,
{
    fn name(&self) -> &'static str {
        "linearizable"
    }

    fn check(&self, history: &History<W>) -> Judged {
        let (mut asked, mut calls, mut failed) = (Vec::new(), Vec::new(), 0);
        for call in history.calls() {
            let returned = match call.returned {
                Some((_, Outcome::Fail(_))) => {
                    failed += 1;
                    continue;
                }
                Some((at_us, Outcome::Ok(ret))) => Some((at_us, ret.clone())),
                Some((_, Outcome::Unknown(_))) | None => None,
            };
            let process = u64::from(call.instance);
            calls.push(linearize::Call { process, op: call.op.clone(), called: call.called_us, returned });
            asked.push(call);
        }
        let answered = calls.iter().filter(|call| call.returned.is_some()).count();
        let unknown = (calls.len() - answered) as u64;
        let judged = |verdict| {
            let judged = Judged { verdict, judged: answered as u64, excused: BTreeMap::new() };
            judged.excusing("failed without effect", failed).excusing("outcome unknown", unknown)
        };
        if answered == 0 {
            // Nothing was answered, so nothing can contradict.
            return judged(Verdict::Held);
        }
        match linearize::linearizable(&self.model, &calls, self.limits) {
            linearize::Verdict::Linearizable { .. } => judged(Verdict::Held),
            linearize::Verdict::Unknown { why, .. } => judged(Verdict::Unknown { why }),
            linearize::Verdict::Violation(violation) => {
                let what = self.text(&violation, &asked);
                judged(Verdict::Violated { object: violation.object, what })
            }
        }
    }
}

impl<M: linearize::Model> LinearizableChecker<M> {
    /// Why there is no order, with the numbers and times by which the history names calls.
    fn text(&self, violation: &linearize::Violation, asked: &[Call<'_, M::Op, M::Ret>]) -> String {
        let on = if violation.object.is_empty() { String::new() } else { format!(" on {}", violation.object) };
        let mut text = format!("no order explains these calls{on}:\n");
        for call in violation.shown.iter().map(|place| &asked[*place]) {
            let ret = call.returned.and_then(|(_, outcome)| outcome.ok());
            let (said, from) = (self.model.show(call.op, ret), Ms(call.called_us));
            let _ = write!(text, "  call {} of instance {}: {said}, ", call.number, call.instance);
            let _ = match call.returned {
                Some((at_us, Outcome::Ok(_))) => writeln!(text, "{from} to {}", Ms(at_us)),
                _ => writeln!(text, "from {from} on"),
            };
        }
        if let Some(stuck) = violation.stuck.map(|place| &asked[place]) {
            let _ = writeln!(text, "call {} is the first to return an answer that no order explains", stuck.number);
        }
        text
    }
}

/// A property holds for every history; the error says where it does not. The closure does not say how much of the history it is
/// about, so the history counts as one that was judged.
pub fn always<W: Workload>(
    name: &str,
    holds: impl Fn(&History<W>) -> Result<(), String> + Send + Sync + 'static,
) -> impl Checker<W> {
    Always { name: name.to_owned(), holds }
}

struct Always<F> {
    name: String,
    holds: F,
}

impl<W: Workload, F: Fn(&History<W>) -> Result<(), String> + Send + Sync> Checker<W> for Always<F> {
    fn name(&self) -> &str {
        &self.name
    }

    fn check(&self, history: &History<W>) -> Judged {
        match (self.holds)(history) {
            Ok(()) => Judged::held(1),
            Err(what) => Judged::violated("", what),
        }
    }
}

/// Within so many simulated milliseconds after everything has healed, each instance that is asked any of the plan's last calls has
/// answered one of them so that this holds.
pub fn eventually_after_heal<W: Workload>(
    name: &str,
    within_ms: u64,
    holds: impl Fn(&OpOf<W>, &RetOf<W>) -> bool + Send + Sync + 'static,
) -> impl Checker<W> {
    Eventually { name: name.to_owned(), within_us: within_ms * 1_000, holds }
}

struct Eventually<F> {
    name: String,
    within_us: u64,
    holds: F,
}

impl<W: Workload, F: Fn(&OpOf<W>, &RetOf<W>) -> bool + Send + Sync> Checker<W> for Eventually<F> {
    fn name(&self) -> &str {
        &self.name
    }

    fn check(&self, history: &History<W>) -> Judged {
        let [Some(heal_us), Some(last_us)] = [Phase::Heal, Phase::Last].map(|phase| history.phase_us(phase)) else {
            return Judged::held(0);
        };
        let mut held = BTreeMap::new();
        for call in history.calls().iter().filter(|call| call.called_us >= last_us) {
            let holds = call.returned.is_some_and(|(at_us, outcome)| {
                at_us <= heal_us + self.within_us && outcome.ok().is_some_and(|ret| (self.holds)(call.op, ret))
            });
            *held.entry(call.instance).or_insert(false) |= holds;
        }
        let ms = self.within_us / 1_000;
        match held.iter().find(|(_, held)| !**held) {
            Some((instance, _)) => Judged::violated(
                format!("instance {instance}"),
                format!("instance {instance} gave no such answer within {ms} ms after everything had healed"),
            ),
            None => Judged::held(held.len() as u64),
        }
    }

    fn needs_last_calls(&self) -> bool {
        true
    }
}

/// Every call returns within so many simulated milliseconds, whatever is wrong. Not judged: calls whose process ended before, and
/// those that a pause or a sleep of their machine may have held up.
pub fn deadline<W: Workload>(limit_ms: u64) -> impl Checker<W> {
    Deadline { limit_us: limit_ms * 1_000 }
}

struct Deadline {
    limit_us: u64,
}

impl<W: Workload> Checker<W> for Deadline {
    fn name(&self) -> &'static str {
        "deadline"
    }

    fn check(&self, history: &History<W>) -> Judged {
        let ends_us = history.events.last().map_or(0, |event| event.at_us);
        let (mut judged, mut cut_off, mut held_up) = (0, 0, 0);
        for call in history.calls() {
            if history.is_cut_off(&call) {
                cut_off += 1;
                continue;
            }
            let returned_us = call.returned.map_or(ends_us, |(at_us, _)| at_us);
            if history.stood_still(call.instance, call.called_us, returned_us) {
                held_up += 1;
                continue;
            }
            judged += 1;
            if returned_us - call.called_us > self.limit_us || call.returned.is_none() {
                let (number, ms) = (call.number, (returned_us - call.called_us) / 1_000);
                let what = match call.returned {
                    Some(_) => format!("call {number} of instance {} took {ms} ms: {:?}", call.instance, call.op),
                    None => format!("call {number} of instance {} never returned: {:?}", call.instance, call.op),
                };
                return Judged::violated(format!("call {number}"), what);
            }
        }
        Judged::held(judged).excusing("process ended before", cut_off).excusing("machine stood still", held_up)
    }
}
