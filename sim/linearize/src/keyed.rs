//! Many objects of one kind in a history, told apart by a key.

use std::{fmt::Debug, marker::PhantomData};

use crate::{model::Model, when::When};

/// Objects of one model, one for each key: an operation is a key and what is asked of its object. Keys are told apart by
/// their debug form.
///
/// ```
/// use seedbed_linearize::{Call, Keyed, Limits, Register, RegisterOp::*, RegisterRet, Verdict, linearizable};
///
/// let model = Keyed::new(Register { initial: 0 });
/// let call = |op, called, returned, ret| Call { process: 1, op, called, returned: Some((returned, ret)) };
/// let calls = [
///     call(("x", Write(1)), 0, 10, RegisterRet::Written),
///     call(("y", Read), 20, 30, RegisterRet::Read(0)),
///     call(("x", Read), 40, 50, RegisterRet::Read(0)),
/// ];
/// let Verdict::Violation(violation) = linearizable(&model, &calls, Limits::default()) else { panic!("x is stale") };
/// assert_eq!((violation.object.as_str(), violation.shown), ("\"x\"", vec![0, 2]));
/// ```
#[derive(Clone, Debug)]
pub struct Keyed<K, M> {
    model: M,
    key: PhantomData<fn() -> K>,
}

impl<K, M> Keyed<K, M> {
    /// Objects of this model.
    pub fn new(model: M) -> Self {
        Self { model, key: PhantomData }
    }
}

impl<K: PartialEq + Debug, M: Model> Model for Keyed<K, M> {
    type Op = (K, M::Op);
    type Ret = M::Ret;
    type State = M::State;
    const LAPSES: bool = M::LAPSES;

    fn initial(&self) -> M::State {
        self.model.initial()
    }

    fn step(
        &self,
        state: &M::State,
        (_, op): &Self::Op,
        ret: Option<&M::Ret>,
        when: When,
    ) -> impl IntoIterator<Item = M::State> {
        self.model.step(state, op, ret, when)
    }

    /// The key, as its debug form has it, before what the model itself tells apart.
    fn object(&self, (key, op): &Self::Op) -> String {
        match self.model.object(op).as_str() {
            "" => format!("{key:?}"),
            object => format!("{key:?} {object:?}"),
        }
    }

    fn only_looks(&self, (_, op): &Self::Op, ret: Option<&M::Ret>) -> bool {
        self.model.only_looks(op, ret)
    }

    fn may_show(
        &self,
        ((_, change), done): (&Self::Op, Option<&M::Ret>),
        ((_, observer), answer): (&Self::Op, Option<&M::Ret>),
    ) -> bool {
        self.model.may_show((change, done), (observer, answer))
    }

    fn show(&self, (key, op): &Self::Op, ret: Option<&M::Ret>) -> String {
        format!("{key:?}: {}", self.model.show(op, ret))
    }
}
