//! G3: no one sees half of an upsert answered `Shared`.
//!
//! A read, from whatever tier, that shows one cell of an upsert must show in its other cells that upsert or something newer.
//! Older for certain is the value of a write that Redis had acknowledged before the upsert was called, and "absent"
//! if nobody can have removed the record or the cell; an upsert that removes a cell writes "absent" to it. Reads after a loss of Redis's data are not judged: copies come back cell by
//! cell. So does what had expired in Redis, if its life goes on with a write that came late.

use super::{
    Account, Excuse, Verdict,
    operation::{EXISTENCE, Operation, Seen, numbers},
    operations::Operations,
    record::RecordHistory,
};
use crate::history::Placement;

pub(super) fn check(run: &Operations<'_>, account: &mut Account) -> Verdict {
    let first_loss = run.losses.first().copied().unwrap_or(u64::MAX);
    for record in &run.records {
        let reads = record.reads.iter().map(|&op| &run.all[op]);
        for read in reads.filter(|op| op.source().is_some()) {
            if read.returned() >= first_loss {
                account.count(Some(Excuse::LostData));
                continue;
            }
            match torn(run, record, read) {
                Ok(excuse) => account.count(excuse),
                Err(violation) => return violation,
            }
        }
    }
    Verdict::Pass
}

/// What excuses older values beside newer ones, if a read shows some.
fn torn(run: &Operations<'_>, record: &RecordHistory<'_>, read: &Operation<'_>) -> Result<Option<Excuse>, Verdict> {
    let came_back = |older: &Operation<'_>| run.may_return_at(older).is_some_and(|expired| expired < read.returned());
    let removed = |cell: usize| run.removers(record, cell).any(|op| op.called < read.returned());
    // Usually many cells of a read are of one upsert, and it need be looked at once.
    let mut judged = Vec::new();
    let mut excuse = None;
    for (shown_cell, &seen) in read.shown.iter().enumerate().skip(EXISTENCE + 1) {
        let Some((index, upsert)) = shared_writer(run, record, shown_cell, seen) else { continue };
        if judged.contains(&index) {
            continue;
        }
        judged.push(index);
        for cell in upsert.writes.iter().map(|write| write.cell).chain(upsert.removes.iter().copied()) {
            let mut ops = vec![read, upsert];
            let older = match read.shown[cell] {
                Seen::Absent if !removed(cell) => "no value, although nobody removed the record".to_owned(),
                other => match shared_writer(run, record, cell, other) {
                    Some((_, older)) if older.precedes(upsert) && came_back(older) => {
                        excuse = Some(Excuse::Expiry);
                        continue;
                    }
                    Some((_, older)) if older.precedes(upsert) => {
                        ops.push(older);
                        format!("the older value of {older}")
                    }
                    _ => continue,
                },
            };
            let (shown, torn) = (record.name(shown_cell), record.cells[cell]);
            let message = format!("{shown}: {read} shows half of {upsert}: its value here, but in {torn} {older}");
            return Err(Verdict::Violation { message, ops: numbers(&ops) });
        }
    }
    Ok(excuse)
}

/// The upsert, acknowledged by Redis, that wrote what a cell shows.
fn shared_writer<'a, 'h>(
    run: &'a Operations<'h>,
    record: &RecordHistory<'h>,
    cell: usize,
    seen: Seen,
) -> Option<(usize, &'a Operation<'h>)> {
    let Seen::Tagged(tag) = seen else { return None };
    let index = *record.writers.get(&(cell, tag))?;
    let op = &run.all[index];
    (op.acknowledged() == Some(Placement::Shared)).then_some((index, op))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        checker::{Guarantee::Atomic, fixture::Story},
        history::Source,
    };

    #[test]
    fn half_of_an_upsert_over_an_older_one_is_a_violation() {
        let mut story = Story::new(&["p", "p"]);
        let old = story.upsert(0, "u", &["name", "@a"], Placement::Shared);
        let new = story.upsert_begins(1, "u", &["name", "@a"]);
        let read = story.get(0, "u", Source::Shared, &[("@a", old), ("name", new)]);
        story.written(new, Placement::Shared);
        story.violates(Atomic, "shows half of upsert 2 on instance 1", &[old, new, read]);
    }

    #[test]
    fn half_of_an_upsert_that_removes_a_field_is_a_violation() {
        let mut story = Story::new(&["p", "p"]);
        let old = story.upsert(0, "u", &["name"], Placement::Shared);
        let new = story.upsert_begins(1, "u", &["-name", "@a"]);
        let read = story.get(0, "u", Source::Shared, &[("@a", new), ("name", old)]);
        story.written(new, Placement::Shared);
        story.violates(Atomic, "shows half of upsert 2 on instance 1", &[old, new, read]);
    }

    #[test]
    fn a_field_that_another_upsert_removed_is_no_half() {
        let mut story = Story::new(&["p", "p"]);
        let both = story.upsert(0, "u", &["name", "@a"], Placement::Shared);
        story.upsert_begins(1, "u", &["-name"]);
        story.get(0, "u", Source::Shared, &[("@a", both)]);
        story.passes(Atomic);
    }

    #[test]
    fn half_of_an_upsert_over_nothing_is_a_violation() {
        let mut story = Story::new(&["p"]);
        let new = story.upsert(0, "u", &["name", "#source"], Placement::Shared);
        let read = story.get(0, "u", Source::Shared, &[("name", new)]);
        story.violates(Atomic, "no value, although nobody removed the record", &[new, read]);
    }

    #[test]
    fn half_of_an_upsert_in_a_copy_is_a_violation() {
        for source in [Source::Local, Source::Merged] {
            let mut story = Story::new(&["p", "p"]);
            let old = story.upsert(0, "u", &["name", "@a"], Placement::Shared);
            let new = story.upsert(1, "u", &["name", "@a"], Placement::Shared);
            let read = story.get(0, "u", source, &[("@a", old), ("name", new)]);
            story.violates(Atomic, "shows half of upsert 2 on instance 1", &[old, new, read]);
        }
    }

    #[test]
    fn a_mix_of_concurrent_upserts_is_legal() {
        let mut story = Story::new(&["p", "p"]);
        let one = story.upsert_begins(0, "u", &["name", "@a"]);
        let two = story.upsert_begins(1, "u", &["name", "@a"]);
        story.written(one, Placement::Shared);
        story.written(two, Placement::Local);
        story.get(0, "u", Source::Shared, &[("name", one), ("@a", two)]);
        story.passes(Atomic);
    }

    #[test]
    fn a_cell_overwritten_since_is_legal() {
        let mut story = Story::new(&["p", "p"]);
        let both = story.upsert(0, "u", &["name", "@a"], Placement::Shared);
        let later = story.upsert(1, "u", &["name"], Placement::Shared);
        story.get(0, "u", Source::Shared, &[("name", later), ("@a", both)]);
        story.passes(Atomic);
    }

    #[test]
    fn a_record_removed_and_half_written_again_is_legal() {
        let mut story = Story::new(&["p", "p"]);
        let both = story.upsert_begins(0, "u", &["name", "@a"]);
        story.remove_begins(1, "u");
        story.written(both, Placement::Shared);
        story.get(0, "u", Source::Shared, &[("name", both)]);
        story.passes(Atomic);
    }

    #[test]
    fn copies_that_come_back_after_a_loss_are_legal() {
        let mut story = Story::new(&["p", "p"]);
        let old = story.upsert(0, "u", &["name", "@a"], Placement::Shared);
        let new = story.upsert(1, "u", &["name", "@a"], Placement::Shared);
        story.loss();
        story.get(0, "u", Source::Shared, &[("name", new), ("@a", old)]);
        story.passes(Atomic);
    }

    #[test]
    fn an_older_value_may_come_back_with_a_late_write_that_prolongs_its_expired_life_and_not_without() {
        for prolonged in [false, true] {
            let mut story = Story::new(&["p", "p"]);
            story.expires_after_ms(10_000);
            let older = story.upsert(0, "u", &["name"], Placement::Shared);
            story.now_us += 5_000_000;
            if prolonged {
                story.upsert(1, "u", &["title"], Placement::Local);
            }
            story.now_us += 6_000_000;
            let newer = story.upsert(1, "u", &["name", "@a"], Placement::Shared);
            let read = story.get(0, "u", Source::Merged, &[("name", older), ("@a", newer)]);
            if prolonged {
                story.passes(Atomic);
            } else {
                story.violates(Atomic, "shows half of", &[older, newer, read]);
            }
        }
    }
}
