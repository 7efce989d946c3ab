//! G12: a uid that is there throughout a `list` is listed, once; one that is absent throughout is not.
//!
//! There throughout, for certain: Redis had acknowledged an upsert before the list was called, every removal called
//! before the list returned lies below it, and Redis kept its data in between. Absent throughout: nobody had written
//! the uid, or, the other way round, a removal lies above every upsert. Only lists that Redis answered are held
//! to what it has; no list may name a uid twice, or one that nobody had written.
//!
//! And whatever the source, an instance lists what it wrote itself and still holds (R2): as a `get` of it shows it.
//!
//! A `clear` removes what it lists. One that says that it is complete is held to the same; any other only to what it names.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
};

use super::{
    Account, Excuse, Verdict,
    expiry::Knowledge,
    operation::{Operation, numbers},
    operations::Operations,
    order::certainly_below,
    record::RecordHistory,
};
use crate::history::{Answer, Placement, Source, Stop};

pub(super) fn check(run: &Operations<'_>, account: &mut Account) -> Verdict {
    let mut by_uid = BTreeMap::new();
    for record in &run.records {
        by_uid.insert((record.prefix, record.uid), record);
    }
    for list in &run.all {
        // None where it may have left out anything.
        let (source, uids) = match list.answer() {
            Some(Answer::Listed { source, uids }) => (Some(*source), uids),
            Some(Answer::Cleared { uids, complete, .. }) => (complete.then_some(Source::Merged), uids),
            _ => continue,
        };
        let mut listed = BTreeSet::new();
        account.count_many(None, uids.len() as u64);
        for uid in uids {
            let record = by_uid.get(&(list.prefix, uid.as_str()));
            let wrong = if listed.insert(uid.as_str()) {
                wrongly_listed(run, record.copied(), list, source == Some(Source::Shared))
            } else {
                Some((" a second time".to_owned(), None))
            };
            if let Some((why, by)) = wrong {
                let message = format!("{list} names {uid:?} under prefix {:?}{why}", list.prefix);
                let ops: Vec<_> = [list].into_iter().chain(by).collect();
                return Verdict::Violation { message, ops: numbers(&ops) };
            }
        }
        for record in run.records.iter().filter(|record| record.prefix == list.prefix && !listed.contains(record.uid)) {
            let taken = Cell::new(None);
            let Some(source) = source else {
                account.note("records that a clear left out and reported to be incomplete", 1);
                continue;
            };
            if let Some(upsert) = held_throughout(run, record, list, (source, &taken)) {
                let message = format!("{list} does not name {record}, which its instance held since {upsert}");
                return Verdict::Violation { message, ops: numbers(&[list, upsert]) };
            }
            let there = (source != Source::Local).then(|| there_throughout(run, record, list, &taken)).flatten();
            if let Some(upsert) = there {
                let message = format!("{list} does not name {record}, which was there throughout since {upsert}");
                return Verdict::Violation { message, ops: numbers(&[list, upsert]) };
            }
            account.count(taken.get());
        }
    }
    Verdict::Pass
}

fn there_throughout<'a>(
    run: &'a Operations<'_>,
    record: &RecordHistory<'_>,
    list: &Operation<'_>,
    taken: &Cell<Option<Excuse>>,
) -> Option<&'a Operation<'a>> {
    let removals = || record.removals.iter().map(|&op| &run.all[op]).filter(|op| op.called < list.returned());
    let mut upserts = record.upserts.iter().map(|&op| &run.all[op]);
    upserts.find(|upsert| {
        is_shared_before(upsert, list)
            && removals().all(|removal| certainly_below(run, removal, upsert).is_some())
            && !excused(taken, Excuse::LostData, run.lost_between(upsert.called, list.returned()))
            && !excused(taken, Excuse::Expiry, run.may_be_left_out(record, upsert, list))
    })
}

/// An upsert of the instance that was asked, which it still holds: it synced it, or kept a copy and did not
/// crash since.
fn held_throughout<'a>(
    run: &'a Operations<'_>,
    record: &RecordHistory<'_>,
    list: &Operation<'_>,
    (source, taken): (Source, &Cell<Option<Excuse>>),
) -> Option<&'a Operation<'a>> {
    if source == Source::Local && run.history.header.tuning.copies_bytes_max.is_some() {
        // Copies may have been forgotten, also of what was once written here.
        excused(taken, Excuse::Limit, true);
        return None;
    }
    let removals = || record.removals.iter().map(|&op| &run.all[op]).filter(|op| op.called < list.returned());
    let crashed = |upsert: &Operation<'_>| {
        let stops = run.stops.iter().filter(|(at, instance, _)| *instance == list.instance && *at > upsert.called);
        stops.into_iter().any(|(_, _, how)| *how != Stop::Closed)
    };
    let mut own = record.upserts.iter().map(|&op| &run.all[op]).filter(|op| op.instance == list.instance);
    own.find(|upsert| {
        let syncs_all = run.history.header.tuning.syncs_every_write;
        let is_local = upsert.acknowledged() == Some(Placement::Local);
        let data_gone = || source != Source::Local && run.lost_between(upsert.called, list.returned());
        let is_damaged = || run.excuses.is_damaged(list.instance, upsert.called, list.returned());
        upsert.acknowledged().is_some()
            && upsert.precedes(list)
            && removals().all(|removal| certainly_below(run, removal, upsert).is_some())
            && !excused(taken, Excuse::Damage, !run.must_stay(record, upsert) || is_damaged())
            && !excused(taken, Excuse::Crash, !is_local && !syncs_all && crashed(upsert))
            && !excused(taken, Excuse::Disk, !is_local && run.excuses.kept_no_copy(upsert))
            // A list that Redis answers shows what Redis has, and what it is known to lack.
            && !excused(taken, Excuse::LostData, data_gone())
            && !excused(taken, Excuse::Expiry, run.may_expire(record, Some(upsert), list, Knowledge::Instance))
    })
}

fn wrongly_listed<'a>(
    run: &'a Operations<'_>,
    record: Option<&RecordHistory<'_>>,
    list: &Operation<'_>,
    is_shared: bool,
) -> Option<(String, Option<&'a Operation<'a>>)> {
    let upserts = || record.into_iter().flat_map(|record| record.upserts.iter().chain(&record.imports));
    let upserts = || upserts().map(|&op| &run.all[op]);
    let before = || upserts().filter(|op| op.called < list.returned());
    if before().next().is_none() {
        return Some((", which nobody had written".to_owned(), None));
    }
    let mut removals = record.into_iter().flat_map(|record| &record.removals).map(|&op| &run.all[op]);
    let above = removals.find(|removal| {
        is_shared
            && in_redis_throughout(run, removal, list)
            && before().all(|upsert| certainly_below(run, upsert, removal).is_some())
    })?;
    Some((format!(", although {above} lies above every upsert of it"), Some(above)))
}

fn in_redis_throughout(run: &Operations<'_>, write: &Operation<'_>, list: &Operation<'_>) -> bool {
    is_shared_before(write, list) && !run.lost_between(write.called, list.returned())
}

fn is_shared_before(write: &Operation<'_>, list: &Operation<'_>) -> bool {
    write.acknowledged() == Some(Placement::Shared) && write.precedes(list)
}

/// Whether an excuse holds; remembers the last one that was taken.
fn excused(taken: &Cell<Option<Excuse>>, excuse: Excuse, holds: bool) -> bool {
    if holds {
        taken.set(Some(excuse));
    }
    holds
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        checker::{Guarantee::Listing, fixture::Story},
        history::{
            Call,
            Placement::{Local, Shared},
        },
    };

    #[test]
    fn an_instance_whose_estimate_is_ahead_may_leave_out_a_record_that_is_renewed_only_later() {
        for renewed_before in [false, true] {
            let mut story = Story::new(&["p", "p"]);
            story.expires_after_ms(10_000);
            story.redis_clock_steps(5_000);
            story.redis_clock_steps(-5_000);
            let write = story.upsert(1, "u", &["name"], Shared);
            story.now_us += 8_000_000;
            if renewed_before {
                story.upsert(1, "u", &["name"], Shared);
            }
            let clear = story.clear(0, &[]);
            story.upsert(1, "u", &["name"], Shared);
            story.now_us += 8_000_000;
            story.upsert(1, "u", &["name"], Shared);
            if renewed_before {
                story.violates(Listing, "does not name record \"u\"", &[write, clear]);
            } else {
                story.passes(Listing);
            }
        }
    }

    #[test]
    fn a_record_there_throughout_that_is_not_listed_is_a_violation() {
        let mut story = Story::new(&["p", "p"]);
        story.remove(1, "u", Shared);
        let write = story.upsert(0, "u", &["name"], Shared);
        let list = story.list(1, Source::Shared, &[]);
        story.violates(Listing, "does not name record \"u\"", &[write, list]);
    }

    #[test]
    fn a_record_that_may_be_gone_need_not_be_listed() {
        let mut story = Story::new(&["p", "p", "p"]);
        story.upsert(0, "pending", &[], Local);
        story.upsert(0, "lost", &[], Shared);
        story.loss();
        let removal = story.remove_begins(1, "removed late");
        story.info(removal);
        story.upsert(0, "removed late", &[], Shared);
        story.upsert(0, "removed during", &[], Shared);
        let list = story.begin(2, Call::List);
        story.upsert(0, "written during", &[], Shared);
        story.remove(1, "removed during", Shared);
        story.listed(list, Source::Shared, &[]);
        story.passes(Listing);
    }

    #[test]
    fn an_own_upsert_that_is_not_listed_is_a_violation_from_any_source() {
        for (placement, source) in [(Local, Source::Local), (Local, Source::Shared), (Shared, Source::Local)] {
            let mut story = Story::new(&["p", "p"]);
            let upsert = story.upsert(0, "u", &["name"], placement);
            let list = story.list(0, source, &[]);
            story.violates(Listing, "which its instance held since upsert", &[upsert, list]);
        }
    }

    #[test]
    fn an_own_upsert_may_be_missing_after_a_crash_a_loss_or_a_removal() {
        let mut story = Story::new(&["p", "p"]);
        story.upsert(0, "crashed", &["name"], Shared);
        story.stop(0, Stop::PowerLost);
        story.list(0, Source::Local, &[]);
        story.upsert(0, "lost", &["name"], Local);
        story.loss();
        story.list(0, Source::Shared, &[]);
        story.upsert(1, "removed", &["name"], Local);
        story.remove_begins(0, "removed");
        story.list(1, Source::Local, &[]);
        story.passes(Listing);
    }

    #[test]
    fn a_local_list_may_be_incomplete() {
        let mut story = Story::new(&["p", "p"]);
        story.upsert(0, "u", &["name"], Shared);
        story.list(1, Source::Local, &[]);
        story.list(1, Source::Shared, &["u"]);
        story.passes(Listing);
    }

    #[test]
    fn a_uid_listed_twice_is_a_violation_from_any_source() {
        let mut story = Story::new(&["p"]);
        story.upsert(0, "u", &["name"], Local);
        let list = story.list(0, Source::Local, &["u", "u"]);
        story.violates(Listing, "names \"u\" under prefix \"p\" a second time", &[list]);
    }

    #[test]
    fn a_uid_listed_before_anyone_wrote_it_is_a_violation() {
        let mut story = Story::new(&["p", "q"]);
        let refused = story.upsert_begins(0, "u", &["name"]);
        story.fail(refused, "refused: too long");
        story.upsert(1, "u", &["name"], Shared);
        let list = story.list(0, Source::Merged, &["u"]);
        story.upsert(0, "u", &["name"], Shared);
        story.violates(Listing, "which nobody had written", &[list]);
    }

    #[test]
    fn a_removed_uid_that_is_listed_is_a_violation() {
        let mut story = Story::new(&["p", "p"]);
        story.upsert(0, "u", &["name"], Shared);
        let removal = story.remove(1, "u", Shared);
        let list = story.list(0, Source::Shared, &["u"]);
        story.violates(Listing, "although remove 2 on instance 1", &[removal, list]);
    }

    #[test]
    fn a_removed_uid_that_may_have_come_back_may_be_listed() {
        let mut story = Story::new(&["p", "p"]);
        story.upsert(0, "u", &["name"], Local);
        story.remove(1, "u", Shared);
        story.list(0, Source::Shared, &["u"]);
        story.upsert(1, "v", &["name"], Shared);
        story.remove(1, "v", Shared);
        story.loss();
        story.list(0, Source::Shared, &["v"]);
        story.passes(Listing);
    }
}
