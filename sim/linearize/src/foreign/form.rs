//! A foreign history as it is judged: operations on keys, what each did or may have done, and when.

use super::{
    ModelName,
    values::{Value, Values},
};
use crate::object::Effect;

/// A foreign history.
#[derive(Debug)]
pub struct Foreign {
    pub(super) model: ModelName,
    /// Operations that had or may have had an effect, and reads that returned.
    pub(super) operations: Vec<Operation>,
    /// Each as the history spells it; empty for operations without one.
    pub(super) keys: Vec<String>,
    pub(super) processes: Vec<String>,
    pub(super) values: Values,
    /// What every key holds at first.
    pub(super) initial: Value,
    /// When something restarted that may have lost data: moment and line.
    pub(super) losses: Vec<(i64, u64)>,
}

/// What an operation did, or may have done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Read(Value),
    Write(Value),
    Cas {
        from: Value,
        to: Value,
    },
    /// It found another value than `from`.
    CasFailed {
        from: Value,
    },
    Append(Value),
    Delete,
}

#[derive(Clone, Debug)]
pub(super) struct Operation {
    /// By its place among the processes.
    pub(super) process: u32,
    pub(super) key: u32,
    pub(super) act: Act,
    pub(super) called: i64,
    pub(super) returned: Option<i64>,
    /// Of the call and of the return; one line for an operation on one.
    pub(super) lines: (u64, Option<u64>),
}

impl Effect for Act {
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

impl Operation {
    /// Its answer tells of the state: without such operations every history has an order.
    pub(super) fn observes(&self) -> bool {
        self.returned.is_some() && (self.act.only_looks() || self.act.wants_a_state())
    }
}

impl Foreign {
    /// `process 3: write 7, lines 4 to 9`.
    pub(super) fn shown(&self, operation: &Operation) -> String {
        let value = |value| self.values.shown(value);
        let act = match operation.act {
            Act::Read(read) => format!("read -> {}", value(read)),
            Act::Write(written) => format!("write {}", value(written)),
            Act::Cas { from, to } => format!("cas {} to {}", value(from), value(to)),
            Act::CasFailed { from } => format!("cas from {} -> false", value(from)),
            Act::Append(more) => format!("append {}", value(more)),
            Act::Delete => "delete".to_owned(),
        };
        let lines = match operation.lines {
            (line, Some(end)) if line == end => format!("line {line}"),
            (line, Some(end)) => format!("lines {line} to {end}"),
            (line, None) => format!("line {line}, end unknown"),
        };
        format!("process {}: {act}, {lines}", self.processes[operation.process as usize])
    }
}
