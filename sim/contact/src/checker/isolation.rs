//! G7: a prefix never sees, changes or clears another's data, and an answer belongs to its question.
//!
//! A read of many answers for each record that it was asked for, once, and for no other.
//! Every value read names in its tag the prefix of the instance and the uid that was asked for; `list` and `clear`
//! name only uids that somebody under the prefix wrote; a record does not vanish while only others were removing; and what
//! Redis and the local stores hold in the end was written under its prefix, each value to its record.

use std::collections::BTreeSet;

use super::{
    Account, Excuse, Verdict, cells,
    expiry::Knowledge,
    operation::{Operation, Seen, numbers},
    operations::Operations,
    record::RecordHistory,
    stored::Showing,
};
use crate::history::{Answer, Call, ReadOfOne};

pub(super) fn check(run: &Operations<'_>, account: &mut Account) -> Verdict {
    let mut written = BTreeSet::new();
    for op in run.all.iter().filter(|op| op.may_have_effect()) {
        if let Call::Upsert { uid, .. } | Call::Remove { uid, .. } | Call::Import { uid, .. } = op.call {
            written.insert((op.prefix, uid.as_str()));
        }
    }
    for op in &run.all {
        let found = match op.answer() {
            Some(Answer::Read { .. }) => op.record.zip(op.showing()).and_then(|(record, showing)| {
                let message = stray(&run.records[record], &showing)?;
                Some(Verdict::Violation { message, ops: vec![op.number] })
            }),
            Some(Answer::Listed { uids, .. } | Answer::Cleared { uids, .. }) => unheard_of(op, uids, &written),
            _ => None,
        };
        if let Some(violation) = found {
            return violation;
        }
        if matches!(op.answer(), Some(Answer::Read { .. } | Answer::Listed { .. } | Answer::Cleared { .. })) {
            account.count(None);
        }
    }
    if let Some(violation) = run.many.iter().find_map(|&(first, reads)| unasked(&run.all[first], reads)) {
        return violation;
    }
    if let Some(violation) = run.records.iter().find_map(|record| stored(record, &written)) {
        return violation;
    }
    // Beyond the budget anything may be lost, whoever removed what.
    let beyond = run.history.header.beyond_budget.then_some(Excuse::BeyondBudget);
    if let Some(excuse) = beyond.or(run.unquiet().map(|_| Excuse::Unquiet)) {
        account.count_many(Some(excuse), run.records.len() as u64);
        return Verdict::Pass;
    }
    for record in &run.records {
        match vanished(run, record) {
            Ok(excuse) => account.count(excuse),
            Err(violation) => return violation,
        }
    }
    Verdict::Pass
}

/// What is stored of a record, if nobody wrote it, or it has values of another.
fn stored(record: &RecordHistory<'_>, written: &BTreeSet<(&str, &str)>) -> Option<Verdict> {
    let stored = record.stored.first()?;
    if !written.contains(&(record.prefix, record.uid)) {
        let message = format!("{stored} holds {record}, which nobody wrote");
        return Some(Verdict::Violation { message, ops: Vec::new() });
    }
    let message = record.stored.iter().find_map(|stored| stray(record, &stored.showing()?))?;
    Some(Verdict::Violation { message, ops: Vec::new() })
}

/// A value of another record.
fn stray(record: &RecordHistory<'_>, showing: &Showing<'_, '_>) -> Option<String> {
    let (by, json) = (showing.by, showing.json);
    let cell = record.cells[showing.shown.iter().position(|&seen| seen == Seen::Stray)?];
    let valued = cells::of_record(json).into_iter().rfind(|valued| valued.cell == cell)?;
    let whose = match valued.tag {
        None => "names no write".to_owned(),
        Some(tag) => format!("was written to record {:?} under prefix {:?} with tag {}", tag.uid, tag.prefix, tag.op),
    };
    Some(format!("{cell} of {record}: {by} shows {}, which {whose}", valued.value))
}

fn unheard_of(op: &Operation<'_>, uids: &[String], written: &BTreeSet<(&str, &str)>) -> Option<Verdict> {
    let uid = uids.iter().find(|uid| !written.contains(&(op.prefix, uid.as_str())))?;
    let other = written.iter().find(|(_, other)| other == uid);
    let other = other.map_or_else(String::new, |(prefix, _)| format!(", but under prefix {prefix:?}"));
    let message = format!("{op} names {uid:?}, which nobody wrote under its prefix {:?}{other}", op.prefix);
    Some(Verdict::Violation { message, ops: vec![op.number] })
}

/// A read of many that leaves a record out, names one twice, or one that was not asked for.
fn unasked(op: &Operation<'_>, reads: &[ReadOfOne]) -> Option<Verdict> {
    let named: BTreeSet<_> = reads.iter().map(|read| &read.uid).collect();
    let asked: BTreeSet<_> = op.call.uids().iter().collect();
    let wrong = match (asked.difference(&named).next(), named.difference(&asked).next()) {
        (Some(uid), _) => format!("does not say what became of {uid:?}"),
        (None, Some(uid)) => format!("answers for {uid:?}, which it was not asked for"),
        (None, None) if named.len() < reads.len() => "answers for a record twice".to_owned(),
        (None, None) => return None,
    };
    Some(Verdict::Violation { message: format!("{op} {wrong}"), ops: vec![op.number] })
}

/// A record with an acknowledged upsert and no removal of its own that is gone in the end, after others had removed
/// records under their prefixes. Without such others it is lost, which is for G5 to say.
fn vanished(run: &Operations<'_>, record: &RecordHistory<'_>) -> Result<Option<Excuse>, Verdict> {
    let Some(read) = run.final_reads(record).find(|read| read.record_read().is_none()) else { return Ok(None) };
    if !record.removals.is_empty() {
        return Ok(None);
    }
    let mut acknowledged = run.upserts(record).filter(|op| op.acknowledged().is_some()).peekable();
    let is_damaged = acknowledged.peek().is_some().then_some(Excuse::Damage);
    let Some(upsert) = acknowledged.find(|op| run.must_stay(record, op)) else { return Ok(is_damaged) };
    if run.may_expire(record, Some(upsert), read, Knowledge::Redis) {
        return Ok(Some(Excuse::Expiry));
    }
    let foreign = run.all.iter().rev().filter(|op| op.prefix != record.prefix && op.may_have_effect());
    let removes = |op: &&Operation<'_>| matches!(op.call, Call::Clear | Call::Remove { .. }) && op.called < read.called;
    let Some(foreign) = foreign.into_iter().find(removes) else { return Ok(None) };
    let message = format!(
        "{record}: {upsert} was acknowledged and nobody under its prefix removed it, but final {read} shows none; \
         {foreign} was under prefix {:?}",
        foreign.prefix
    );
    Err(Verdict::Violation { message, ops: numbers(&[upsert, foreign, read]) })
}

#[cfg(test)]
mod tests {
    use crate::{
        checker::{
            Guarantee::Isolation,
            fixture::{Story, record, stored},
        },
        history::{Answer, Call, Freshness, Outcome, Phase, Placement::Shared, ReadOfOne, Source},
    };

    #[test]
    fn a_value_of_another_prefix_is_a_violation() {
        let mut story = Story::new(&["a", "a:b"]);
        let write = story.upsert(1, "u", &["@x"], Shared);
        let read = story.get_begins(0, "u");
        story.got_record(read, Source::Shared, record("a:b", "u", &[("@x", write)]));
        story.violates(Isolation, "was written to record \"u\" under prefix \"a:b\"", &[read]);
    }

    #[test]
    fn a_read_of_many_answers_for_each_record_once_and_for_no_other() {
        let none = || Outcome::Ok { answer: Answer::Read { source: Source::Shared, record: None } };
        let one = |uid: &str| ReadOfOne { uid: uid.to_owned(), outcome: none() };
        let cases = [
            (&["u", "v"][..], None),
            (&["u"], Some("does not say what became of \"v\"")),
            (&["u", "v", "w"], Some("answers for \"w\"")),
            (&["u", "v", "u"], Some("for a record twice")),
        ];
        for (answered, wrong) in cases {
            let mut story = Story::new(&["p"]);
            let uids = vec!["u".to_owned(), "v".to_owned()];
            let read = story.begin(0, Call::GetMany { uids, freshness: Freshness::Any });
            story.ok(read, Answer::ReadMany { reads: answered.iter().map(|uid| one(uid)).collect() });
            match wrong {
                None => story.passes(Isolation),
                Some(said) => story.violates(Isolation, said, &[read]),
            }
        }
    }

    #[test]
    fn the_answer_to_another_question_is_a_violation() {
        let mut story = Story::new(&["p"]);
        let write = story.upsert(0, "u", &["name"], Shared);
        let read = story.get_begins(0, "v");
        story.got_record(read, Source::Shared, record("p", "u", &[("name", write)]));
        story.violates(Isolation, "was written to record \"u\" under prefix \"p\"", &[read]);
    }

    #[test]
    fn what_is_stored_and_belongs_to_another_is_a_violation() {
        let mut story = Story::new(&["a", "a:b"]);
        let write = story.upsert(1, "u", &["@x"], Shared);
        story.redis_holds(&[stored("a:b", "u", &[("@x", write)])]);
        story.passes(Isolation);
        story.store_holds(0, &[stored("a", "u", &[])]);
        let said = "the store of instance 0 (event 3) holds record \"u\" under prefix \"a\", which nobody wrote";
        story.violates(Isolation, said, &[]);

        let mut story = Story::new(&["a"]);
        let write = story.upsert(0, "u", &["@x"], Shared);
        story.upsert(0, "v", &["@x"], Shared);
        let mut other = stored("a", "v", &[]);
        other.shows = Some(record("a", "u", &[("@x", write)]).into());
        story.redis_holds(&[other]);
        story.violates(Isolation, "Redis (event 4) shows", &[]);
    }

    #[test]
    fn a_value_without_a_tag_is_a_violation() {
        let mut story = Story::new(&["p"]);
        let read = story.get_begins(0, "u");
        let mut shown = record("p", "u", &[]);
        shown["metadata"]["source"] = "api".into();
        story.got_record(read, Source::Local, shown);
        story.violates(Isolation, "shows \"api\", which names no write", &[read]);
    }

    #[test]
    fn a_uid_of_another_prefix_in_a_list_or_a_clear_is_a_violation() {
        let mut story = Story::new(&["a", "a:b"]);
        story.upsert(1, "u", &["name"], Shared);
        let list = story.list(0, Source::Shared, &["u"]);
        story.violates(Isolation, "nobody wrote under its prefix \"a\", but under prefix \"a:b\"", &[list]);

        let mut story = Story::new(&["a", "a:b"]);
        story.upsert(1, "u", &["name"], Shared);
        let clear = story.clear(0, &["b:u"]);
        story.violates(Isolation, "names \"b:u\"", &[clear]);
    }

    #[test]
    fn a_record_that_only_another_prefix_cleared_is_a_violation() {
        let mut story = Story::new(&["a", "a:b"]);
        let write = story.upsert(1, "u", &["name"], Shared);
        let clear = story.clear(0, &[]);
        story.phase(Phase::FinalReads);
        let read = story.get_none(1, "u", Source::Shared);
        story.violates(Isolation, "clear 2 on instance 0", &[write, clear, read]);
    }

    #[test]
    fn equal_uids_under_two_prefixes_pass() {
        let mut story = Story::new(&["a", "a:b"]);
        let one = story.upsert(0, "u", &["name"], Shared);
        let two = story.upsert(1, "u", &["name"], Shared);
        story.get(0, "u", Source::Shared, &[("name", one)]);
        story.get(1, "u", Source::Local, &[("name", two)]);
        story.list(0, Source::Shared, &["u"]);
        story.clear(0, &["u"]);
        story.clear(1, &["u"]);
        story.phase(Phase::FinalReads);
        story.get_none(0, "u", Source::Shared);
        story.get_none(1, "u", Source::Shared);
        story.passes(Isolation);
    }
}
