//! Which acknowledged writes must stay, whatever faults came after them.

use super::{
    operation::{CellWrite, Operation, Seen},
    operations::Operations,
    record::RecordHistory,
    stored::{Place, Stored},
};
use crate::history::{Answer, Placement, Source};

impl<'h> Operations<'h> {
    /// Whether an acknowledged write must stay: not if Redis lost it and copies yield, nor if only a store held it that was damaged, and it
    /// itself there.
    pub(super) fn must_stay(&self, record: &RecordHistory<'h>, write: &Operation<'h>) -> bool {
        if self.is_given_up(record, write) {
            return false;
        }
        match (write.acknowledged(), self.excuses.damaged_after(write.instance, write.called)) {
            (None, _) => false,
            (Some(Placement::Local), Some(damaged)) => {
                self.was_merged(record, write, damaged) || self.was_spared(record, write)
            }
            (Some(_), _) => true,
        }
    }

    /// Whether Redis certainly had a local write: it showed it, or nothing was pending any more on its instance before
    /// the store there was damaged.
    fn was_merged(&self, record: &RecordHistory<'h>, write: &Operation<'h>, damaged: u64) -> bool {
        let shows = |read: &Operation<'h>| {
            let shown = |of: &CellWrite<'_>| read.shown.get(of.cell) == Some(&Seen::Tagged(of.tag));
            read.source() == Some(Source::Shared) && write.writes.iter().any(shown)
        };
        let drained = |op: &Operation<'h>| {
            let empty = matches!(op.answer(), Some(Answer::Synced { pending: 0 }));
            empty && op.instance == write.instance && write.precedes(op) && op.returned() < damaged
        };
        record.reads.iter().any(|&read| shows(&self.all[read])) || self.all.iter().any(drained)
    }

    /// Whether every damage to the store of a local upsert left it whole there.
    fn was_spared(&self, record: &RecordHistory<'h>, write: &Operation<'h>) -> bool {
        let shows = |stored: &Stored<'h>| write.writes.iter().any(|of| stored.shown[of.cell] == Seen::Tagged(of.tag));
        self.excuses.damages_after(write.instance, write.called).all(|(from, until)| {
            record.spared.iter().any(|stored| {
                stored.place == Place::Store(write.instance) && (from..until).contains(&stored.ordinal) && shows(stored)
            })
        })
    }
}
