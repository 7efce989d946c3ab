//! Ready models: a register, and a register with compare-and-set.

use std::fmt::Debug;

use serde::{Deserialize, Serialize};

use crate::{model::Model, when::When};

/// A register that holds one value.
///
/// ```
/// use seedbed_linearize::{Call, Limits, Register, RegisterOp::*, RegisterRet, Verdict, linearizable};
///
/// let model = Register { initial: 0 };
/// let call = |op, called, returned, ret| Call { process: 1, op, called, returned: Some((returned, ret)) };
/// let stale = [
///     call(Write(1), 0, 10, RegisterRet::Written),
///     call(Write(2), 20, 30, RegisterRet::Written),
///     call(Read, 40, 50, RegisterRet::Read(1)),
/// ];
/// let Verdict::Violation(violation) = linearizable(&model, &stale, Limits::default()) else { panic!("it is stale") };
/// assert_eq!((violation.stuck, violation.order), (Some(2), vec![0, 1]));
///
/// // If the second write was given up, it may take effect after the read, or never.
/// let [first, second, read] = stale;
/// let late = [first, Call { returned: None, ..second }, read];
/// assert!(matches!(linearizable(&model, &late, Limits::default()), Verdict::Linearizable { .. }));
/// ```
#[derive(Clone, Debug)]
pub struct Register<V> {
    /// What it holds at first.
    pub initial: V,
}

/// What a [`Register`] is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RegisterOp<V> {
    /// What it holds.
    Read,
    /// To hold this.
    Write(V),
}

/// What a [`Register`] answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RegisterRet<V> {
    /// It holds this.
    Read(V),
    /// It has been written.
    Written,
}

impl<V: Clone + Ord + Debug> Model for Register<V> {
    type Op = RegisterOp<V>;
    type Ret = RegisterRet<V>;
    type State = V;

    fn initial(&self) -> V {
        self.initial.clone()
    }

    fn step(&self, held: &V, op: &RegisterOp<V>, ret: Option<&RegisterRet<V>>, _: When) -> impl IntoIterator<Item = V> {
        match (op, ret) {
            (RegisterOp::Read, None) => Some(held.clone()),
            (RegisterOp::Read, Some(RegisterRet::Read(read))) => (read == held).then(|| held.clone()),
            (RegisterOp::Write(value), None | Some(RegisterRet::Written)) => Some(value.clone()),
            (RegisterOp::Read, Some(RegisterRet::Written)) | (RegisterOp::Write(_), Some(RegisterRet::Read(_))) => None,
        }
    }

    fn only_looks(&self, op: &RegisterOp<V>, _: Option<&RegisterRet<V>>) -> bool {
        matches!(op, RegisterOp::Read)
    }

    fn may_show(
        &self,
        (change, _): (&RegisterOp<V>, Option<&RegisterRet<V>>),
        (_, answer): (&RegisterOp<V>, Option<&RegisterRet<V>>),
    ) -> bool {
        match (change, answer) {
            (RegisterOp::Write(value), Some(RegisterRet::Read(read))) => value == read,
            _ => false,
        }
    }
}

/// A register with compare-and-set, which writes if it finds the value that it asks for.
///
/// ```
/// use seedbed_linearize::{CasRegister, CasRegisterOp::*, CasRegisterRet, Call, Limits, Verdict, linearizable};
///
/// let model = CasRegister { initial: 0 };
/// let cas = |process, to| Call {
///     process,
///     op: Cas { from: 0, to },
///     called: 0,
///     returned: Some((10, CasRegisterRet::Swapped(true))),
/// };
/// let both = [cas(1, 7), cas(2, 8)];
/// let Verdict::Violation(violation) = linearizable(&model, &both, Limits::default()) else { panic!("both found 0") };
/// assert_eq!(violation.shown, [0, 1]);
/// ```
#[derive(Clone, Debug)]
pub struct CasRegister<V> {
    /// What it holds at first.
    pub initial: V,
}

/// What a [`CasRegister`] is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CasRegisterOp<V> {
    /// What it holds.
    Read,
    /// To hold this.
    Write(V),
    /// To hold `to` if it holds `from`.
    Cas {
        /// What it has to hold.
        from: V,
        /// What it holds then.
        to: V,
    },
}

/// What a [`CasRegister`] answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CasRegisterRet<V> {
    /// It holds this.
    Read(V),
    /// It has been written.
    Written,
    /// Whether it held what was asked for.
    Swapped(bool),
}

impl<V: Clone + Ord + Debug> Model for CasRegister<V> {
    type Op = CasRegisterOp<V>;
    type Ret = CasRegisterRet<V>;
    type State = V;

    fn initial(&self) -> V {
        self.initial.clone()
    }

    fn step(
        &self,
        held: &V,
        op: &CasRegisterOp<V>,
        ret: Option<&CasRegisterRet<V>>,
        _: When,
    ) -> impl IntoIterator<Item = V> {
        use CasRegisterOp::{Cas, Read, Write};
        use CasRegisterRet as Ret;
        match (op, ret) {
            (Read, None) => Some(held.clone()),
            (Read, Some(Ret::Read(read))) => (read == held).then(|| held.clone()),
            (Write(value), None | Some(Ret::Written)) => Some(value.clone()),
            (Cas { from, to }, None | Some(Ret::Swapped(true))) => (from == held).then(|| to.clone()),
            (Cas { from, .. }, Some(Ret::Swapped(false))) => (from != held).then(|| held.clone()),
            // An answer to another question.
            (Read, Some(Ret::Written | Ret::Swapped(_)))
            | (Write(_), Some(Ret::Read(_) | Ret::Swapped(_)))
            | (Cas { .. }, Some(Ret::Read(_) | Ret::Written)) => None,
        }
    }

    fn only_looks(&self, op: &CasRegisterOp<V>, ret: Option<&CasRegisterRet<V>>) -> bool {
        matches!(op, CasRegisterOp::Read) || ret == Some(&CasRegisterRet::Swapped(false))
    }

    fn may_show(
        &self,
        (change, _): (&CasRegisterOp<V>, Option<&CasRegisterRet<V>>),
        (observer, answer): (&CasRegisterOp<V>, Option<&CasRegisterRet<V>>),
    ) -> bool {
        let (CasRegisterOp::Write(made) | CasRegisterOp::Cas { to: made, .. }) = change else { return false };
        match (observer, answer) {
            (CasRegisterOp::Read, Some(CasRegisterRet::Read(read))) => read == made,
            // It saw any value but one, so it may have needed any change.
            (CasRegisterOp::Cas { .. }, Some(CasRegisterRet::Swapped(false))) => true,
            (CasRegisterOp::Cas { from, .. }, _) => from == made,
            _ => false,
        }
    }
}
