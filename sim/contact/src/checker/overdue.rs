//! Lives that are over for all instances: no read of any tier shows them. A read that finds no record then is right and needs no excuse.

use super::{
    Verdict,
    operation::{EXISTENCE, Operation, numbers},
    operations::Operations,
    record::RecordHistory,
};
use crate::history::{Call, Source};

impl<'h> Operations<'h> {
    /// The violation of a read that shows a life that was over for all instances before the call.
    pub(super) fn overdue(&self, record: &RecordHistory<'h>, read: &Operation<'h>) -> Option<Verdict> {
        let end_us = read.end?.at_us;
        if self.expiry.lives.is_empty()
            || !matches!(read.call, Call::Get { .. } | Call::GetMany { .. })
            || read.record_read().is_none()
        {
            return None;
        }
        let now = self.reading_at_least(read, end_us);
        let shown = self.writers_of(record, &read.shown).find(|(_, writer)| self.is_over(writer, now));
        // The history does not tell which upsert a record without values rests on.
        let last = || self.upserts(record).filter(|upsert| upsert.called < read.returned()).last();
        let empty = || last().filter(|_| self.must_be_over(record, read)).map(|last| (EXISTENCE, last));
        let (cell, writer) = shown.or_else(empty)?;
        let place = record.name(cell);
        let message = format!("{place}: {read} shows what {writer} wrote, in a life that was over");
        Some(Verdict::Violation { message, ops: numbers(&[writer, read]) })
    }

    /// Whether a read has to find no record: every life of the record was over for all instances before the call.
    pub(super) fn must_be_over(&self, record: &RecordHistory<'h>, read: &Operation<'h>) -> bool {
        let mut imports = record.imports.iter().map(|&import| &self.all[import]);
        let is_imported = imports.any(|import| import.called < read.returned());
        let now = read.end.map(|end| self.reading_at_least(read, end.at_us));
        !self.expiry.lives.is_empty() && !is_imported && now.is_some_and(|now| self.all_over(record, read, now))
    }

    /// The lower bound of the reading that a read can have taken for Redis's clock.
    fn reading_at_least(&self, read: &Operation<'h>, end_us: u64) -> i64 {
        let clocks = &self.clocks;
        let estimated = clocks.estimated_for_a_read(read, end_us).least;
        if read.source() == Some(Source::Local) {
            return estimated;
        }
        estimated.min(clocks.redis(read.called_at_us, end_us).least)
    }

    fn all_over(&self, record: &RecordHistory<'h>, read: &Operation<'h>, now: i64) -> bool {
        self.upserts(record).filter(|upsert| upsert.called < read.returned()).all(|upsert| self.is_over(upsert, now))
    }

    fn is_over(&self, upsert: &Operation<'h>, now: i64) -> bool {
        self.expiry.lives.get(&upsert.number).is_some_and(|life| life.over < now)
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        checker::{Guarantee::Linearizable, fixture::Story, judge},
        history::{Placement::Shared, Source},
    };

    const TTL_US: u64 = 10_000_000;

    #[test]
    fn that_there_is_no_record_is_excused_while_its_life_may_be_over_and_judged_once_it_is() {
        for (after_us, excused) in [(TTL_US * 19 / 20, 1), (TTL_US * 11 / 10, 0)] {
            let mut story = expiring();
            story.upsert(0, "u", &["name"], Shared);
            story.now_us += after_us;
            story.get_none(0, "u", Source::Shared);
            story.passes(Linearizable);
            let account = judge(&story.told())[Linearizable as usize].account.clone();
            assert_eq!((account.judged, account.excused.values().sum::<u64>()), (1 - excused, excused), "{after_us}");
        }
        let mut story = expiring();
        let write = story.upsert(0, "u", &["name"], Shared);
        story.now_us += TTL_US * 11 / 10;
        let read = story.get(0, "u", Source::Shared, &[("name", write)]);
        story.violates(Linearizable, "in a life that was over", &[write, read]);
    }

    fn expiring() -> Story {
        let mut story = Story::new(&["p", "p"]);
        story.expires_after_ms(TTL_US / 1_000);
        story
    }
}
