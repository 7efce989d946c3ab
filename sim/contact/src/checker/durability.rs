//! G5: no acknowledged write is lost, and none ends up below what its author had seen before.
//!
//! The final read of each record is held against all acknowledged writes. A cell may be absent only if some removal may
//! lie above its acknowledged upserts; a value may stand only if no acknowledged write lies above it for certain; a
//! record may be there only if some upsert may lie above its acknowledged removals. A loss of Redis's data excuses
//! nothing: it only makes the order of Redis uncertain across it (see [`certainly_below`]), but where instances are set to
//! accept losses: then what was written before it may be gone. Damage to the store of an
//! instance excuses the local writes that Redis never had and the damage took, and no others: an upsert that can still be
//! read there has to stay. G10 demands that the instance says so. What may have expired may be absent. A subject with stamps is
//! held to them as well, see `kept`.

use super::{
    Account, Excuse, Verdict,
    expiry::{Knowledge, Standing},
    kept,
    operation::{EXISTENCE, Operation, Seen, numbers},
    operations::Operations,
    order::{above_what_may_come_back, certainly_below},
    record::RecordHistory,
};
use crate::history::{Answer, Call, Imported};

pub(super) fn check(run: &Operations<'_>, account: &mut Account) -> Verdict {
    let mut verdict = Verdict::Pass;
    for record in &run.records {
        verdict = verdict.merge(record_kept(run, record, account));
    }
    verdict = verdict.merge(kept::check(run, account));
    match (verdict, run.unquiet()) {
        // What an instance did not get rid of in time may be pending: late, which G4 reports, and not lost.
        (Verdict::Violation { message, .. }, Some(why)) => {
            Verdict::Unknown { why: format!("{why}: its writes may be pending, not lost ({message})") }
        }
        (verdict, _) => verdict,
    }
}

fn record_kept(run: &Operations<'_>, record: &RecordHistory<'_>, account: &mut Account) -> Verdict {
    let mut judged: Vec<&Operation<'_>> = Vec::new();
    for read in run.final_reads(record) {
        if judged.iter().any(|other| other.shown == read.shown) {
            continue;
        }
        for cell in 0..record.cells.len() {
            let found = match read.shown[cell] {
                Seen::Absent => wrongly_absent(run, record, cell, read),
                Seen::Tagged(_) => superseded(run, record, cell, read),
                Seen::Present => wrongly_present(run, record, read),
                Seen::Stray => None,
            };
            if let Some(violation) = found {
                return violation;
            }
        }
        judged.push(read);
    }
    if let Some(violation) = judged.iter().find_map(|read| lost_import(run, record, read)) {
        return violation;
    }
    let uncertain = above_what_may_come_back(run, record);
    if uncertain > 0 {
        account.note(
            "writes whose order with earlier ones is not certain: Redis had ended a life that may go on",
            uncertain,
        );
    }
    let is_crossed = kept::is_crossed(run, record);
    for write in record.upserts.iter().chain(&record.removals).map(|&op| &run.all[op]) {
        let is_upsert = matches!(write.call, Call::Upsert { .. });
        if write.acknowledged().is_some() && !(is_crossed && is_upsert && write.stamp().is_some()) {
            account.count(judged.last().map_or(Some(Excuse::NotTold), |read| excuse(run, record, write, read)));
        }
    }
    let acknowledged = |&op: &usize| run.must_stay(record, &run.all[op]);
    if judged.is_empty() && record.upserts.iter().chain(&record.removals).any(acknowledged) {
        return Verdict::Unknown { why: format!("{record} has acknowledged writes and no final read from Redis") };
    }
    Verdict::Pass
}

/// Why a write is not held against a read. That a life is over for certain is no excuse: then the write must not show.
fn excuse(
    run: &Operations<'_>,
    record: &RecordHistory<'_>,
    write: &Operation<'_>,
    read: &Operation<'_>,
) -> Option<Excuse> {
    let read_us = read.end.map_or(u64::MAX, |end| end.at_us);
    if run.is_given_up(record, write) {
        Some(Excuse::LostData)
    } else if run.must_stay(record, write) {
        matches!(run.standing(write, read_us), Standing::MayBeOver(_)).then_some(Excuse::Expiry)
    } else {
        Some(Excuse::Damage)
    }
}

/// The acknowledged upserts of a cell, found absent by a read, that no removal may lie above and that have not expired.
fn lost<'a, 'h>(
    run: &'a Operations<'h>,
    record: &'a RecordHistory<'h>,
    cell: usize,
    read: &'a Operation<'h>,
) -> impl Iterator<Item = &'a Operation<'h>> {
    let upserts = run.writers(record, cell).map(|(_, op)| op).filter(|op| op.acknowledged().is_some());
    upserts.filter(move |upsert| {
        let mut removals = run.removers(record, cell);
        removals.all(|removal| certainly_below(run, removal, upsert).is_some())
            && !run.may_expire(record, Some(upsert), read, Knowledge::Redis)
    })
}

/// Acknowledged writes that are lost and need not have stayed, since only a damaged store held them.
pub(super) fn excused<'a>(run: &'a Operations<'_>) -> Vec<&'a Operation<'a>> {
    let mut excused = Vec::new();
    for record in &run.records {
        for read in run.final_reads(record) {
            let absent = (0..record.cells.len()).filter(|&cell| read.shown[cell] == Seen::Absent);
            excused
                .extend(absent.flat_map(|cell| lost(run, record, cell, read)).filter(|op| !run.must_stay(record, op)));
        }
    }
    excused
}

/// An acknowledged upsert of a cell that is absent, with no removal that may lie above it.
fn wrongly_absent(
    run: &Operations<'_>,
    record: &RecordHistory<'_>,
    cell: usize,
    read: &Operation<'_>,
) -> Option<Verdict> {
    let below = |removal: &Operation<'_>, upsert: &Operation<'_>| certainly_below(run, removal, upsert);
    let lost = lost(run, record, cell, read).find(|upsert| run.must_stay(record, upsert))?;
    let removal = run.removers(record, cell).next_back();
    let removed = match removal {
        None => "nobody removed the record".to_owned(),
        Some(removal) => {
            let why = below(removal, lost).unwrap_or_default();
            format!("every removal lies below it: {removal} because {why}")
        }
    };
    let place = record.name(cell);
    let message = format!("{place}: final {read} shows none, although {lost} was acknowledged and {removed}");
    let ops: Vec<_> = [read, lost].into_iter().chain(removal).collect();
    Some(Verdict::Violation { message, ops: numbers(&ops) })
}

/// An import after which the record had all of it, or newer, and of which a cell is absent that nobody removed.
fn lost_import(run: &Operations<'_>, record: &RecordHistory<'_>, read: &Operation<'_>) -> Option<Verdict> {
    let is_taken = |op: &&Operation<'_>| {
        !run.is_given_up(record, op)
            && matches!(op.answer(), Some(Answer::Imported { became }) if *became != Imported::Removed)
            && op.precedes(read)
    };
    for import in record.imports.iter().map(|&op| &run.all[op]).filter(is_taken) {
        let mut cells = import.writes.iter().map(|write| write.cell).chain([EXISTENCE]);
        let lost = cells.find(|&cell| {
            read.shown[cell] == Seen::Absent
                && run.removers(record, cell).next().is_none()
                && !run.may_expire(record, None, read, Knowledge::Redis)
        });
        if let Some(cell) = lost {
            let place = record.name(cell);
            let message =
                format!("{place}: final {read} shows none, although {import} brought one and nobody removed it");
            return Some(Verdict::Violation { message, ops: numbers(&[import, read]) });
        }
    }
    None
}

/// A final value with an acknowledged write that certainly lies above it.
fn superseded(run: &Operations<'_>, record: &RecordHistory<'_>, cell: usize, read: &Operation<'_>) -> Option<Verdict> {
    let shown = read.shown[cell];
    let Seen::Tagged(tag) = shown else { return None };
    // A value that nobody wrote is for G1.
    let writer = &run.all[*record.writers.get(&(cell, tag))?];
    let others = run.writers(record, cell).map(|(_, op)| op).filter(|op| op.number != writer.number);
    let others = others.chain(run.removers(record, cell));
    // One of a life that was over covers nothing.
    let expired = |op: &Operation<'_>| {
        matches!(op.call, Call::Upsert { .. }) && run.may_expire(record, Some(op), read, Knowledge::Redis)
    };
    for above in others.filter(|op| run.must_stay(record, op) && !expired(op)) {
        let (why, by) = if let Some(why) = certainly_below(run, writer, above) {
            (why.to_owned(), None)
        } else if let Some(earlier) = seen_before(run, record, cell, shown, above) {
            (format!("its author had seen that value in {earlier}"), Some(earlier))
        } else {
            continue;
        };
        let place = record.name(cell);
        let message = format!("{place}: final {read} shows what {writer} wrote, but {above} lies above it: {why}");
        let ops: Vec<_> = [read, writer, above].into_iter().chain(by).collect();
        return Some(Verdict::Violation { message, ops: numbers(&ops) });
    }
    None
}

/// The first read in which the author of `later` saw a value before it wrote.
fn seen_before<'a, 'h>(
    run: &'a Operations<'h>,
    record: &'a RecordHistory<'h>,
    cell: usize,
    value: Seen,
    later: &Operation<'h>,
) -> Option<&'a Operation<'h>> {
    let reads = record.reads.iter().map(|&op| &run.all[op]).take_while(|read| read.called < later.called);
    let forgot = |read: &Operation<'h>| run.excuses.is_damaged(later.instance, read.called, later.returned());
    let mut own = reads.filter(|read| read.instance == later.instance && read.precedes(later) && !forgot(read));
    own.find(|read| read.shown[cell] == value)
}

/// An empty record that is there although an acknowledged removal certainly lies above every upsert that may have made
/// it. Where a record shows values, [`superseded`] says the same and names one.
fn wrongly_present(run: &Operations<'_>, record: &RecordHistory<'_>, read: &Operation<'_>) -> Option<Verdict> {
    if !read.values.is_empty() {
        return None;
    }
    let mut removal = None;
    for (_, upsert) in run.writers(record, EXISTENCE) {
        let removals = record.removals.iter().map(|&op| &run.all[op]).filter(|op| run.must_stay(record, op));
        removal = Some(removals.into_iter().find(|removal| certainly_below(run, upsert, removal).is_some())?);
    }
    let removal = removal?;
    let message = format!("{record}: final {read} shows one, although {removal} lies above every upsert of it");
    Some(Verdict::Violation { message, ops: numbers(&[read, removal]) })
}

#[cfg(test)]
mod tests {
    use crate::{
        checker::{Guarantee::Durability, fixture::Story},
        history::{
            Imported, Phase,
            Placement::{Local, Shared},
            Source, Stop,
        },
    };

    fn finally(story: &mut Story, fields: &[(&str, u64)]) -> u64 {
        story.phase(Phase::FinalReads);
        story.get(0, "u", Source::Shared, fields)
    }

    fn finally_none(story: &mut Story) -> u64 {
        story.phase(Phase::FinalReads);
        story.get_none(0, "u", Source::Shared)
    }

    #[test]
    fn a_lost_local_write_is_a_violation_even_after_a_crash_and_a_loss() {
        let mut story = Story::new(&["p"]);
        let kept = story.upsert(0, "u", &["@a"], Shared);
        let lost = story.upsert(0, "u", &["name"], Local);
        story.stop(0, Stop::PowerLost);
        story.loss();
        let read = finally(&mut story, &[("@a", kept)]);
        story.violates(Durability, "and nobody removed the record", &[lost, read]);
    }

    #[test]
    fn a_removal_of_a_field_that_is_lost_is_a_violation() {
        let mut story = Story::new(&["p"]);
        let write = story.upsert(0, "u", &["name"], Shared);
        let removal = story.upsert(0, "u", &["-name"], Local);
        let read = finally(&mut story, &[("name", write)]);
        story.violates(Durability, "lies above it", &[write, removal, read]);
    }

    #[test]
    fn a_field_that_an_upsert_removed_is_not_lost_and_another_is() {
        let mut story = Story::new(&["p", "p"]);
        let write = story.upsert(0, "u", &["name", "@a"], Local);
        story.upsert(1, "u", &["-name"], Local);
        finally(&mut story, &[("@a", write)]);
        story.passes(Durability);

        let mut story = Story::new(&["p", "p"]);
        let write = story.upsert(0, "u", &["name", "@a"], Local);
        story.upsert(1, "u", &["-name"], Local);
        let read = finally(&mut story, &[("name", write)]);
        story.violates(Durability, "and nobody removed the record", &[write, read]);
    }

    #[test]
    fn an_import_that_is_lost_is_a_violation() {
        let mut story = Story::new(&["p"]);
        let import = story.import(0, "u", &["name"], Imported::Created);
        let read = finally_none(&mut story);
        story.violates(Durability, "import 1 on instance 0 (events 0 to 1, Created) brought one", &[import, read]);

        let mut story = Story::new(&["p", "p"]);
        story.import(0, "u", &["name"], Imported::Created);
        story.remove(1, "u", Local);
        finally_none(&mut story);
        story.passes(Durability);
    }

    #[test]
    fn an_import_that_wins_over_another_write_is_a_violation() {
        for is_removal in [false, true] {
            let mut story = Story::new(&["p", "p"]);
            let write = if is_removal { story.remove(1, "u", Shared) } else { story.upsert(1, "u", &["name"], Shared) };
            let import = story.import(0, "u", &["name"], Imported::Joined);
            let read = finally(&mut story, &[("name", import)]);
            story.violates(Durability, "an import lies below every other write", &[write, import, read]);
        }
    }

    #[test]
    fn an_import_fills_what_is_missing() {
        let mut story = Story::new(&["p", "p"]);
        let write = story.upsert(1, "u", &["name"], Shared);
        let import = story.import(0, "u", &["name", "title"], Imported::Joined);
        let again = story.import(1, "v", &["title"], Imported::Created);
        assert!(again > import);
        finally(&mut story, &[("name", write), ("title", import)]);
        story.get(0, "v", Source::Shared, &[("title", again)]);
        story.passes(Durability);
    }

    #[test]
    fn an_empty_record_that_is_lost_is_a_violation() {
        let mut story = Story::new(&["p"]);
        let write = story.upsert(0, "u", &[], Local);
        let read = finally_none(&mut story);
        story.violates(Durability, "record \"u\" under prefix \"p\": final get 2", &[write, read]);
    }

    #[test]
    fn an_upsert_after_the_last_removal_must_stay() {
        let mut story = Story::new(&["p", "p"]);
        let removal = story.remove(0, "u", Shared);
        let write = story.upsert(1, "u", &["name"], Shared);
        let read = finally_none(&mut story);
        story.violates(Durability, "every removal lies below it: remove 1", &[removal, write, read]);
    }

    #[test]
    fn an_upsert_may_be_removed_by_whatever_is_not_certainly_below() {
        let mut story = Story::new(&["p", "p"]);
        story.remove(0, "u", Local);
        story.upsert(1, "u", &["name"], Shared);
        finally_none(&mut story);
        story.passes(Durability);

        let mut story = Story::new(&["p"]);
        let unsure = story.remove_begins(0, "u");
        story.info(unsure);
        story.upsert(0, "u", &["name"], Shared);
        finally_none(&mut story);
        story.passes(Durability);
    }

    #[test]
    fn after_a_loss_an_older_removal_may_come_back_with_a_larger_stamp() {
        let mut story = Story::new(&["p", "p"]);
        story.remove(0, "u", Shared);
        story.loss();
        story.upsert(1, "u", &["name"], Shared);
        finally_none(&mut story);
        story.passes(Durability);
    }

    #[test]
    fn a_clear_that_does_not_name_the_record_explains_nothing() {
        let mut story = Story::new(&["p"]);
        let write = story.upsert(0, "u", &["name"], Shared);
        story.clear(0, &["v"]);
        let read = finally_none(&mut story);
        story.violates(Durability, "nobody removed the record", &[write, read]);
    }

    #[test]
    fn a_value_below_one_that_its_own_instance_wrote_later_is_a_violation() {
        let mut story = Story::new(&["p"]);
        let first = story.upsert(0, "u", &["name"], Local);
        let second = story.upsert(0, "u", &["name"], Local);
        let read = finally(&mut story, &[("name", first)]);
        story.violates(Durability, "the same instance had acknowledged it before", &[first, second, read]);
    }

    #[test]
    fn a_value_below_one_whose_author_had_read_it_is_a_violation() {
        let mut story = Story::new(&["p", "p"]);
        let first = story.upsert_begins(0, "u", &["name"]);
        let seen = story.get(1, "u", Source::Local, &[("name", first)]);
        let second = story.upsert(1, "u", &["name"], Local);
        story.info(first);
        let read = finally(&mut story, &[("name", first)]);
        story.violates(Durability, "its author had seen that value in get 2", &[first, seen, second, read]);
    }

    #[test]
    fn a_value_below_one_that_redis_took_later_is_a_violation() {
        let mut story = Story::new(&["p", "p"]);
        let first = story.upsert(0, "u", &["name"], Shared);
        let removal = story.remove(1, "u", Shared);
        let read = finally(&mut story, &[("name", first)]);
        story.violates(Durability, "Redis had acknowledged it before", &[first, removal, read]);
    }

    #[test]
    fn a_smaller_stamp_on_top_is_a_violation() {
        let mut story = Story::new(&["p", "p"]);
        let first = story.upsert_begins(0, "u", &["name"]);
        let second = story.upsert_begins(1, "u", &["name"]);
        story.stamped(first, Local, "0a");
        story.stamped(second, Local, "0b");
        let read = finally(&mut story, &[("name", first)]);
        story.violates(Durability, "its stamp is smaller", &[first, second, read]);
    }

    #[test]
    fn the_winner_of_concurrent_local_writes_is_open() {
        for winner in 0..2 {
            let mut story = Story::new(&["p", "p"]);
            let both = [story.upsert(0, "u", &["name"], Local), story.upsert(1, "u", &["name"], Local)];
            finally(&mut story, &[("name", both[winner])]);
            story.passes(Durability);
        }
    }

    #[test]
    fn an_unknown_write_may_win_late() {
        let mut story = Story::new(&["p", "p"]);
        let unknown = story.upsert_begins(0, "u", &["name"]);
        story.stop(0, Stop::Killed);
        story.upsert(0, "u", &["name"], Shared);
        finally(&mut story, &[("name", unknown)]);
        story.passes(Durability);
    }

    #[test]
    fn an_empty_record_that_survives_its_removal_is_a_violation() {
        let mut story = Story::new(&["p", "p"]);
        story.upsert(0, "u", &[], Shared);
        let removal = story.remove(1, "u", Shared);
        let read = finally(&mut story, &[]);
        story.violates(Durability, "lies above every upsert", &[removal, read]);
    }

    #[test]
    fn without_a_final_read_nothing_is_known() {
        let mut story = Story::new(&["p"]);
        story.upsert(0, "u", &["name"], Shared);
        story.leaves_unknown(Durability, "no final read from Redis");
    }

    #[test]
    fn what_an_instance_without_rest_wrote_may_be_pending() {
        let mut story = Story::new(&["p"]);
        story.upsert(0, "u", &["name"], Local);
        story.unquiet(0);
        finally_none(&mut story);
        story.leaves_unknown(Durability, "may be pending, not lost");
    }
}
