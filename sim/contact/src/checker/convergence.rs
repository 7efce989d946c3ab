//! G4: in the end all instances hold the same, and nothing is pending.
//!
//! Every instance reads every uid of its prefix in the phase of final reads. Each must answer from Redis alone, and all
//! the same, timestamps included, but that a record may expire between two of them, and that a copy whose life may go on
//! is told again. What was not read leaves the guarantee unknown. Where a history has the contents of Redis and of the local stores, Redis holds what was read, and every copy
//! in a store is equal to that, with nothing pending; a store that was damaged and not opened since may hold less.

use serde_json::Value as Json;

use super::{
    Account, Excuse, Verdict, deadlines,
    operation::{Operation, numbers},
    operations::Operations,
    record::RecordHistory,
    stored::{Place, Showing, Stored},
};
use crate::history::{Call, Outcome, Phase, Source, What};

pub(super) fn check(run: &Operations<'_>, account: &mut Account) -> Verdict {
    if let Some(message) = run.unquiet() {
        return Verdict::Violation { message, ops: Vec::new() };
    }
    let is_final = |what: &What| matches!(what, What::Phase { phase: Phase::FinalReads });
    if !run.history.events.iter().any(|event| is_final(&event.what)) {
        return Verdict::Unknown { why: "the history has no phase of final reads".to_owned() };
    }
    let mut finals = vec![Vec::new(); run.records.len()];
    for op in run.all.iter().filter(|op| op.is_final && matches!(op.call, Call::Get { .. })) {
        if let Some(record) = op.record {
            finals[record].push(op);
        }
    }
    if finals.iter().all(Vec::is_empty) {
        return Verdict::Unknown { why: "the history has no final reads".to_owned() };
    }
    // One that is stored and that nobody asked for is for G7.
    let each = run.records.iter().zip(&finals).filter(|(record, _)| record.is_asked_for);
    each.fold(Verdict::Pass, |verdict, (record, reads)| verdict.merge(record_converged(run, record, reads, account)))
}

fn record_converged(
    run: &Operations<'_>,
    record: &RecordHistory<'_>,
    reads: &[&Operation<'_>],
    account: &mut Account,
) -> Verdict {
    // Redis may forget a removal at any time, and end a life that goes on: the next reader tells it again.
    let told_again = |read: &Operation<'_>| {
        let forgets = run.history.header.tuning.tombstone_ttl_ms.is_some() && read.record_read().is_none();
        read.source() == Some(Source::Merged) && (forgets || run.may_live_on(read))
    };
    for read in reads {
        if read.source() != Some(Source::Shared) && !told_again(read) {
            let message = format!("{record}: final {read} did not answer from Redis alone{}", error(read));
            return Verdict::Violation { message, ops: vec![read.number] };
        }
    }
    if let Some(first) = reads.first() {
        account.count(told_again(first).then_some(Excuse::ToldAgain));
    }
    for (before, read) in reads.iter().zip(reads.iter().skip(1)) {
        let read_us = read.end.map_or(u64::MAX, |end| end.at_us);
        let expired = || read.record_read().is_none() && run.all_may_expire(record, &before.shown, read_us);
        let differs = read.record_read() != before.record_read();
        let is_told_again = told_again(read);
        if differs && !expired() && !(is_told_again && before.record_read().is_none()) {
            return Verdict::Violation { message: difference(record, before, read), ops: numbers(&[before, read]) };
        }
        account.count(if is_told_again { Some(Excuse::ToldAgain) } else { differs.then_some(Excuse::Expiry) });
    }
    if let Some(violation) = stored_otherwise(run, record, reads, account) {
        return violation;
    }
    let owners = (0_u32..).zip(&run.history.header.prefixes).filter(|(_, prefix)| *prefix == record.prefix);
    match owners.map(|(instance, _)| instance).find(|&instance| reads.iter().all(|read| read.instance != instance)) {
        Some(instance) => Verdict::Unknown { why: format!("instance {instance} never read {record} in the end") },
        None => Verdict::Pass,
    }
}

/// What is stored of a record, if that is not what the last read showed, or something of it is pending.
fn stored_otherwise(
    run: &Operations<'_>,
    record: &RecordHistory<'_>,
    reads: &[&Operation<'_>],
    account: &mut Account,
) -> Option<Verdict> {
    let (_, noted_us) = run.redis_noted?;
    let present = record.stored.iter().find(|stored| stored.place == Place::Redis);
    let in_redis = present.and_then(Stored::showing);
    let holds_other = |other: Option<&Showing<'_, '_>>, by_us| differ(run, record, (in_redis.as_ref(), other), by_us);
    // Where one of them is none, and that is no violation, both agree or the record may have expired in between.
    let expired = |other: Option<&Showing<'_, '_>>| (other.is_some() != in_redis.is_some()).then_some(Excuse::Expiry);
    let violation = |message, ops| Some(Verdict::Violation { message, ops });
    let in_redis_text = || text(in_redis.as_ref().map(|showing| showing.json));
    if let Some(read) = reads.last().filter(|read| holds_other(read.showing().as_ref(), noted_us)) {
        let (shows, holds) = (text(read.record_read()), in_redis_text());
        return violation(format!("{record}: final {read} shows {shows}, but Redis holds {holds}"), vec![read.number]);
    }
    if reads.last().is_some_and(|read| expired(read.showing().as_ref()).is_some()) {
        account.note("records that may have expired between the last read and a look into Redis", 1);
    }
    for stored in &record.stored {
        let Place::Store(instance) = stored.place else { continue };
        if run.excuses.is_damaged(instance, stored.ordinal, stored.ordinal) {
            account.count(Some(Excuse::Damage));
            continue;
        }
        if stored.record.pending {
            return violation(format!("{record}: {stored} still holds a write for Redis"), Vec::new());
        }
        // A store is noted later than Redis, and what has expired in between is none there.
        if holds_other(stored.showing().as_ref(), stored.at_us) {
            let (holds, other) = (text(stored.json()), in_redis_text());
            return violation(format!("{record}: {stored} holds {holds}, but Redis holds {other}"), Vec::new());
        }
        if let Some(message) = present.and_then(|present| deadlines::told_otherwise(stored, present)) {
            return violation(format!("{record}: {message}"), Vec::new());
        }
        account.count(expired(stored.showing().as_ref()));
    }
    None
}

/// Whether two places differ that were looked at one after the other, and not by an expiry in between, up to this time.
fn differ(
    run: &Operations<'_>,
    record: &RecordHistory<'_>,
    places: (Option<&Showing<'_, '_>>, Option<&Showing<'_, '_>>),
    by_us: u64,
) -> bool {
    match places {
        (None, None) => false,
        (Some(one), Some(other)) => one.json != other.json,
        (Some(one), None) | (None, Some(one)) => !run.all_may_expire(record, one.shown, by_us),
    }
}

fn error(read: &Operation<'_>) -> String {
    match read.outcome() {
        Some(Outcome::Fail { error } | Outcome::Info { error }) => format!(": {error}"),
        Some(Outcome::Ok { .. }) | None => String::new(),
    }
}

fn difference(record: &RecordHistory<'_>, one: &Operation<'_>, other: &Operation<'_>) -> String {
    let cell = (0..record.cells.len()).find(|&cell| one.shown[cell] != other.shown[cell]);
    let place = cell.map_or_else(|| record.to_string(), |cell| record.name(cell));
    let (shows, other_shows) = (text(one.record_read()), text(other.record_read()));
    format!("{place}: the final reads differ: {one} shows {shows}, {other} shows {other_shows}")
}

fn text(record: Option<&Json>) -> String {
    record.map_or_else(|| "no record".to_owned(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        checker::{
            Guarantee::Convergence,
            fixture::{Story, record, stored},
        },
        faults::Fault,
        history::{Placement, Stop, StoredRecord},
    };

    fn told() -> (Story, u64) {
        let mut story = Story::new(&["p", "p", "q"]);
        let write = story.upsert(0, "u", &["name"], Placement::Local);
        story.phase(Phase::FinalReads);
        story.get(0, "u", Source::Shared, &[("name", write)]);
        (story, write)
    }

    #[test]
    fn equal_answers_of_all_instances_of_the_prefix_pass() {
        let (mut story, write) = told();
        story.get(1, "u", Source::Shared, &[("name", write)]);
        story.get_none(2, "v", Source::Shared);
        story.passes(Convergence);
    }

    /// Read to the end, and what is stored: in Redis, and by instance 1.
    fn stored_in_the_end(in_redis: &[StoredRecord], in_store: &[StoredRecord]) -> Story {
        let (mut story, write) = told();
        story.get(1, "u", Source::Shared, &[("name", write)]);
        story.get_none(2, "v", Source::Shared);
        story.redis_holds(in_redis);
        story.store_holds(1, in_store);
        story
    }

    #[test]
    fn redis_and_the_stores_hold_what_was_read() {
        let right = stored("p", "u", &[("name", 1)]);
        let stale = stored("p", "u", &[("name", 9)]);
        let none = StoredRecord { shows: None, ..right.clone() };
        let pending = StoredRecord { pending: true, ..right.clone() };
        let [right, stale, none, pending] = [right, stale, none, pending].map(|record| [record]);

        stored_in_the_end(&right, &right).passes(Convergence);
        stored_in_the_end(&right, &[]).passes(Convergence);
        stored_in_the_end(&stale, &right).violates(Convergence, "but Redis holds {", &[3]);
        stored_in_the_end(&[], &[]).violates(Convergence, "but Redis holds no record", &[3]);
        let store =
            |holds: &str| format!("record \"u\" under prefix \"p\": the store of instance 1 (event 10) {holds}");
        let violates = |held: &[StoredRecord], said: &str| {
            stored_in_the_end(&right, held).violates(Convergence, &store(said), &[]);
        };
        violates(&stale, "holds {");
        violates(&none, "holds no record, but Redis holds {");
        violates(&pending, "still holds a write for Redis");
    }

    #[test]
    fn a_stored_record_that_nobody_asked_for_is_not_judged() {
        let right = stored("p", "u", &[("name", 1)]);
        stored_in_the_end(&[right, stored("p", "x", &[("name", 1)])], &[]).passes(Convergence);
    }

    #[test]
    fn a_record_may_expire_between_the_contents_of_redis_and_those_of_a_store() {
        for expires in [false, true] {
            let right = stored("p", "u", &[("name", 1)]);
            let mut story = stored_in_the_end(std::slice::from_ref(&right), &[]);
            if expires {
                story.expires_after_ms(10_000);
            }
            story.now_us += 10_000_000;
            story.store_holds(0, &[StoredRecord { shows: None, ..right }]);
            if expires {
                story.passes(Convergence);
            } else {
                story.violates(Convergence, "holds no record, but Redis holds {", &[]);
            }
        }
    }

    #[test]
    fn a_damaged_store_that_was_not_opened_since_may_hold_less() {
        let right = [stored("p", "u", &[("name", 1)])];
        for opened in [false, true] {
            let (mut story, write) = told();
            let fault = Fault::BitRot { instance: 1, running: true };
            story.event(What::FaultBegin { fault: 0, what: fault, at: None });
            story.event(What::FaultEnd { fault: 0, effects: 1 });
            if opened {
                story.stop(1, Stop::Killed);
            }
            story.get(1, "u", Source::Shared, &[("name", write)]);
            story.get_none(2, "v", Source::Shared);
            story.redis_holds(&right);
            story.store_holds(1, &[StoredRecord { shows: None, ..right[0].clone() }]);
            if opened {
                story.violates(Convergence, "holds no record, but Redis holds", &[]);
            } else {
                story.passes(Convergence);
            }
        }
    }

    #[test]
    fn a_different_value_is_a_violation() {
        let (mut story, _) = told();
        story.get_none(1, "u", Source::Shared);
        story.violates(Convergence, "the final reads differ", &[2, 3]);
    }

    #[test]
    fn a_different_timestamp_is_a_violation() {
        let (mut story, write) = told();
        let mut other = record("p", "u", &[("name", write)]);
        other["last_updated_at"] = "2026-02-01T08:30:00.001Z".into();
        let read = story.get_begins(1, "u");
        story.got_record(read, Source::Shared, other);
        story.violates(Convergence, "08:30:00.001Z", &[2, 3]);
    }

    #[test]
    fn an_answer_that_still_needs_local_data_is_a_violation() {
        let (mut story, write) = told();
        let read = story.get(1, "u", Source::Merged, &[("name", write)]);
        story.violates(Convergence, "did not answer from Redis alone", &[read]);
    }

    #[test]
    fn a_removal_that_redis_has_forgotten_may_be_told_again_where_it_forgets_soon() {
        for forgets in [false, true] {
            let mut story = Story::new(&["p"]);
            if forgets {
                story.forgets_removals_after_ms(120_000);
            }
            let write = story.upsert(0, "u", &["name"], Placement::Shared);
            story.remove(0, "u", Placement::Shared);
            story.phase(Phase::FinalReads);
            let read = story.get_none(0, "u", Source::Merged);
            if forgets {
                story.passes(Convergence);
                let read = story.get(0, "u", Source::Merged, &[("name", write)]);
                story.violates(Convergence, "did not answer from Redis alone", &[read]);
            } else {
                story.violates(Convergence, "did not answer from Redis alone", &[read]);
            }
        }
    }

    #[test]
    fn a_copy_that_redis_ended_before_its_clock_was_set_back_may_be_told_again() {
        for (set_back, others_read_it) in [(true, true), (true, false), (false, true)] {
            let mut story = Story::new(&["p", "p"]);
            story.expires_after_ms(10_000);
            let write = story.upsert(1, "u", &["name"], Placement::Shared);
            if set_back {
                story.redis_clock_steps(900_000);
                story.redis_clock_steps(-900_000);
            }
            story.phase(Phase::FinalReads);
            if others_read_it {
                story.get(0, "u", Source::Shared, &[("name", write)]);
            } else {
                story.get_none(0, "u", Source::Shared);
            }
            let read = story.get(1, "u", Source::Merged, &[("name", write)]);
            if set_back {
                story.passes(Convergence);
            } else {
                story.violates(Convergence, "did not answer from Redis alone", &[read]);
            }
        }
    }

    #[test]
    fn a_final_read_that_fails_is_a_violation() {
        let (mut story, _) = told();
        let read = story.get_begins(1, "u");
        story.fail(read, "no disk");
        story.violates(Convergence, "no disk", &[read]);
    }

    #[test]
    fn an_instance_that_does_not_come_to_rest_is_a_violation() {
        let mut story = Story::new(&["p"]);
        story.unquiet(0);
        story.violates(Convergence, "instance 0 did not come to rest: 3 writes pending", &[]);
    }

    #[test]
    fn without_all_final_reads_nothing_is_known() {
        let mut story = Story::new(&["p", "p"]);
        story.upsert(0, "u", &["name"], Placement::Shared);
        story.leaves_unknown(Convergence, "no phase of final reads");
        story.phase(Phase::FinalReads);
        story.leaves_unknown(Convergence, "no final reads");
        story.get(0, "u", Source::Shared, &[("name", 1)]);
        story.leaves_unknown(Convergence, "instance 1 never read");
    }
}
