//! A part of what happened to a record, as G2 looks at it: some cells, up to a moment, perhaps without some operations.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    object::{CellValues, ObjectStep, RecordObject},
    operation::{EXISTENCE, Operation, Seen},
    operations::Operations,
    record::RecordHistory,
    span::{RegisterAct, RegisterHistory, RegisterSpan, SearchOutcome},
};
use crate::history::{Placement, Source};

/// Past this many steps a cell is unknown. Valid histories of hundreds of operations take a few steps an operation.
const CELL_STEPS_MAX: u32 = 500_000;

/// Past this many states a record is unknown. Each remembers every cell: this bounds the memory as well, to some hundreds of
/// MiB. Records take about as many states as they have operations.
const RECORD_STEPS_MAX: usize = 500_000;

/// A part of what happened to a record.
#[derive(Clone)]
pub(super) struct RecordPart<'a, 'h> {
    pub(super) run: &'a Operations<'h>,
    pub(super) record: &'a RecordHistory<'h>,
    /// Only these cells, ascending.
    pub(super) cells: Vec<usize>,
    /// As it was known at this ordinal: what had not returned by then is optional.
    pub(super) until: u64,
    /// Without the operations of these numbers.
    pub(super) without: BTreeSet<u64>,
}

impl<'a, 'h> RecordPart<'a, 'h> {
    pub(super) fn judge(&self) -> SearchOutcome {
        match self.cells[..] {
            [cell] => self.register(cell).judge(CELL_STEPS_MAX),
            _ => self.object().search(RECORD_STEPS_MAX),
        }
    }

    pub(super) fn steps_max(&self) -> usize {
        if self.cells.len() == 1 { CELL_STEPS_MAX as usize } else { RECORD_STEPS_MAX }
    }

    /// For a message.
    pub(super) fn name(&self) -> String {
        match self.cells[..] {
            [cell] => self.record.name(cell),
            _ => self.record.to_string(),
        }
    }

    fn register(&self, cell: usize) -> RegisterHistory {
        let mut definite = Vec::new();
        let mut optional: BTreeMap<Seen, Vec<u64>> = BTreeMap::new();
        for (value, op) in self.writes_to(cell) {
            let possible = optional.entry(value).or_default();
            possible.extend(self.losses().filter(|&loss| self.may_come_back(op, loss)));
            possible.extend(self.run.may_return_at(op).filter(|&expired| expired <= self.until));
            if self.is_definite(op) {
                definite.push(RegisterSpan {
                    called: op.called,
                    returned: op.returned(),
                    act: RegisterAct::Write(value),
                });
            } else {
                possible.push(op.called);
            }
        }
        let buried: Vec<u64> = self.burials().collect();
        if !buried.is_empty() {
            optional.entry(Seen::Absent).or_default().extend(buried);
        }
        for op in self.reads() {
            definite.push(RegisterSpan {
                called: op.called,
                returned: op.returned(),
                act: RegisterAct::Read(op.shown[cell]),
            });
        }
        definite.extend(self.losses().map(|at| RegisterSpan {
            called: at,
            returned: at,
            act: RegisterAct::Write(Seen::Absent),
        }));
        RegisterHistory::new(definite, optional)
    }

    fn object(&self) -> RecordObject<'h> {
        let count = self.cells.len();
        let mut steps: Vec<ObjectStep<'h>> = Vec::new();
        let mut optional = Vec::new();
        for (op, cells) in self.writes() {
            for loss in self.losses().filter(|&loss| self.may_come_back(op, loss)) {
                optional.extend(cells.iter().map(|&cell| (vec![cell], loss)));
            }
            if let Some(expired) = self.run.may_return_at(op).filter(|&expired| expired <= self.until) {
                optional.extend(cells.iter().map(|&cell| (vec![cell], expired)));
            }
            if self.is_definite(op) {
                let span = RegisterSpan { called: op.called, returned: op.returned(), act: RegisterAct::Write(()) };
                steps.push(ObjectStep { span, cells, stamp: op.stamp() });
            } else {
                optional.push((cells, op.called));
            }
        }
        for op in self.reads() {
            let cells = self.cells.iter().map(|&cell| op.shown[cell]).enumerate().collect();
            let span = RegisterSpan { called: op.called, returned: op.returned(), act: RegisterAct::Read(()) };
            steps.push(ObjectStep { span, cells, stamp: None });
        }
        let nothing: CellValues = (0..count).map(|cell| (cell, Seen::Absent)).collect();
        optional.extend(self.burials().map(|possible| (nothing.clone(), possible)));
        steps.extend(self.losses().map(|at| {
            let span = RegisterSpan { called: at, returned: at, act: RegisterAct::Write(()) };
            ObjectStep { span, cells: nothing.clone(), stamp: None }
        }));
        RecordObject::new(count, steps, optional)
    }

    /// The writes and removals of this part, with what they write; cells by their place in it.
    pub(super) fn writes(&self) -> Vec<(&'a Operation<'h>, CellValues)> {
        let mut writes = Vec::new();
        for &index in self.record.upserts.iter().chain(&self.record.imports) {
            let op = &self.run.all[index];
            let value = |&cell: &usize| match cell {
                EXISTENCE => Some(Seen::Present),
                cell if op.removes.contains(&cell) => Some(Seen::Absent),
                cell => op.writes.to(cell).next().map(|(_, write)| Seen::Tagged(write.tag)),
            };
            let written = self.cells.iter().enumerate().filter_map(|(place, cell)| Some((place, value(cell)?)));
            writes.push((op, written.collect::<CellValues>()));
        }
        for &index in &self.record.removals {
            writes.push((&self.run.all[index], (0..self.cells.len()).map(|place| (place, Seen::Absent)).collect()));
        }
        writes.retain(|(op, cells)| !cells.is_empty() && self.has(op) && op.called <= self.until);
        writes
    }

    /// The same for a register; it finds the writers of a cell without looking at all writes.
    fn writes_to(&self, cell: usize) -> impl Iterator<Item = (Seen, &'a Operation<'h>)> {
        let (run, record) = (self.run, self.record);
        let removals = run.removers(record, cell).map(|op| (Seen::Absent, op));
        let writes = run.writers(record, cell).chain(removals);
        writes.filter(|(_, op)| self.has(op) && op.called <= self.until)
    }

    /// The reads of this part that show nothing which only G7 can judge.
    pub(super) fn reads(&self) -> impl Iterator<Item = &'a Operation<'h>> {
        let reads = self.record.reads.iter().map(|&op| &self.run.all[op]);
        let reads = reads.filter(|op| op.source() == Some(Source::Shared) && op.returned() <= self.until);
        reads.filter(|op| self.has(op) && self.cells.iter().all(|&cell| op.shown[cell] != Seen::Stray))
    }

    fn losses(&self) -> impl Iterator<Item = u64> {
        self.run.losses_of(self.record).filter(|&loss| loss <= self.until)
    }

    /// Whether a write may take effect once more after a loss of Redis's data: since some instance has a copy. Where copies yield,
    /// those of writes that Redis had acknowledged do.
    fn may_come_back(&self, op: &Operation<'_>, loss: u64) -> bool {
        let yields = self.run.copies_yield && op.acknowledged() == Some(Placement::Shared) && op.returned() < loss;
        op.called < loss && !yields
    }

    /// From when on an expiry may bury the record, once each; a copy that comes back after a loss may bury it once more.
    fn burials(&self) -> impl Iterator<Item = u64> {
        let expirations = self.run.expirations(self.record).filter(|&possible| possible <= self.until);
        expirations
            .flat_map(|possible| std::iter::once(possible).chain(self.losses().map(move |loss| possible.max(loss))))
    }

    fn is_definite(&self, op: &Operation<'_>) -> bool {
        op.acknowledged() == Some(Placement::Shared) && op.returned() <= self.until
    }

    fn has(&self, op: &Operation<'_>) -> bool {
        !self.without.contains(&op.number)
    }
}
