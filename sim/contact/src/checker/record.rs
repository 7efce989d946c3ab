//! One record of a history: who wrote, removed and read it, and where it was stored in the end.

use std::{collections::BTreeMap, fmt};

use super::{cells::RecordCell, stored::Stored};

/// One record under one prefix. Operations that answered `Fail` are in none of the lists.
pub(super) struct RecordHistory<'h> {
    pub(super) prefix: &'h str,
    pub(super) uid: &'h str,
    /// Some operation names it; if not, it is only stored.
    pub(super) is_asked_for: bool,
    /// [`RecordCell::Existence`] is the first.
    pub(super) cells: Vec<RecordCell<'h>>,
    pub(super) upserts: Vec<usize>,
    /// They lie below all other writes.
    pub(super) imports: Vec<usize>,
    /// Every `remove` and `clear` that removed it or may have.
    pub(super) removals: Vec<usize>,
    /// Every get that answered, in the order of the calls.
    pub(super) reads: Vec<usize>,
    /// Where it was stored in the end, Redis first.
    pub(super) stored: Vec<Stored<'h>>,
    /// What a damaged store still held of it.
    pub(super) spared: Vec<Stored<'h>>,
    /// The last one that showed it, while they are indexed.
    pub(super) read_last: Option<usize>,
    /// The upsert behind each cell and tag, here even those that answered `Fail`.
    pub(super) writers: BTreeMap<(usize, u64), usize>,
    /// The upserts that remove a cell, or may have.
    pub(super) removers: BTreeMap<usize, Vec<usize>>,
    pub(super) by_cell: BTreeMap<RecordCell<'h>, usize>,
}

impl RecordHistory<'_> {
    /// The name of a cell for a message.
    pub(super) fn name(&self, cell: usize) -> String {
        match self.cells[cell] {
            RecordCell::Existence => self.to_string(),
            cell => format!("{cell} of {self}"),
        }
    }
}

impl fmt::Display for RecordHistory<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "record {:?} under prefix {:?}", self.uid, self.prefix)
    }
}
