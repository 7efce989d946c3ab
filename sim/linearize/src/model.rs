//! The behaviour of an object of one's own: what it may answer, in what state, and when.

use std::fmt::Debug;

use crate::when::When;

/// The sequential behaviour of an object: what it would answer if it did one operation at a time.
///
/// A stack whose `pop` answers `None` if there is nothing on it:
///
/// ```
/// use seedbed_linearize::{Call, Limits, Model, Verdict, When, linearizable};
///
/// #[derive(Debug, PartialEq)]
/// enum Op {
///     Push(u32),
///     Pop,
/// }
///
/// struct Stack;
///
/// impl Model for Stack {
///     type Op = Op;
///     type Ret = Option<u32>;
///     type State = Vec<u32>;
///
///     fn initial(&self) -> Vec<u32> {
///         Vec::new()
///     }
///
///     fn step(&self, stack: &Vec<u32>, op: &Op, ret: Option<&Option<u32>>, _: When) -> impl IntoIterator<Item = Vec<u32>> {
///         let mut stack = stack.clone();
///         let answer = match op {
///             Op::Push(value) => {
///                 stack.push(*value);
///                 None
///             }
///             Op::Pop => stack.pop(),
///         };
///         ret.is_none_or(|ret| *ret == answer).then_some(stack)
///     }
/// }
///
/// let call = |process, op, called, returned, ret| Call { process, op, called, returned: Some((returned, ret)) };
/// let pushed = [call(0, Op::Push(1), 0, 10, None), call(1, Op::Push(2), 5, 12, None)];
/// let popped = |value| call(0, Op::Pop, 20, 30, Some(value));
/// let [first, second] = pushed;
/// // The pushes overlap, so either of them may be on top.
/// let calls = [first, second, popped(1)];
/// assert!(matches!(linearizable(&Stack, &calls, Limits::default()), Verdict::Linearizable { .. }));
/// let [first, second, _] = calls;
/// let twice = [first, second, popped(1), Call { process: 1, ..popped(1) }];
/// assert!(matches!(linearizable(&Stack, &twice, Limits::default()), Verdict::Violation(_)));
/// ```
///
/// # Time
///
/// An operation takes effect at one moment between its call and its return. A model in which something lapses by itself
/// sets [`LAPSES`](Self::LAPSES), and is told with each step between which moments the operation took effect, in the order
/// that is tried: not before any call that stands before it in the order, and not after any return that is still to come.
/// It keeps such a window in its state, all of it, and allows what is possible *at some moment* of it. So no correct
/// history is ever called a violation. Windows are compared two by two, which is exact for two. A history may pass
/// although no choice of one moment for each operation explains it, if it takes three operations to see that.
///
/// A lock with a lease, which is free again when the lease is over:
///
/// ```
/// use seedbed_linearize::{Call, Limits, Model, Verdict, When, linearizable};
///
/// struct Lock {
///     lease: u64,
/// }
///
/// impl Model for Lock {
///     type Op = &'static str; // who asks for the lock
///     type Ret = bool; // whether it got it
///     type State = Option<When>; // when the lease ends
///     const LAPSES: bool = true;
///
///     fn initial(&self) -> Option<When> {
///         None
///     }
///
///     fn step(&self, ends: &Option<When>, _: &&str, ret: Option<&bool>, when: When) -> impl IntoIterator<Item = Option<When>> {
///         let may_be_free = ends.is_none_or(|ends| when.may_be_after(ends));
///         let may_be_held = ends.is_some_and(|ends| when.may_be_before(ends));
///         match ret {
///             // One of unknown outcome that got nothing is as good as one that never happened.
///             Some(true) | None => may_be_free.then_some(Some(when.later(self.lease))),
///             Some(false) => may_be_held.then_some(*ends),
///         }
///     }
/// }
///
/// let check = |called| {
///     let first = Call { process: 1, op: "ann", called: 0, returned: Some((5, true)) };
///     let second = Call { process: 2, op: "bob", called, returned: Some((called + 5, true)) };
///     linearizable(&Lock { lease: 100 }, &[first, second], Limits::default())
/// };
/// assert!(matches!(check(94), Verdict::Violation(_)), "until 99 ann has it, since she got it at 0 or later");
/// assert!(matches!(check(95), Verdict::Linearizable { .. }), "she may have got it at 0, so at 100 it may be free");
/// ```
pub trait Model {
    /// What is asked. Two that are equal ask for the same.
    type Op: PartialEq + Debug;
    /// What is answered.
    type Ret: PartialEq + Debug;
    /// What the object holds. Small, since the search keeps each state that it meets.
    type State: Clone + Ord;

    /// Whether an answer can depend on when an operation takes effect. The search is faster where none does.
    const LAPSES: bool = false;

    /// What it holds at first.
    fn initial(&self) -> Self::State;

    /// The state after an operation that answered `ret`; none if it could not have answered so. Several, if the answer
    /// leaves open what happened.
    ///
    /// Without a `ret` the outcome is unknown: the states that it may have led to if it took effect. What it did where it
    /// would have changed nothing may be left out, since it may also never have happened.
    ///
    /// `when` is [`When::EVER`] unless something [lapses](Self::LAPSES).
    fn step(
        &self,
        state: &Self::State,
        op: &Self::Op,
        ret: Option<&Self::Ret>,
        when: When,
    ) -> impl IntoIterator<Item = Self::State>;

    /// Which object an operation is on. Different ones know nothing of each other and are checked apart, which is what makes
    /// long histories cheap. All operations are on one object if this is not given.
    fn object(&self, _op: &Self::Op) -> String {
        String::new()
    }

    /// Whether an operation that answered so never changes the state. To say so of reads makes the search faster and
    /// violations smaller.
    fn only_looks(&self, _op: &Self::Op, _ret: Option<&Self::Ret>) -> bool {
        false
    }

    /// Whether `observer` may answer as it does because of `change`. Only where it cannot may a violation be shown
    /// without `change`: the history without it must have an order wherever the whole one has.
    fn may_show(&self, _change: (&Self::Op, Option<&Self::Ret>), _observer: (&Self::Op, Option<&Self::Ret>)) -> bool {
        true
    }

    /// An operation and its answer in messages.
    fn show(&self, op: &Self::Op, ret: Option<&Self::Ret>) -> String {
        match ret {
            Some(ret) => format!("{op:?} -> {ret:?}"),
            None => format!("{op:?}, outcome unknown"),
        }
    }
}

/// An operation of a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call<Op, Ret> {
    /// Who called it; for messages alone.
    pub process: u64,
    /// What was asked.
    pub op: Op,
    /// When, in a unit of the history's own: microseconds, or the place in its order of events. Operations that touch
    /// overlap.
    pub called: u64,
    /// When it returned, and with which answer. Without one it may have taken effect at any time after its call, or
    /// never. Leave out what certainly had no effect, and tells nothing of the state.
    pub returned: Option<(u64, Ret)>,
}

impl<Op, Ret> Call<Op, Ret> {
    /// Its answer, if there is one.
    pub fn ret(&self) -> Option<&Ret> {
        self.returned.as_ref().map(|(_, ret)| ret)
    }
}
