//! Is there an order of the operations on one object that explains every answer? The search of Wing and Gong with the
//! memory of Lowe, lazy as his just-in-time linearisation.
//!
//! An order keeps what is certain: an operation that returned before another was called stands before it. The *frontier*
//! is the first return among the operations that are not placed; whatever was called before it may be next. The
//! operation that returns there is tried first, then the others by their returns, then those of unknown outcome, which
//! stand in the order once or never. A configuration (what is placed, and the state) is entered once.
//!
//! Right after a write of unknown outcome comes nothing that overwrites it: then it could be left out.
//!
//! What only looks (a read that is legal now) is placed at once, without another try: in any order that has it later it
//! can be moved here, since it changes nothing. A configuration is left where the next operation that wants a certain
//! state cannot come to it any more.
//!
//! Of operations that do the same and may be next, the one that returns first is tried alone: an order that begins with
//! another of them stays one when the two change places. Dozens of equal appends at a time are one way then, and not as
//! many as there are subsets.
//!
//! Where the moment of an operation matters, it took effect after every call that stands before it in the order, and before
//! every return that is still to come. Both follow from what is placed, so the memory may forget how it came to be. But two
//! operations that change places change their moments too, and so does what stands between them: there nothing is
//! placed without another try, and of equal operations each is tried.
//!
//! Where a state is a set of what the object may hold, an operation that only looks is placed at once if it rules nothing
//! out, and tried like the others if it does.
//!
//! What is placed is noted relative to the first operation that is not, so that an entry of the memory is as long as
//! many operations run at a time, however long the history is.

use crate::{
    memo::Memo,
    object::{EffectOnObject, Object},
    when::When,
};

/// An operation on one object; one that has no return may have happened at any time after its call, or never. Moments
/// are unique.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TimedOperation<A> {
    pub(crate) called: u64,
    pub(crate) returned: Option<u64>,
    pub(crate) act: A,
}

/// How much may be spent on one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Steps of the search: operations that are tried next in some order.
    pub steps: u64,
    /// Memory for what the search has tried, in bytes.
    pub bytes: usize,
}

impl Default for Limits {
    /// A minute or so, and a gigabyte.
    fn default() -> Self {
        Self { steps: 100_000_000, bytes: 1 << 30 }
    }
}

/// What the search found. Operations are indices into those that it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SearchEnd {
    /// This order.
    Linearizable(Vec<usize>),
    /// What was called before this moment has none.
    Violated {
        by: u64,
    },
    GaveUp {
        steps: u64,
        bytes: usize,
    },
}

/// Searches for an order. Says how many steps that took as well.
pub(crate) fn search<O: Object>(object: &O, ops: &[TimedOperation<O::Act>], limits: Limits) -> (SearchEnd, u64) {
    let mut search = Search::new(object, ops);
    let found = match search.run(limits) {
        Some(true) => SearchEnd::Linearizable(search.trail.iter().map(|&placed| search.op(placed)).collect()),
        Some(false) => SearchEnd::Violated { by: search.furthest },
        None => SearchEnd::GaveUp { steps: search.steps, bytes: search.bytes() },
    };
    (found, search.steps)
}

/// The operations up to a moment: what had not returned by then has its effect or none, but the answer that it gave. With
/// their indices in the whole.
pub(crate) fn up_to<A: EffectOnObject>(moment: u64, ops: &[TimedOperation<A>]) -> (Vec<TimedOperation<A>>, Vec<usize>) {
    let called = ops.iter().enumerate().filter(|(_, op)| op.called < moment);
    let called =
        called.map(|(index, op)| (TimedOperation { returned: op.returned.filter(|&at| at <= moment), ..*op }, index));
    called.filter(|(op, _)| op.returned.is_some() || !op.act.only_looks()).unzip()
}

/// The ends of the list, before the first event and after the last. The call of definite operation n is node 2n + 1, its
/// return 2n + 2.
const HEAD: u32 = 0;
/// How far the search looks ahead for an operation that wants a certain state.
const LOOK_AHEAD: usize = 256;
/// How many steps a model may take at first to see whether an operation is hopeless.
const CLOSE_LOOK_STEPS: u64 = 2_000;
/// What each of these costs, in steps of the search.
const CLOSE_LOOK_COST: u64 = 8;

struct Search<'a, O: Object> {
    object: &'a O,
    ops: &'a [TimedOperation<O::Act>],
    /// The operations with a return, by call; what is placed is known by the place here.
    definite: Vec<u32>,
    returned: Vec<u64>,
    /// How many of each kind were called before the return.
    called_before: Vec<(u32, u32)>,
    /// Those without, by call; placed ones are numbered after the definite.
    optional: Vec<u32>,
    /// The events of what is not placed, in their order.
    next: Vec<u32>,
    previous: Vec<u32>,
    placed: Vec<u64>,
    placed_optional: Vec<u64>,
    state: O::State,
    trail: Vec<u32>,
    frames: Vec<SearchFrame<O::State>>,
    candidates: Vec<u32>,
    memo: Memo,
    key: Vec<u64>,
    steps: u64,
    /// The last call among what is placed, where moments matter.
    begun: u64,
    /// The latest moment that ended a try.
    furthest: u64,
}

/// A configuration with candidates left to try.
struct SearchFrame<S> {
    trail: usize,
    state: S,
    begun: u64,
    /// The first return among what is not placed.
    frontier: u64,
    candidates: usize,
    tried: usize,
}

impl<'a, O: Object> Search<'a, O> {
    fn new(object: &'a O, ops: &'a [TimedOperation<O::Act>]) -> Self {
        let mut by_call: Vec<_> = (0_u32..).zip(ops).map(|(index, _)| index).collect();
        by_call.sort_by_key(|&index| ops[index as usize].called);
        let is_definite = |index: &u32| ops[*index as usize].returned.is_some();
        let (definite, optional): (Vec<_>, Vec<_>) = by_call.into_iter().partition(is_definite);
        let returned: Vec<_> = definite.iter().filter_map(|&index| ops[index as usize].returned).collect();
        let before = |group: &[u32], moment: u64| {
            u32::try_from(group.partition_point(|&index| ops[index as usize].called < moment)).expect("an index")
        };
        let called_before = returned.iter().map(|&at| (before(&definite, at), before(&optional, at))).collect();
        let (next, previous) = linked(ops, &definite, &returned);
        let words = |count: usize| vec![0; count.div_ceil(64)];
        Self {
            object,
            ops,
            placed: words(definite.len()),
            placed_optional: words(optional.len()),
            definite,
            returned,
            called_before,
            optional,
            next,
            previous,
            state: object.initial(),
            trail: Vec::new(),
            frames: Vec::new(),
            candidates: Vec::new(),
            memo: Memo::new(),
            key: Vec::new(),
            steps: 0,
            begun: 0,
            furthest: 0,
        }
    }

    /// Whether there is an order, or none if the limits came first.
    fn run(&mut self, limits: Limits) -> Option<bool> {
        if self.enter(false) {
            return Some(true);
        }
        while let Some(frame) = self.frames.last_mut() {
            let (trail, state, begun, frontier) = (frame.trail, frame.state, frame.begun, frame.frontier);
            let candidate = self.candidates.get(frame.candidates + frame.tried).copied();
            frame.tried += 1;
            let Some(candidate) = candidate else {
                self.candidates.truncate(frame.candidates);
                self.frames.pop();
                if let Some(frame) = self.frames.last() {
                    let (trail, state) = (frame.trail, frame.state);
                    self.undo(trail, state);
                }
                continue;
            };
            self.steps += 1;
            if self.steps > limits.steps || self.bytes() > limits.bytes {
                return None;
            }
            // It comes after what is placed was called, and before the first return that is still to come.
            let when = When { earliest: begun.max(self.ops[self.op(candidate)].called), latest: frontier };
            let Some(next) = self.object.step(state, self.act(candidate), when) else { continue };
            let is_optional = candidate as usize >= self.definite.len();
            self.place(candidate);
            (self.state, self.begun) = (next, when.earliest);
            if self.enter(is_optional && self.act(candidate).is_blind()) {
                return Some(true);
            }
            if self.frames.last().is_some_and(|frame| frame.trail == trail) {
                self.undo(trail, state);
            }
        }
        Some(false)
    }

    /// Places what only looks, and makes a frame of a configuration that is new and has hope. True if all is placed.
    /// `must_show`: what was placed last was in vain if it is overwritten at once.
    fn enter(&mut self, must_show: bool) -> bool {
        let before = self.trail.len();
        self.place_observers();
        let must_show = must_show && self.trail.len() == before;
        let Some(first) = self.frontier() else { return true };
        let hopeless = self.hopeless();
        self.furthest = self.furthest.max(self.returned[hopeless.unwrap_or(first) as usize]);
        if hopeless.is_none() && self.is_new(first, must_show) {
            self.frames.push(SearchFrame {
                trail: self.trail.len(),
                state: self.state,
                begun: self.begun,
                frontier: self.returned[first as usize],
                candidates: self.candidates.len(),
                tried: 0,
            });
            self.gather(first, must_show);
        }
        false
    }

    fn place_observers(&mut self) {
        if !O::IS_TIMELESS {
            return;
        }
        let mut node = self.next[HEAD as usize];
        while node % 2 == 1 {
            let (number, mut next) = (node / 2, self.next[node as usize]);
            let act = self.act(number);
            if act.only_looks() && self.object.step(self.state, act, When::EVER) == Some(self.state) {
                if next == node + 1 {
                    next = self.next[next as usize];
                }
                self.place(number);
            }
            node = next;
        }
    }

    /// Whose return comes first among what is not placed.
    fn frontier(&self) -> Option<u32> {
        let mut node = self.next[HEAD as usize];
        while node % 2 == 1 {
            node = self.next[node as usize];
        }
        (node != HEAD).then(|| node / 2 - 1)
    }

    /// An operation that wants a certain state and can never have it, among the first few to return of those.
    fn hopeless(&mut self) -> Option<u32> {
        // The straight way needs no long look.
        let is_astray = self.steps > 100 + 2 * self.trail.len() as u64;
        let wanting_max = if is_astray { O::WANTING_LOOKED_AT } else { O::WANTING_LOOKED_AT.min(1) };
        let (mut node, mut looked, mut wanting) = (self.next[HEAD as usize], 0, 0);
        while node != HEAD && looked < LOOK_AHEAD && wanting < wanting_max {
            if node % 2 == 0 && self.act(node / 2 - 1).wants_a_state() {
                if self.is_hopeless(node / 2 - 1, is_astray) {
                    return Some(node / 2 - 1);
                }
                wanting += 1;
            }
            looked += 1;
            node = self.next[node as usize];
        }
        None
    }

    fn is_hopeless(&mut self, wanting: u32, is_astray: bool) -> bool {
        // The longer the search, the closer it looks: up to a quarter of what it has taken so far.
        let given = if is_astray { CLOSE_LOOK_STEPS.max(self.steps / (4 * CLOSE_LOOK_COST)) } else { 0 };
        let mut left = given;
        let is_hopeless = self.can_never_come(wanting, &mut left);
        self.steps += (given - left) * CLOSE_LOOK_COST;
        is_hopeless
    }

    fn can_never_come(&self, wanting: u32, steps: &mut u64) -> bool {
        let called = self.ops[self.op(wanting)].called;
        let nodes = std::iter::successors(Some(self.next[HEAD as usize]), |&node| Some(self.next[node as usize]));
        let calls = nodes.take_while(|&node| node != 2 * wanting + 2).filter(|node| node % 2 == 1);
        let definite = calls.map(|node| node / 2).filter(|&number| number != wanting);
        let optional = self.optional_before(wanting);
        // What returned before the call of the other one has to stand before it.
        let is_first = |number: u32| self.returned.get(number as usize).is_some_and(|&returned| returned < called);
        let before = definite.chain(optional).map(|number| (*self.act(number), is_first(number)));
        self.object.is_hopeless(self.state, self.act(wanting), before, steps)
    }

    /// What may have happened before the return of an operation, and is not placed.
    fn optional_before(&self, definite: u32) -> impl Iterator<Item = u32> + Clone {
        let called = self.called_before[definite as usize].1;
        let first = u32::try_from(self.definite.len()).expect("an index");
        let is_placed = |number: u32| self.placed_optional[number as usize / 64] >> (number % 64) & 1 == 1;
        (0..called).filter(move |&number| !is_placed(number)).map(move |number| first + number)
    }

    fn is_new(&mut self, first: u32, must_show: bool) -> bool {
        let (calls, optional) = self.called_before[first as usize];
        let base = (self.next[HEAD as usize] / 2) as usize / 64;
        let definite = &self.placed[base..(calls as usize).div_ceil(64)];
        let optional = &self.placed_optional[..(optional as usize).div_ceil(64)];
        let len = 2 + definite.len() + optional.len();
        self.key.clear();
        self.key.push((base as u64) << 33 | u64::from(must_show) << 32 | len as u64);
        self.key.extend(self.object.numbers(self.state));
        self.key.extend_from_slice(definite);
        self.key.extend_from_slice(optional);
        self.memo.insert(&self.key)
    }

    /// What may be next: the operation at the frontier, the others by their returns, then the optional; of those that do
    /// the same the first.
    fn gather(&mut self, first: u32, must_show: bool) {
        let start = self.candidates.len();
        let mut candidates = std::mem::take(&mut self.candidates);
        let mut node = self.next[HEAD as usize];
        while node % 2 == 1 {
            // What only looks would have been placed, were it legal.
            if !(O::IS_TIMELESS && O::IS_CERTAIN && self.act(node / 2).only_looks()) {
                candidates.push(node / 2);
            }
            node = self.next[node as usize];
        }
        candidates[start..].sort_unstable_by_key(|&number| self.returned[number as usize]);
        candidates.extend(self.optional_before(first));
        let mut kept = start;
        for place in start..candidates.len() {
            let act = self.act(candidates[place]);
            let is_vain = must_show && act.is_blind();
            let is_new = |other: &u32| !O::IS_TIMELESS || self.act(*other) != act;
            if !is_vain && candidates[start..kept].iter().all(is_new) {
                candidates[kept] = candidates[place];
                kept += 1;
            }
        }
        candidates.truncate(kept);
        self.candidates = candidates;
    }

    fn op(&self, number: u32) -> usize {
        let number = number as usize;
        let index = self.definite.get(number).unwrap_or_else(|| &self.optional[number - self.definite.len()]);
        *index as usize
    }

    fn act(&self, number: u32) -> &'a O::Act {
        &self.ops[self.op(number)].act
    }

    fn bytes(&self) -> usize {
        self.memo.bytes() + self.object.bytes()
    }

    fn place(&mut self, number: u32) {
        self.trail.push(number);
        if let Some(optional) = (number as usize).checked_sub(self.definite.len()) {
            self.placed_optional[optional / 64] |= 1 << (optional % 64);
            return;
        }
        self.placed[number as usize / 64] |= 1 << (number % 64);
        for node in [2 * number + 1, 2 * number + 2] {
            let (previous, next) = (self.previous[node as usize], self.next[node as usize]);
            self.next[previous as usize] = next;
            self.previous[next as usize] = previous;
        }
    }

    fn undo(&mut self, trail: usize, state: O::State) {
        self.state = state;
        while self.trail.len() > trail {
            let Some(number) = self.trail.pop() else { return };
            if let Some(optional) = (number as usize).checked_sub(self.definite.len()) {
                self.placed_optional[optional / 64] &= !(1 << (optional % 64));
                continue;
            }
            self.placed[number as usize / 64] &= !(1 << (number % 64));
            for node in [2 * number + 2, 2 * number + 1] {
                let (previous, next) = (self.previous[node as usize], self.next[node as usize]);
                self.next[previous as usize] = node;
                self.previous[next as usize] = node;
            }
        }
    }
}

/// The list of calls and returns in their order: next and previous of each node.
fn linked<A>(ops: &[TimedOperation<A>], definite: &[u32], returned: &[u64]) -> (Vec<u32>, Vec<u32>) {
    let calls = (0_u32..).zip(definite).map(|(number, &index)| (ops[index as usize].called, 2 * number + 1));
    let returns = (0_u32..).zip(returned).map(|(number, &moment)| (moment, 2 * number + 2));
    let mut nodes: Vec<_> = calls.chain(returns).collect();
    nodes.sort_unstable();
    let (mut next, mut previous) = (vec![HEAD; nodes.len() + 1], vec![HEAD; nodes.len() + 1]);
    let mut last = HEAD;
    for (_, node) in nodes {
        (next[last as usize], previous[node as usize]) = (node, last);
        last = node;
    }
    (next[last as usize], previous[HEAD as usize]) = (HEAD, last);
    (next, previous)
}
