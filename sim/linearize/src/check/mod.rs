//! Checks a history against a [`Model`]: object by object, each with the search.
//!
//! The search knows a state by a number. Behind the number stand all states that the object may be in, since an answer
//! may leave open what happened; so a model that is certain of nothing needs no other search.

use std::{cell::RefCell, collections::BTreeMap, fmt::Write as _, rc::Rc};

use crate::{
    evidence::{Hint, evidence, gave_up, timed},
    model::{Call, Model},
    object::{Before, EffectOnObject, Object},
    search::{Limits, SearchEnd, TimedOperation, search},
    when::When,
};

/// What was found about a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Each object has an order that explains every answer.
    Linearizable {
        /// The order of each, as places among the calls. A call of unknown outcome that is not in it never took effect.
        orders: BTreeMap<String, Vec<usize>>,
    },
    /// There is none, already for one object.
    Violation(Violation),
    /// It cannot be said. This is no pass.
    Unknown {
        /// Why not.
        why: String,
    },
}

/// An object whose operations have no order. Operations are places among the calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which, by [`Model::object`].
    pub object: String,
    /// The operation whose return no order gets past; none if it was not found within the limits.
    pub stuck: Option<usize>,
    /// The longest order that was found, up to there.
    pub order: Vec<usize>,
    /// Operations that have no order either, by their calls.
    pub shown: Vec<usize>,
    /// Whether they would have one without any of those that only look.
    pub is_smallest: bool,
}

impl Violation {
    /// What happened, for a reader who has not seen the history: an operation a line.
    pub fn text<M: Model>(&self, model: &M, calls: &[Call<M::Op, M::Ret>]) -> String {
        let name = if self.object.is_empty() { "the object" } else { &self.object };
        let mut text = format!("no order explains the operations on {name}; these alone have none:\n");
        for call in self.shown.iter().filter_map(|&index| calls.get(index)) {
            let _ = writeln!(text, "  {}", shown(model, call));
        }
        if let Some(stuck) = self.stuck.and_then(|stuck| calls.get(stuck)) {
            let explained = self.order.len();
            let _ = writeln!(text, "{explained} operations are explained, and this one fits nowhere after them:");
            let _ = writeln!(text, "  {}", shown(model, stuck));
        }
        text
    }
}

/// `process 3: Read -> 7, from 12 to 40`.
fn shown<M: Model>(model: &M, call: &Call<M::Op, M::Ret>) -> String {
    let said = model.show(&call.op, call.ret());
    match call.returned {
        Some((returned, _)) => format!("process {}: {said}, from {} to {returned}", call.process, call.called),
        None => format!("process {}: {said}, from {} on", call.process, call.called),
    }
}

/// Whether the calls on each object have an order that keeps what is certain and explains every answer. The first object
/// that has none, by its name, decides; a search past its limits makes the verdict [`Verdict::Unknown`] unless another
/// object is a violation.
pub fn linearizable<M: Model>(model: &M, calls: &[Call<M::Op, M::Ret>], limits: Limits) -> Verdict {
    let is_early = |call: &Call<_, _>| call.returned.as_ref().is_some_and(|&(returned, _)| returned < call.called);
    if let Some(early) = calls.iter().position(is_early) {
        return Verdict::Unknown { why: format!("call {early} returned before it was called") };
    }
    if calls.iter().all(|call| call.returned.is_none()) {
        return Verdict::Unknown { why: "nothing was checked: no call returned".to_owned() };
    }
    let mut by_object: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (index, call) in calls.iter().enumerate() {
        by_object.entry(model.object(&call.op)).or_default().push(index);
    }
    let (mut orders, mut unknown) = (BTreeMap::new(), None);
    for (name, indices) in by_object {
        match ObjectCalls::new(model, calls, indices).check(&name, limits) {
            Ok(order) => drop(orders.insert(name, order)),
            Err(Verdict::Unknown { why }) => unknown = unknown.or(Some(why)),
            Err(violation) => return violation,
        }
    }
    unknown.map_or(Verdict::Linearizable { orders }, |why| Verdict::Unknown { why })
}

/// The calls on one object.
struct ObjectCalls<'m, M: Model> {
    object: Modelled<'m, M>,
    indices: Vec<usize>,
    ops: Vec<TimedOperation<CallWithAnswer<'m, M>>>,
}

impl<'m, M: Model> ObjectCalls<'m, M> {
    fn new(model: &'m M, calls: &'m [Call<M::Op, M::Ret>], mut indices: Vec<usize>) -> Self {
        // What only looks and did not return tells nothing.
        indices.retain(|&index| calls[index].returned.is_some() || !model.only_looks(&calls[index].op, None));
        indices.sort_by_key(|&index| calls[index].called);
        let known = |&index: &usize| {
            let call = &calls[index];
            let (op, ret) = (&call.op, call.ret());
            let returned = call.returned.as_ref().map(|&(returned, _)| returned);
            (call.called, returned, CallWithAnswer { op, ret, only_looks: model.only_looks(op, ret) })
        };
        let (ops, moments) = timed(indices.iter().map(known));
        Self { object: Modelled { model, moments, states: RefCell::new(States::new(model.initial())) }, indices, ops }
    }

    /// The order, or the verdict if there is none.
    fn check(&self, name: &str, limits: Limits) -> Result<Vec<usize>, Verdict> {
        let by = match search(&self.object, &self.ops, limits).0 {
            SearchEnd::Linearizable(order) => return Ok(self.calls(&order)),
            SearchEnd::Violated { by } => by,
            SearchEnd::GaveUp { steps, bytes } => {
                let of = if name.is_empty() { String::new() } else { format!("{name}: ") };
                return Err(Verdict::Unknown { why: of + &gave_up(steps, bytes) });
            }
        };
        let found = evidence(&self.object, &self.ops, Hint { by, shown: None }, limits);
        Err(Verdict::Violation(Violation {
            object: name.to_owned(),
            stuck: found.stuck.map(|stuck| self.indices[stuck]),
            order: self.calls(&found.order),
            shown: self.calls(&found.shown),
            is_smallest: found.is_smallest,
        }))
    }

    fn calls(&self, ops: &[usize]) -> Vec<usize> {
        ops.iter().map(|&op| self.indices[op]).collect()
    }
}

/// A call, and what is known of its answer.
struct CallWithAnswer<'m, M: Model> {
    op: &'m M::Op,
    ret: Option<&'m M::Ret>,
    only_looks: bool,
}

// Not derived: that would ask the model to be `Copy`.
impl<M: Model> Clone for CallWithAnswer<'_, M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M: Model> Copy for CallWithAnswer<'_, M> {}

impl<M: Model> PartialEq for CallWithAnswer<'_, M> {
    fn eq(&self, other: &Self) -> bool {
        self.op == other.op && self.ret == other.ret
    }
}

impl<M: Model> EffectOnObject for CallWithAnswer<'_, M> {
    fn only_looks(&self) -> bool {
        self.only_looks
    }

    fn is_blind(&self) -> bool {
        false
    }

    fn wants_a_state(&self) -> bool {
        false
    }
}

/// One object by its model.
struct Modelled<'m, M: Model> {
    model: &'m M,
    /// The moment of each place in the order of events.
    moments: Vec<u64>,
    states: RefCell<States<M::State>>,
}

impl<M: Model> Modelled<'_, M> {
    /// A window in the unit of the history.
    fn when(&self, places: When) -> When {
        let moment = |place: u64| usize::try_from(place).ok().and_then(|place| self.moments.get(place)).copied();
        match (moment(places.earliest), moment(places.latest)) {
            (Some(earliest), Some(latest)) if M::LAPSES => When { earliest, latest },
            _ => When::EVER,
        }
    }
}

impl<'m, M: Model> Object for Modelled<'m, M> {
    type Act = CallWithAnswer<'m, M>;
    type State = u32;
    const WANTING_LOOKED_AT: usize = 0;
    const IS_TIMELESS: bool = !M::LAPSES;
    const IS_CERTAIN: bool = false;

    fn initial(&self) -> u32 {
        0
    }

    fn step(&self, state: u32, asked: &CallWithAnswer<'m, M>, when: When) -> Option<u32> {
        let when = self.when(when);
        let before = self.states.borrow().get(state);
        let mut after: Vec<_> =
            before.iter().flat_map(|state| self.model.step(state, asked.op, asked.ret, when)).collect();
        after.sort_unstable();
        after.dedup();
        if after == *before {
            return Some(state);
        }
        (!after.is_empty()).then(|| self.states.borrow_mut().number(after))
    }

    fn numbers(&self, state: u32) -> [u64; 2] {
        [u64::from(state), 0]
    }

    fn is_hopeless(
        &self,
        _: u32,
        _: &CallWithAnswer<'m, M>,
        _: impl Before<CallWithAnswer<'m, M>>,
        _: &mut u64,
    ) -> bool {
        false
    }

    fn may_show(&self, change: &CallWithAnswer<'m, M>, observer: &CallWithAnswer<'m, M>) -> bool {
        self.model.may_show((change.op, change.ret), (observer.op, observer.ret))
    }

    fn bytes(&self) -> usize {
        self.states.borrow().bytes
    }
}

/// Sets of states, each with its number.
struct States<S> {
    numbers: BTreeMap<Rc<[S]>, u32>,
    all: Vec<Rc<[S]>>,
    /// What they take, but for what a state holds elsewhere.
    bytes: usize,
}

impl<S: Ord> States<S> {
    /// What a set takes beside its states, about.
    const BYTES_EACH: usize = 64;

    fn new(initial: S) -> Self {
        let mut states = Self { numbers: BTreeMap::new(), all: Vec::new(), bytes: 0 };
        states.number(vec![initial]);
        states
    }

    fn number(&mut self, set: Vec<S>) -> u32 {
        if let Some(number) = self.numbers.get(set.as_slice()) {
            return *number;
        }
        self.bytes += Self::BYTES_EACH + size_of_val(set.as_slice());
        let number = u32::try_from(self.all.len()).expect("a limit of memory far below so many");
        let set: Rc<[S]> = set.into();
        self.all.push(Rc::clone(&set));
        self.numbers.insert(set, number);
        number
    }

    fn get(&self, number: u32) -> Rc<[S]> {
        Rc::clone(&self.all[number as usize])
    }
}

#[cfg(test)]
mod tests;
