//! What a call asked for, it was given, or it failed. Part of G2: a caller that asked for Redis's word goes by it.
//!
//! A call that asked for Redis's word and answered, answered `Shared`. A read that asked for a copy that Redis confirmed within
//! some time, and answered from its copy, shows in each cell what Redis can have confirmed by then. That is judged by the
//! instance's own wall clock, since the age goes by it. For each cell there are bounds on when Redis confirmed it last:
//!
//! - while the instance last asked about the record: later it cannot have heard of it;
//! - before a later write had taken effect in Redis: from then on it confirms that one.
//!
//! A write that the instance may not have merged yet needs no confirmation, so its cells are left out. Cells that the copy lacks are
//! left out too, and so is a record that Redis lost or whose time may be over. After any loss of data the first bound does not
//! hold: the marker of the generation may be lost too, and then an instance publishes all its copies again (R6).

use super::{
    Account, Excuse, Verdict,
    clocks::ROUNDING_MS,
    operation::{EXISTENCE, Operation, Seen, numbers},
    operations::Operations,
    order::certainly_below,
    record::RecordHistory,
};
use crate::history::{Answer, Call, Freshness, Placement, Source};

pub(super) fn check(run: &Operations<'_>, account: &mut Account) -> Verdict {
    for op in &run.all {
        if let Some(violation) = not_shared(op) {
            return violation;
        }
        let (Call::Get { freshness, .. } | Call::GetMany { freshness, .. }, Some(record)) = (op.call, op.record) else {
            continue;
        };
        let (Freshness::WithinMs(within_ms), Some(Source::Local)) = (*freshness, op.source()) else { continue };
        let copy = CopiedRead { run, record: &run.records[record], read: op, within_ms };
        match copy.judge() {
            Ok(None) => account.note("copies that had to be confirmed within some time", 1),
            Ok(Some(excuse)) => account.note(excused(excuse), 1),
            Err(violation) => return violation,
        }
    }
    Verdict::Pass
}

fn excused(excuse: Excuse) -> &'static str {
    match excuse {
        Excuse::Expiry => "copies whose age was not judged: a life may be over",
        Excuse::LostData => "copies of which only later writes were judged, not their age: Redis lost data",
        _ => "copies whose age was not judged: the store was damaged",
    }
}

/// An answer from elsewhere to a call that asked for Redis's word.
fn not_shared(op: &Operation<'_>) -> Option<Verdict> {
    let asked = match op.call {
        Call::Upsert { shared, .. } | Call::Remove { shared, .. } => *shared,
        Call::Get { freshness, .. } | Call::GetMany { freshness, .. } => *freshness == Freshness::Shared,
        Call::Import { .. } | Call::List | Call::Clear | Call::Sync => false,
    };
    let given = match op.answer()? {
        Answer::Written { placement, .. } => *placement == Placement::Shared,
        Answer::Read { source, .. } => *source == Source::Shared,
        _ => true,
    };
    (asked && !given).then(|| Verdict::Violation {
        message: format!("{op} asked for Redis's word, and was not given it"),
        ops: vec![op.number],
    })
}

/// A read that answered from a copy that had to be confirmed within some time.
struct CopiedRead<'a, 'h> {
    run: &'a Operations<'h>,
    record: &'a RecordHistory<'h>,
    read: &'a Operation<'h>,
    within_ms: u64,
}

impl<'a, 'h> CopiedRead<'a, 'h> {
    /// What excuses it, if anything had to.
    fn judge(&self) -> Result<Option<Excuse>, Verdict> {
        let (run, record, read) = (self.run, self.record, self.read);
        if run.expirations(record).next().is_some() {
            return Ok(Some(Excuse::Expiry));
        }
        if run.losses_of(record).any(|loss| loss < read.returned()) {
            return Ok(Some(Excuse::LostData));
        }
        if run.excuses.was_damaged(read.instance, read.returned()) {
            return Ok(Some(Excuse::Damage));
        }
        let is_told_again = run.losses.iter().any(|&loss| loss < read.returned());
        if !self.may_be_pending() && !is_told_again {
            let (heard_us, by) = self.heard();
            self.held_against(heard_us, by, || match by {
                Some(by) => format!("{record}: {read}, and {by} was the last to ask Redis about it"),
                None => format!("{record}: {read}, and its instance had never asked Redis about it"),
            })?;
        }
        for cell in EXISTENCE + 1..record.cells.len() {
            if let Some(above) = self.outdone(cell) {
                let acknowledged_us = above.end.map_or(0, |end| end.at_us);
                self.held_against(acknowledged_us, Some(above), || {
                    format!("{}: {read} shows what {above} had written over", record.name(cell))
                })?;
            }
        }
        Ok(is_told_again.then_some(Excuse::LostData))
    }

    /// Redis cannot have confirmed it after this time.
    fn held_against(
        &self,
        confirmed_us: u64,
        by: Option<&Operation<'h>>,
        said: impl FnOnce() -> String,
    ) -> Result<(), Verdict> {
        let read = self.read;
        let returned_us = read.end.map_or(read.called_at_us, |end| end.at_us);
        let aged_us = self.run.clocks.wall_goes_at_least(read.instance, confirmed_us, (read.called_at_us, returned_us));
        let within_us = i64::try_from(self.within_ms.saturating_mul(1_000)).unwrap_or(i64::MAX);
        if aged_us <= within_us.saturating_add(ROUNDING_MS * 1_000) {
            return Ok(());
        }
        let message = format!(
            "{}: that was at least {aged_us} us before by its clock, and {} ms were asked for",
            said(),
            self.within_ms
        );
        let ops: Vec<_> = by.into_iter().chain([read]).collect();
        Err(Verdict::Violation { message, ops: numbers(&ops) })
    }

    /// Whether its instance may hold a write of its own that Redis had not acknowledged: it needs no confirmation, and is
    /// confirmed whenever it is merged.
    fn may_be_pending(&self) -> bool {
        let writes = self.record.upserts.iter().chain(&self.record.removals).map(|&op| &self.run.all[op]);
        let mut own = writes.filter(|op| op.instance == self.read.instance && op.called < self.read.returned());
        own.any(|op| op.acknowledged() != Some(Placement::Shared) || matches!(op.call, Call::Clear))
    }

    /// Until when its instance may have heard of the record, and by which call. A read that answered from its copy had not.
    fn heard(&self) -> (u64, Option<&'a Operation<'h>>) {
        let (run, read) = (self.run, self.read);
        let about = |op: &&Operation<'h>| {
            let is_its = op.record.is_some_and(|index| std::ptr::eq(&raw const run.records[index], self.record));
            op.number != read.number
                && op.instance == read.instance
                && op.called < read.returned()
                && (is_its || matches!(op.call, Call::Clear))
                && op.source() != Some(Source::Local)
        };
        let until_us = |op: &Operation<'h>| op.end.map_or(read.called_at_us, |end| end.at_us.min(read.called_at_us));
        let last = run.all.iter().filter(about).max_by_key(|op| until_us(op));
        (last.map_or(0, until_us), last)
    }

    /// A write that Redis certainly had above what the read shows in a cell.
    fn outdone(&self, cell: usize) -> Option<&'a Operation<'h>> {
        let (run, record, read) = (self.run, self.record, self.read);
        let Seen::Tagged(tag) = read.shown[cell] else { return None };
        let shown = &run.all[*record.writers.get(&(cell, tag))?];
        // Its own may be pending still.
        if shown.instance == read.instance {
            return None;
        }
        let others = run.writers(record, cell).map(|(_, op)| op).chain(run.removers(record, cell));
        let above = others.filter(|op| op.acknowledged() == Some(Placement::Shared) && op.precedes(read));
        let above = above.filter(|op| certainly_below(run, shown, op).is_some());
        above.min_by_key(|op| op.returned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        checker::{Guarantee::Linearizable, fixture::Story},
        history::{RecordName, What},
    };

    fn within(ms: u64) -> Call {
        Call::Get { uid: "u".to_owned(), freshness: Freshness::WithinMs(ms) }
    }

    #[test]
    fn a_call_that_asked_for_redis_and_was_answered_from_elsewhere_is_a_violation() {
        let mut story = Story::new(&["p"]);
        let call = Call::Get { uid: "u".to_owned(), freshness: Freshness::Shared };
        let read = story.begin(0, call);
        story.got_none(read, Source::Merged);
        story.violates(Linearizable, "asked for Redis's word", &[read]);

        let mut story = Story::new(&["p"]);
        let removal = story.begin(0, Call::Remove { uid: "u".to_owned(), shared: true });
        story.written(removal, Placement::Local);
        story.violates(Linearizable, "asked for Redis's word", &[removal]);

        let mut story = Story::new(&["p"]);
        let removal = story.begin(0, Call::Remove { uid: "u".to_owned(), shared: true });
        story.written(removal, Placement::Shared);
        story.passes(Linearizable);
    }

    /// Another instance writes, this one reads it, and after so long asks for a copy that is at most a second old.
    fn copied(after_us: u64) -> (Story, [u64; 2]) {
        let mut story = Story::new(&["p", "p"]);
        let write = story.upsert(1, "u", &["name"], Placement::Shared);
        let heard = story.get(0, "u", Source::Shared, &[("name", write)]);
        story.now_us += after_us;
        let read = story.begin(0, within(1_000));
        story.got(read, Source::Local, &[("name", write)]);
        (story, [heard, read])
    }

    #[test]
    fn a_copy_that_nobody_asked_redis_about_within_the_time_is_a_violation() {
        let (story, ops) = copied(1_100_000);
        story.violates(Linearizable, "was the last to ask Redis about it", &ops);
        copied(900_000).0.passes(Linearizable);
    }

    #[test]
    fn a_copy_may_be_confirmed_in_the_background_after_redis_lost_other_data_and_not_once_it_was_written_over() {
        let loss =
            || What::RedisLostRecords { records: vec![RecordName { prefix: "p".to_owned(), uid: "v".to_owned() }] };
        let mut story = Story::new(&["p", "p"]);
        let old = story.upsert(1, "u", &["name"], Placement::Shared);
        story.get(0, "u", Source::Shared, &[("name", old)]);
        story.event(loss());
        story.now_us += 2_000_000;
        let read = story.begin(0, within(1_000));
        story.got(read, Source::Local, &[("name", old)]);
        story.passes(Linearizable);
        let new = story.upsert(1, "u", &["name"], Placement::Shared);
        story.now_us += 2_000_000;
        let late = story.begin(0, within(1_000));
        story.got(late, Source::Local, &[("name", old)]);
        story.violates(Linearizable, "had written over", &[new, late]);
    }

    #[test]
    fn a_copy_of_a_record_that_was_never_asked_for_is_a_violation() {
        let mut story = Story::new(&["p"]);
        story.now_us += 5_000_000;
        let read = story.begin(0, within(1_000));
        story.got_none(read, Source::Local);
        story.violates(Linearizable, "had never asked Redis about it", &[read]);
    }

    #[test]
    fn the_age_of_a_copy_goes_by_the_clock_of_its_instance() {
        let mut story = Story::new(&["p", "p"]);
        let write = story.upsert(1, "u", &["name"], Placement::Shared);
        story.get(0, "u", Source::Shared, &[("name", write)]);
        story.clock_steps(0, -60_000);
        story.now_us += 2_000_000;
        let read = story.begin(0, within(1_000));
        story.got(read, Source::Local, &[("name", write)]);
        story.passes(Linearizable);
    }

    #[test]
    fn what_the_instance_wrote_itself_and_did_not_merge_needs_no_confirmation() {
        let mut story = Story::new(&["p"]);
        let write = story.upsert(0, "u", &["name"], Placement::Local);
        story.now_us += 5_000_000;
        let read = story.begin(0, within(1_000));
        story.got(read, Source::Local, &[("name", write)]);
        story.passes(Linearizable);
    }

    #[test]
    fn a_copy_that_was_written_over_before_the_time_is_a_violation_whoever_asked_since() {
        let mut story = Story::new(&["p", "p"]);
        let old = story.upsert(1, "u", &["name"], Placement::Shared);
        story.get(0, "u", Source::Shared, &[("name", old)]);
        let new = story.upsert(1, "u", &["name"], Placement::Shared);
        story.now_us += 2_000_000;
        let unsure = story.get_begins(0, "u");
        story.info(unsure);
        let read = story.begin(0, within(1_000));
        story.got(read, Source::Local, &[("name", old)]);
        story.violates(Linearizable, "had written over", &[new, read]);
    }
}
