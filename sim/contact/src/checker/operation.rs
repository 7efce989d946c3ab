//! One operation of a history: its call, its return, what it writes, and what it showed.

use std::{collections::BTreeMap, fmt};

use serde_json::Value as Json;

use crate::history::{Answer, Call, Outcome, Placement, Source};

/// One operation.
pub(super) struct Operation<'h> {
    /// Its number in the history.
    pub(super) number: u64,
    pub(super) instance: u32,
    pub(super) prefix: &'h str,
    pub(super) call: &'h Call,
    pub(super) called: u64,
    pub(super) called_at_us: u64,
    /// None if it never returned.
    pub(super) end: Option<Return<'h>>,
    /// Its caller gave it up.
    pub(super) is_cancelled: bool,
    /// Called in the phase of final reads.
    pub(super) is_final: bool,
    /// The record that it is about; none for `list`, `clear` and `sync`. A read of many is one operation a record, all of them
    /// of one number, call and return.
    pub(super) record: Option<usize>,
    /// What an upsert writes, existence left out.
    pub(super) writes: CellWrites<'h>,
    /// The cells that an upsert removes.
    pub(super) removes: Vec<usize>,
    /// What a get that answered showed, by index of the cell.
    pub(super) shown: Vec<Seen>,
    /// The same, as it stood in the record: cell and value, contact points first and in their order.
    pub(super) values: Vec<(usize, &'h Json)>,
}

/// The return of an operation.
#[derive(Clone, Copy)]
pub(super) struct Return<'h> {
    pub(super) ordinal: u64,
    pub(super) at_us: u64,
    pub(super) outcome: &'h Outcome,
}

/// The cells that an upsert writes, in the order of its patch.
#[derive(Default)]
pub(super) struct CellWrites<'h> {
    all: Vec<CellWrite<'h>>,
    /// Cell and place of each, ascending: a patch may have hundreds of cells.
    by_cell: Vec<(usize, usize)>,
}

/// One cell of an upsert.
pub(super) struct CellWrite<'h> {
    pub(super) cell: usize,
    pub(super) tag: u64,
    pub(super) value: &'h Json,
}

/// What a read showed in one cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Seen {
    Absent,
    /// The record is there; which upsert made it so cannot be told.
    Present,
    /// The value of the write with this tag.
    Tagged(u64),
    /// A value without a tag, or with one of another record: only G7 can say something about it.
    Stray,
}

/// The index of [`RecordCell::Existence`](super::cells::RecordCell::Existence) in every record.
pub(super) const EXISTENCE: usize = 0;

impl<'h> CellWrites<'h> {
    pub(super) fn new(all: Vec<CellWrite<'h>>) -> Self {
        let mut by_cell: Vec<_> = all.iter().enumerate().map(|(place, write)| (write.cell, place)).collect();
        by_cell.sort_unstable();
        Self { all, by_cell }
    }

    /// The writes to a cell, with their places.
    pub(super) fn to(&self, cell: usize) -> impl Iterator<Item = (usize, &CellWrite<'h>)> {
        let begin = self.by_cell.partition_point(|&(of, _)| of < cell);
        let places = self.by_cell[begin..].iter().take_while(move |(of, _)| *of == cell);
        places.map(|&(_, place)| (place, &self.all[place]))
    }
}

impl<'h> std::ops::Deref for CellWrites<'h> {
    type Target = [CellWrite<'h>];

    fn deref(&self) -> &[CellWrite<'h>] {
        &self.all
    }
}

impl<'h> Operation<'h> {
    pub(super) fn outcome(&self) -> Option<&'h Outcome> {
        self.end.map(|end| end.outcome)
    }

    pub(super) fn answer(&self) -> Option<&'h Answer> {
        match self.outcome()? {
            Outcome::Ok { answer } => Some(answer),
            Outcome::Fail { .. } | Outcome::Info { .. } => None,
        }
    }

    /// The ordinal of its return, or the end of time.
    pub(super) fn returned(&self) -> u64 {
        self.end.map_or(u64::MAX, |end| end.ordinal)
    }

    /// Whether it returned before `later` was called: only then is their order certain.
    pub(super) fn precedes(&self, later: &Self) -> bool {
        self.returned() < later.called
    }

    pub(super) fn may_have_effect(&self) -> bool {
        !matches!(self.outcome(), Some(Outcome::Fail { .. }))
            && !matches!(self.call, Call::Import { preview: true, .. })
    }

    /// Where a write was acknowledged, if it was.
    pub(super) fn acknowledged(&self) -> Option<Placement> {
        match self.answer()? {
            Answer::Written { placement, .. } | Answer::Cleared { placement, .. } => Some(*placement),
            // It lies below all that is there, so what became of its values is another matter.
            Answer::Imported { .. }
            | Answer::Read { .. }
            | Answer::ReadMany { .. }
            | Answer::Listed { .. }
            | Answer::Synced { .. } => None,
        }
    }

    pub(super) fn stamp(&self) -> Option<&'h str> {
        match self.answer()? {
            Answer::Written { stamp, .. } => stamp.as_deref(),
            _ => None,
        }
    }

    /// Where a read was answered from, if it was.
    pub(super) fn source(&self) -> Option<Source> {
        match self.answer()? {
            Answer::Read { source, .. } => Some(*source),
            _ => None,
        }
    }

    /// The record that a get answered.
    pub(super) fn record_read(&self) -> Option<&'h Json> {
        match self.answer()? {
            Answer::Read { record, .. } => record.as_deref(),
            _ => None,
        }
    }

    /// A `clear` that answered removed what it names and nothing else; any other may have removed everything.
    pub(super) fn may_clear(&self, uid: &str) -> bool {
        match self.answer() {
            Some(Answer::Cleared { uids, .. }) => uids.iter().any(|cleared| cleared == uid),
            _ => true,
        }
    }

    fn verb(&self) -> &'static str {
        match self.call {
            Call::Upsert { .. } => "upsert",
            Call::Get { .. } => "get",
            Call::GetMany { .. } => "get of many",
            Call::Remove { .. } => "remove",
            Call::Import { .. } => "import",
            Call::List => "list",
            Call::Clear => "clear",
            Call::Sync => "sync",
        }
    }
}

impl fmt::Display for Operation<'_> {
    /// `upsert 17 on instance 0 (events 4 to 6, Shared)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} on instance {} ", self.verb(), self.number, self.instance)?;
        let Some(end) = self.end else { return write!(f, "(called at event {}, never returned)", self.called) };
        write!(f, "(events {} to {}, ", self.called, end.ordinal)?;
        match end.outcome {
            Outcome::Fail { .. } => f.write_str("Fail)"),
            Outcome::Info { .. } => f.write_str("Info)"),
            Outcome::Ok { answer } => match answer {
                Answer::Written { placement, .. } | Answer::Cleared { placement, .. } => write!(f, "{placement:?})"),
                Answer::Read { source, .. } | Answer::Listed { source, .. } => write!(f, "{source:?})"),
                Answer::Imported { became } => write!(f, "{became:?})"),
                Answer::Synced { .. } | Answer::ReadMany { .. } => f.write_str("Ok)"),
            },
        }
    }
}

/// The numbers of operations, for [`super::Verdict::Violation`]: in the order of their calls, each once.
pub(super) fn numbers(ops: &[&Operation<'_>]) -> Vec<u64> {
    let by_call: BTreeMap<u64, u64> = ops.iter().map(|op| (op.called, op.number)).collect();
    by_call.into_values().collect()
}
