//! A foreign history as it is judged: operations on keys, what each did or may have done, and when.

use super::{
    ModelName,
    values::{ValueId, Values},
};
use crate::object::EffectOnObject;

/// A foreign history.
#[derive(Debug)]
pub struct Foreign {
    pub(super) model: ModelName,
    /// Operations that had or may have had an effect, and reads that returned.
    pub(super) operations: Vec<ForeignOperation>,
    /// Each as the history spells it; empty for operations without one.
    pub(super) keys: Vec<String>,
    pub(super) processes: Vec<String>,
    pub(super) values: Values,
    /// What every key holds at first.
    pub(super) initial: ValueId,
    /// When something restarted that may have lost data: moment and line.
    pub(super) losses: Vec<(i64, u64)>,
}

/// What an operation did, or may have done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ForeignAct {
    Read(ValueId),
    Write(ValueId),
    Cas {
        from: ValueId,
        to: ValueId,
    },
    /// It found another value than `from`.
    CasFailed {
        from: ValueId,
    },
    Append(ValueId),
    Delete,
}

#[derive(Clone, Debug)]
pub(super) struct ForeignOperation {
    /// By its place among the processes.
    pub(super) process: u32,
    pub(super) key: u32,
    pub(super) act: ForeignAct,
    pub(super) called: i64,
    pub(super) returned: Option<i64>,
    /// Of the call and of the return; one line for an operation on one.
    pub(super) lines: (u64, Option<u64>),
}

impl EffectOnObject for ForeignAct {
    fn only_looks(&self) -> bool {
        matches!(self, Self::Read(_) | Self::CasFailed { .. })
    }

    fn is_blind(&self) -> bool {
        matches!(self, Self::Write(_) | Self::Delete)
    }

    fn wants_a_state(&self) -> bool {
        matches!(self, Self::Read(_) | Self::Cas { .. })
    }
}

impl ForeignOperation {
    /// Its answer tells of the state: without such operations every history has an order.
    pub(super) fn observes(&self) -> bool {
        self.returned.is_some() && (self.act.only_looks() || self.act.wants_a_state())
    }
}

impl Foreign {
    /// `process 3: write 7, lines 4 to 9`.
    pub(super) fn shown(&self, operation: &ForeignOperation) -> String {
        let value = |value| self.values.shown(value);
        let act = match operation.act {
            ForeignAct::Read(read) => format!("read -> {}", value(read)),
            ForeignAct::Write(written) => format!("write {}", value(written)),
            ForeignAct::Cas { from, to } => format!("cas {} to {}", value(from), value(to)),
            ForeignAct::CasFailed { from } => format!("cas from {} -> false", value(from)),
            ForeignAct::Append(more) => format!("append {}", value(more)),
            ForeignAct::Delete => "delete".to_owned(),
        };
        let lines = match operation.lines {
            (line, Some(end)) if line == end => format!("line {line}"),
            (line, Some(end)) => format!("lines {line} to {end}"),
            (line, None) => format!("line {line}, end unknown"),
        };
        format!("process {}: {act}, {lines}", self.processes[operation.process as usize])
    }
}
