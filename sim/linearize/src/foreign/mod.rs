//! Histories of other systems, judged for linearizability: registers, compare-and-set registers, stores of keys.
//!
//! Each key is judged alone, which is allowed: a history is linearizable if and only if each object's part is. A register
//! whose values are all different is decided by the zone test, everything else by the search.

mod form;
mod functions;
pub mod generate;
mod line;
mod objects;
mod processes;
mod reader;
mod tiling;
mod values;

use std::{fmt, str::FromStr};

pub use self::{
    form::Foreign,
    reader::{Reading, read},
};
use self::{
    form::{ForeignAct, ForeignOperation},
    objects::{ForeignRegister, KeyValue},
    values::ValueId,
};
use crate::{
    evidence::{Evidence, Hint, evidence, gave_up, timed},
    object::{EffectOnObject, Object},
    search::{Limits, SearchEnd, TimedOperation, search},
    span::{Act as OnRegister, Span},
    zones::{self, Zoned},
};

/// The objects that can be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelName {
    /// One value a key: read, write.
    Register,
    /// The same, with compare-and-set.
    CasRegister,
    /// A text a key, or none: get, put, append, delete.
    KeyValue,
}

impl ModelName {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Register, Self::CasRegister, Self::KeyValue];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::CasRegister => "cas-register",
            Self::KeyValue => "key-value",
        }
    }

    fn functions(self) -> &'static str {
        match self {
            Self::Register => "read and write",
            Self::CasRegister => "read, write and cas",
            Self::KeyValue => "get, put, append and delete",
        }
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A name that no model has.
#[derive(Debug, thiserror::Error)]
#[error("unknown model {0:?}: there are register, cas-register and key-value")]
pub struct UnknownModel(pub String);

impl FromStr for ModelName {
    type Err = UnknownModel;

    fn from_str(name: &str) -> Result<Self, UnknownModel> {
        Self::ALL.into_iter().find(|model| model.name() == name).ok_or_else(|| UnknownModel(name.to_owned()))
    }
}

/// What was found about a foreign history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Linearizable {
    /// There is an order.
    Pass,
    /// It cannot be said.
    Unknown {
        /// Why not.
        why: String,
    },
    /// There is none, already for one key.
    Violation(BrokenKey),
}

/// A key whose operations have no order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokenKey {
    /// Which, as JSON; empty if its operations have no key.
    pub key: String,
    /// The operation whose return no order gets past.
    pub stuck: Option<String>,
    /// The longest order that was found, up to there.
    pub order: Vec<String>,
    /// Operations that have no order either, by their calls.
    pub shown: Vec<String>,
    /// Whether none of them can be left out.
    pub is_smallest: bool,
}

impl BrokenKey {
    fn of(key: &str) -> Self {
        Self { key: key.to_owned(), stuck: None, order: Vec::new(), shown: Vec::new(), is_smallest: false }
    }
}

/// Why a history without observations has no verdict: any order explains it.
const NOTHING_JUDGED: &str = "nothing was judged: no operation returned what it saw";

impl Foreign {
    /// How many operations are judged, and on how many keys.
    pub fn counts(&self) -> (usize, usize) {
        (self.operations.len(), self.keys.len())
    }

    /// Judges each key, up to the first whose operations have no order.
    pub fn judge(&self) -> Linearizable {
        self.judge_with(true)
    }

    /// The verdict alone: a violation names its key, and nothing that shows it.
    pub fn verdict(&self) -> Linearizable {
        self.judge_with(false)
    }

    fn judge_with(&self, evidence: bool) -> Linearizable {
        match self.model {
            ModelName::Register | ModelName::CasRegister => {
                self.judge_as(&ForeignRegister { initial: self.initial }, evidence)
            }
            ModelName::KeyValue => self.judge_as(&KeyValue::new(self), evidence),
        }
    }

    fn judge_as<O: Object<Act = ForeignAct>>(&self, object: &O, with_evidence: bool) -> Linearizable {
        let loss = self.losses.iter().min();
        let mut by_key = vec![Vec::new(); self.keys.len()];
        let mut unknown = None;
        for operation in &self.operations {
            match loss {
                Some((moment, line)) if operation.called > *moment => {
                    let why = format!("at line {line} something restarted that may have lost data");
                    unknown = unknown.or_else(|| Some(format!("{why}: what came after is not judged")));
                }
                _ => by_key[operation.key as usize].push(operation),
            }
        }
        if unknown.is_none() && !self.operations.iter().any(ForeignOperation::observes) {
            return Linearizable::Unknown { why: NOTHING_JUDGED.to_owned() };
        }
        for (key, operations) in self.keys.iter().zip(by_key) {
            let part = KeyOperations::new(operations, loss.map(|(moment, _)| *moment));
            match part.verdict(object, self.initial, self.model == ModelName::Register) {
                Ok(None) => {}
                Ok(Some(_)) if !with_evidence => return Linearizable::Violation(BrokenKey::of(key)),
                Ok(Some(hint)) => {
                    let found = evidence(object, &part.timed, hint, Limits::default());
                    return Linearizable::Violation(self.broken(key, &part, &found));
                }
                Err(why) => unknown = unknown.or_else(|| Some(format!("{}: {why}", named(key)))),
            }
        }
        unknown.map_or(Linearizable::Pass, |why| Linearizable::Unknown { why })
    }

    fn broken(&self, key: &str, part: &KeyOperations<'_>, broken: &Evidence) -> BrokenKey {
        let shown = |index: &usize| self.shown(part.operations[*index]);
        BrokenKey {
            key: key.to_owned(),
            stuck: broken.stuck.as_ref().map(shown),
            order: broken.order.iter().map(shown).collect(),
            shown: broken.shown.iter().map(shown).collect(),
            is_smallest: broken.is_smallest,
        }
    }
}

/// A key in the words of messages.
pub fn named(key: &str) -> String {
    if key.is_empty() { "the history".to_owned() } else { format!("key {key}") }
}

/// The operations on one key.
struct KeyOperations<'a> {
    operations: Vec<&'a ForeignOperation>,
    timed: Vec<TimedOperation<ForeignAct>>,
}

impl<'a> KeyOperations<'a> {
    /// What returned after the end has no known outcome.
    fn new(mut operations: Vec<&'a ForeignOperation>, end: Option<i64>) -> Self {
        let is_known = |returned: i64| end.is_none_or(|end| returned <= end);
        operations.retain(|operation| !operation.act.only_looks() || operation.returned.is_some_and(is_known));
        operations.sort_by_key(|operation| operation.called);
        let known = |operation: &&ForeignOperation| {
            (operation.called, operation.returned.filter(|&returned| is_known(returned)), operation.act)
        };
        let (timed, _) = timed(operations.iter().map(known));
        Self { operations, timed }
    }

    /// Whether it has an order; what is known of a violation if not.
    fn verdict<O: Object<Act = ForeignAct>>(
        &self,
        object: &O,
        initial: ValueId,
        is_register: bool,
    ) -> Result<Option<Hint>, String> {
        match if is_register { zoned(&self.timed, initial) } else { None } {
            Some(Ok(())) => return Ok(None),
            Some(Err(shown)) => return Ok(Some(Hint { by: u64::MAX, shown: Some(shown) })),
            None => {}
        }
        match search(object, &self.timed, Limits::default()).0 {
            SearchEnd::Linearizable(_) => Ok(None),
            SearchEnd::Violated { by } => Ok(Some(Hint { by, shown: None })),
            SearchEnd::GaveUp { steps, bytes } => Err(gave_up(steps, bytes)),
        }
    }
}

/// The zone test, where it applies: whether there is an order, or which operations show that there is none.
fn zoned(timed: &[TimedOperation<ForeignAct>], initial: ValueId) -> Option<Result<(), Vec<usize>>> {
    let read: std::collections::BTreeSet<ValueId> = timed
        .iter()
        .filter_map(|it| match it.act {
            ForeignAct::Read(value) => Some(value),
            _ => None,
        })
        .collect();
    let (mut spans, mut indices) = (Vec::with_capacity(timed.len()), Vec::with_capacity(timed.len()));
    for (index, it) in timed.iter().enumerate() {
        let act = match it.act {
            ForeignAct::Read(value) => OnRegister::Read(value),
            ForeignAct::Write(value) if it.returned.is_some() || read.contains(&value) => OnRegister::Write(value),
            ForeignAct::Write(_) => continue,
            ForeignAct::Cas { .. } | ForeignAct::CasFailed { .. } | ForeignAct::Append(_) | ForeignAct::Delete => {
                return None;
            }
        };
        spans.push(Span { called: it.called, returned: it.returned.unwrap_or(u64::MAX), act });
        indices.push(index);
    }
    match zones::test(&initial, &spans) {
        Zoned::Linearizable => Some(Ok(())),
        Zoned::Violated(violation) => Some(Err(violation.ops().into_iter().map(|op| indices[op]).collect())),
        Zoned::Ambiguous { .. } => None,
    }
}

#[cfg(test)]
mod tests;
