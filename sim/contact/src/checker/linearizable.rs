//! G2: what was answered `Shared` behaves as one copy of each record. Judged cell by cell, each as a register, and then
//! record by record, all cells at once.
//!
//! Both see definite operations (writes and reads answered `Shared`; a loss of the record in Redis, which writes
//! "absent" at its ordinal) and optional ones: writes answered `Local` or `Info`, or not at all, take effect once at
//! any later time or never, in a record perhaps only in some of their cells; and after each loss every write called
//! before it may take effect once more, since some instance may hold a copy, of each cell another one. A record whose life may
//! be over may be gone at any later time, and come back like that if its life goes on with a write of which Redis had not
//! heard. An import fills missing cells, if there are any: it may take effect like a write of unknown outcome. Answers `Merged` and
//! `Local` promise less and are not judged here, nor are values that G7 judges.

use std::collections::BTreeSet;

use super::{
    Account, Excuse, Verdict, evidence, operation::Seen, operations::Operations, part::RecordPart,
    record::RecordHistory, span::SearchOutcome,
};
use crate::history::Source;

pub(super) fn check(run: &Operations<'_>, account: &mut Account) -> Verdict {
    let mut verdict = Verdict::Pass;
    for record in &run.records {
        let cells = (0..record.cells.len()).map(|cell| vec![cell]);
        let all = (record.cells.len() > 1).then(|| (0..record.cells.len()).collect());
        let mut given_up = None;
        for cells in cells.chain(all) {
            let part = RecordPart { run, record, cells, until: u64::MAX, without: BTreeSet::new() };
            match part.judge() {
                SearchOutcome::Explained => {}
                SearchOutcome::Unexplained => return evidence::explain(part),
                SearchOutcome::TooHard => {
                    given_up = Some(Excuse::GivenUp);
                    let steps = part.steps_max();
                    let why = format!("the search was given up after {steps} steps: {}", part.name());
                    verdict = verdict.merge(Verdict::Unknown { why });
                }
            }
        }
        verdict = verdict.merge(reads(run, record, given_up, account));
    }
    verdict
}

/// Counts the reads of a record that was judged, unless the search was given up. Also checks that no read shows a life that was over
/// for all instances.
fn reads(run: &Operations<'_>, record: &RecordHistory<'_>, given_up: Option<Excuse>, account: &mut Account) -> Verdict {
    let mut verdict = Verdict::Pass;
    let expires = run.expirations(record).min().unwrap_or(u64::MAX);
    for read in record.reads.iter().map(|&op| &run.all[op]).filter(|op| op.source().is_some()) {
        if read.source() != Some(Source::Shared) {
            account.note("reads answered Merged or Local, which are not promised this", 1);
            continue;
        }
        verdict = verdict.merge(run.overdue(record, read).unwrap_or(Verdict::Pass));
        let stray = read.shown.contains(&Seen::Stray).then_some(Excuse::MissingTag);
        // A life that may be over excuses a read without a record. Once all lives are over, that answer is required, without an excuse.
        let may_be_over = read.record_read().is_none() && expires < read.returned() && !run.must_be_over(record, read);
        account.count(given_up.or(stray).or(may_be_over.then_some(Excuse::Expiry)));
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        checker::{Guarantee::Linearizable, fixture::Story},
        history::{
            Placement::{Local, Shared},
            Stop,
        },
    };

    #[test]
    fn a_stale_read_from_redis_is_a_violation() {
        let mut story = Story::new(&["p", "p"]);
        let old = story.upsert(0, "u", &["name"], Shared);
        let new = story.upsert(1, "u", &["name"], Shared);
        let read = story.get(0, "u", Source::Shared, &[("name", old)]);
        let said = "before the get, upsert 2 on instance 1 (events 2 to 3, Shared) had written something else";
        story.violates(Linearizable, said, &[old, new, read]);
    }

    #[test]
    fn a_read_older_than_one_before_it_is_a_violation() {
        let mut story = Story::new(&["p", "p", "p"]);
        let old = story.upsert(0, "u", &["name"], Shared);
        let new = story.upsert_begins(1, "u", &["name"]);
        let first = story.get(0, "u", Source::Shared, &[("name", new)]);
        let second = story.get(2, "u", Source::Shared, &[("name", old)]);
        story.get(0, "u", Source::Shared, &[("name", new)]);
        story.written(new, Shared);
        story.violates(
            Linearizable,
            "get 3 on instance 0 (events 3 to 4, Shared) had answered",
            &[old, new, first, second],
        );
    }

    #[test]
    fn a_lost_update_is_a_violation() {
        let mut story = Story::new(&["p", "p"]);
        let write = story.upsert(0, "u", &["name"], Shared);
        let read = story.get_none(1, "u", Source::Shared);
        story.violates(Linearizable, "answered that there is none; nobody wrote that", &[write, read]);
    }

    #[test]
    fn an_empty_record_that_does_not_appear_is_a_violation() {
        let mut story = Story::new(&["p", "p"]);
        let write = story.upsert(0, "u", &[], Shared);
        let read = story.get_none(1, "u", Source::Shared);
        story.violates(Linearizable, "record \"u\" under prefix \"p\": get 2", &[write, read]);
    }

    #[test]
    fn a_removed_value_that_comes_back_is_a_violation() {
        let mut story = Story::new(&["p", "p"]);
        let write = story.upsert(0, "u", &["name"], Shared);
        let clear = story.clear(1, &["u"]);
        let read = story.get(0, "u", Source::Shared, &[("name", write)]);
        story.violates(Linearizable, "had written something else", &[write, clear, read]);
    }

    #[test]
    fn a_field_that_was_removed_and_comes_back_is_a_violation() {
        let mut story = Story::new(&["p", "p"]);
        let write = story.upsert(0, "u", &["name", "@a"], Shared);
        let removal = story.upsert(1, "u", &["-name"], Shared);
        let read = story.get(0, "u", Source::Shared, &[("name", write), ("@a", write)]);
        story.violates(Linearizable, "had written something else", &[write, removal, read]);

        let mut story = Story::new(&["p", "p"]);
        let write = story.upsert(0, "u", &["name", "@a"], Shared);
        story.upsert(1, "u", &["-name"], Shared);
        story.get(0, "u", Source::Shared, &[("@a", write)]);
        story.passes(Linearizable);
    }

    #[test]
    fn a_field_that_a_local_upsert_removes_may_go_once() {
        let mut story = Story::new(&["p", "p"]);
        let write = story.upsert(0, "u", &["@a"], Shared);
        let removal = story.upsert(1, "u", &["-@a"], Local);
        story.get(0, "u", Source::Shared, &[("@a", write)]);
        story.get(0, "u", Source::Shared, &[]);
        story.passes(Linearizable);
        let again = story.upsert(0, "u", &["@a"], Shared);
        let read = story.get(0, "u", Source::Shared, &[]);
        story.violates(Linearizable, "no order of all operations", &[write, removal, read - 2, again, read]);
    }

    #[test]
    fn what_redis_had_acknowledged_does_not_come_back_where_losses_are_accepted() {
        let mut story = Story::new(&["p", "p"]);
        let kept = story.upsert(0, "u", &["@a"], Local);
        let write = story.upsert(0, "u", &["name"], Shared);
        story.loss();
        story.get(1, "u", Source::Shared, &[("@a", kept)]);
        let read = story.get(1, "u", Source::Shared, &[("@a", kept), ("name", write)]);
        story.passes(Linearizable);
        story.accepts_losses();
        story.violates(Linearizable, "no order of all operations", &[write, read]);
    }

    #[test]
    fn an_import_shows_once_it_was_called_and_not_before() {
        let mut story = Story::new(&["p", "p"]);
        story.get_none(1, "u", Source::Shared);
        let import = story.import(0, "u", &["name"], crate::history::Imported::Created);
        story.get(1, "u", Source::Shared, &[("name", import)]);
        story.passes(Linearizable);
        let removal = story.remove(1, "u", Shared);
        let read = story.get(1, "u", Source::Shared, &[("name", import)]);
        story.violates(Linearizable, "had written something else", &[import, import + 1, removal, read]);
    }

    #[test]
    fn an_unknown_write_that_takes_effect_twice_is_a_violation() {
        let mut story = Story::new(&["p", "p"]);
        let unknown = story.upsert_begins(0, "u", &["name"]);
        story.info(unknown);
        let first = story.get(1, "u", Source::Shared, &[("name", unknown)]);
        let other = story.upsert(1, "u", &["name"], Shared);
        let second = story.get(1, "u", Source::Shared, &[("name", unknown)]);
        story.violates(Linearizable, "no order of all operations", &[unknown, first, other, second]);
    }

    #[test]
    fn a_refused_write_that_is_read_is_a_violation() {
        let mut story = Story::new(&["p", "p"]);
        let refused = story.upsert_begins(0, "u", &["name"]);
        story.fail(refused, "refused: too large");
        let read = story.get(1, "u", Source::Shared, &[("name", refused)]);
        story.violates(Linearizable, "nobody wrote that", &[read]);
    }

    #[test]
    fn operations_that_overlap_may_be_in_either_order() {
        for seen in 0..2 {
            let mut story = Story::new(&["p", "p", "p"]);
            let both = [story.upsert_begins(0, "u", &["name"]), story.upsert_begins(1, "u", &["name"])];
            let early = story.get_begins(2, "u");
            story.written(both[0], Shared);
            story.written(both[1], Shared);
            story.got_none(early, Source::Shared);
            story.get(2, "u", Source::Shared, &[("name", both[seen])]);
            story.passes(Linearizable);
        }
    }

    #[test]
    fn local_and_unanswered_writes_may_take_effect_late_and_once() {
        let mut story = Story::new(&["p", "p"]);
        let local = story.upsert(0, "u", &["name"], Local);
        let dead = story.upsert_begins(0, "u", &["name"]);
        story.stop(0, Stop::Killed);
        let other = story.upsert(1, "u", &["name"], Shared);
        story.get(1, "u", Source::Shared, &[("name", other)]);
        story.get(1, "u", Source::Shared, &[("name", dead)]);
        story.get(1, "u", Source::Shared, &[("name", local)]);
        let removal = story.remove_begins(0, "u");
        story.get_none(1, "u", Source::Shared);
        story.info(removal);
        story.passes(Linearizable);
    }

    #[test]
    fn after_a_loss_everything_is_gone_and_what_was_there_may_come_back_once() {
        let mut story = Story::new(&["p", "p"]);
        let old = story.upsert(0, "u", &["name"], Shared);
        let new = story.upsert(1, "u", &["name"], Shared);
        story.loss();
        story.get_none(0, "u", Source::Shared);
        story.get(0, "u", Source::Shared, &[("name", old)]);
        story.get(0, "u", Source::Shared, &[("name", new)]);
        story.passes(Linearizable);
        let again = story.get(0, "u", Source::Shared, &[("name", old)]);
        story.violates(Linearizable, "no order of all operations", &[old, new, again - 2, again - 1, again]);
    }

    #[test]
    fn a_loss_that_nobody_notices_is_a_violation() {
        let mut story = Story::new(&["p", "p"]);
        let write = story.upsert(0, "u", &["name"], Shared);
        story.get(0, "u", Source::Shared, &[("name", write)]);
        story.get_none(0, "u", Source::Shared);
        let removed_by_the_loss = story.get_begins(0, "u");
        story.loss();
        story.got_none(removed_by_the_loss, Source::Shared);
        story.violates(Linearizable, "nobody wrote that", &[write, write + 2]);
    }

    #[test]
    fn local_answers_may_be_stale() {
        let mut story = Story::new(&["p", "p"]);
        let old = story.upsert(0, "u", &["name"], Shared);
        story.upsert(1, "u", &["name"], Shared);
        story.get(0, "u", Source::Local, &[("name", old)]);
        story.get(0, "u", Source::Merged, &[("name", old)]);
        story.passes(Linearizable);
    }

    #[test]
    fn cells_that_have_an_order_each_but_none_together_are_a_violation() {
        let mut story = Story::new(&["p", "p", "p"]);
        let noise = story.upsert(2, "u", &["city", "@x"], Shared);
        let one = story.upsert_begins(0, "u", &["name", "#source"]);
        let two = story.upsert_begins(1, "u", &["name", "#source"]);
        story.get_none(2, "v", Source::Shared);
        story.written(one, Shared);
        story.written(two, Shared);
        let torn = [("city", noise), ("@x", noise), ("name", one), ("#source", two)];
        let read = story.get(2, "u", Source::Shared, &torn);
        let said = "shows profile field \"name\" with the value with tag 2 beside metadata field \"source\"";
        story.violates(Linearizable, said, &[one, two, read]);
    }

    #[test]
    fn two_reads_that_saw_two_upserts_in_two_orders_are_a_violation() {
        let mut story = Story::new(&["p", "p", "p"]);
        let one = story.upsert_begins(0, "u", &["name"]);
        let two = story.upsert_begins(1, "u", &["@x"]);
        let reads = [story.get_begins(2, "u"), story.get_begins(2, "u")];
        story.got(reads[0], Source::Shared, &[("name", one)]);
        story.got(reads[1], Source::Shared, &[("@x", two)]);
        story.written(one, Shared);
        story.written(two, Shared);
        story.violates(Linearizable, "every event before 5", &[one, two, reads[0], reads[1]]);
    }

    #[test]
    fn an_optional_upsert_may_lose_in_some_of_its_cells() {
        let mut story = Story::new(&["p", "p"]);
        let local = story.upsert(0, "u", &["name", "@x"], Local);
        let removal = story.remove(0, "u", Local);
        let newer = story.upsert(1, "u", &["name"], Shared);
        story.get(1, "u", Source::Shared, &[("name", newer), ("@x", local)]);
        story.get(1, "u", Source::Shared, &[("name", newer)]);
        story.passes(Linearizable);
        let again = story.get(1, "u", Source::Shared, &[("name", newer), ("@x", local)]);
        story.violates(Linearizable, "no order of all operations", &[local, removal, again - 2, again - 1, again]);
    }

    #[test]
    fn after_a_loss_copies_may_come_back_cell_by_cell() {
        let mut story = Story::new(&["p", "p"]);
        let both = story.upsert(0, "u", &["name", "@x"], Shared);
        story.loss();
        story.get(0, "u", Source::Shared, &[("name", both)]);
        story.get(0, "u", Source::Shared, &[("name", both), ("@x", both)]);
        story.passes(Linearizable);
    }
}
