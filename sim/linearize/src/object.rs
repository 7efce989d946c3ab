//! An object as the search sees it: small states, operations that can be compared, and what the search may take for
//! granted.

use crate::when::When;

/// What an operation did, or may have done.
pub(crate) trait EffectOnObject: Copy + PartialEq {
    /// It never changes anything.
    fn only_looks(&self) -> bool;

    /// It is legal in every state, and leads to the same one.
    fn is_blind(&self) -> bool;

    /// It is legal in one state alone.
    fn wants_a_state(&self) -> bool;
}

/// The sequential behaviour of one object.
pub(crate) trait Object {
    type Act: EffectOnObject;
    type State: Copy + Eq;
    /// How many operations a search that went astray looks at to see whether one of them is hopeless.
    const WANTING_LOOKED_AT: usize;
    /// Whether the order of operations decides what they answer, and never the moment.
    const IS_TIMELESS: bool;
    /// Whether a state is what the object holds, and not all that it may hold, of which an answer rules some out.
    const IS_CERTAIN: bool;

    fn initial(&self) -> Self::State;

    /// The state after an operation that took effect in this window; none if it could not have answered so in this state.
    fn step(&self, state: Self::State, act: &Self::Act, when: When) -> Option<Self::State>;

    /// The state as numbers; equal numbers are equal states.
    fn numbers(&self, state: Self::State) -> [u64; 2];

    /// Whether an operation can never come: `wanting` is legal in another state only, and none of the operations that
    /// may stand before it leads there. Of each of these `before` says whether it has to. A closer look takes of `steps`;
    /// without any left there is none.
    fn is_hopeless(
        &self,
        state: Self::State,
        wanting: &Self::Act,
        before: impl Before<Self::Act>,
        steps: &mut u64,
    ) -> bool;

    /// Whether `observer` may answer as it does because of `change`. If no operation may, the history without `change`
    /// has an order wherever the whole history has one.
    fn may_show(&self, change: &Self::Act, observer: &Self::Act) -> bool;

    /// The memory that it takes for its states.
    fn bytes(&self) -> usize {
        0
    }
}

/// Operations that may stand before another one, and whether they have to.
pub(crate) trait Before<A>: Iterator<Item = (A, bool)> + Clone {}

impl<A, I: Iterator<Item = (A, bool)> + Clone> Before<A> for I {}
