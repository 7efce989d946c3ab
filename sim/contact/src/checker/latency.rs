//! G8: every call returns within its deadline, and what needs only the local disk succeeds.
//!
//! `get`, `upsert` and `remove` must not fail while the disk of their instance works, nor may an instance fail to open its
//! cache then. While the disk is in trouble they may fail, in time; a write that did nothing for certain says so, since G1 and
//! G2 hold it to that. `list`, `clear` and `sync` may answer any error, in time. No workload asks for what an instance has to
//! refuse.
//!
//! Where a run sets a limit, a write may find no room, and a `get` a record forgotten, if what the instance has written and
//! read may add up to the limit by the count of this checker. A `get` may also find a record forgotten once the log of its
//! instance was removed, or once the instance had something in hand while its disk was in trouble.
//!
//! A pause of the process, or the sleep of its machine, does not count (a call that it cuts in two may find its deadline gone),
//! nor does a call that its caller gave up.

use std::collections::BTreeMap;

use super::{Account, Excuse, Verdict, operation::Operation, operations::Operations};
use crate::history::{Answer, Call, Freshness, Outcome, Placement, What};

/// What a call may take beyond its deadline: the simulated scheduler wakes a sleeper up to a tick late, and the answer
/// passes through a few wake-ups before it is recorded.
const SLACK_US: u64 = 2_000;

/// What a client may count for a record with its existence and its life, and for a cell, beside the values: names, stamps.
const BYTES_A_RECORD: usize = 300;
const BYTES_A_CELL: usize = 120;

pub(super) fn check(run: &Operations<'_>, account: &mut Account) -> Verdict {
    let calls = run.all.iter().fold(Verdict::Pass, |verdict, op| match judge(run, op) {
        Ok(excuse) => {
            account.count(excuse);
            verdict
        }
        Err(found) => {
            account.count(None);
            verdict.merge(found)
        }
    });
    calls.merge(opened(run, account))
}

fn opened(run: &Operations<'_>, account: &mut Account) -> Verdict {
    for event in &run.history.events {
        let What::OpenFailed { instance, error } = &event.what else { continue };
        if !run.excuses.may_fail_to_open(*instance, event) {
            let message = format!("instance {instance} failed to open its cache while its disk worked: {error}");
            return Verdict::Violation { message, ops: Vec::new() };
        }
        account.note("openings that failed while the disk was in trouble", 1);
    }
    Verdict::Pass
}

/// What excuses a call, if anything had to.
fn judge(run: &Operations<'_>, op: &Operation<'_>) -> Result<Option<Excuse>, Verdict> {
    let deadline_us = run.history.header.op_deadline_us;
    let violation = |message| Err(Verdict::Violation { message, ops: vec![op.number] });
    let Some(end) = op.end else { return unanswered(run, op) };
    let paused_us = run.excuses.paused_us(op.instance, op.called_at_us, end.at_us);
    let took_us = end.at_us.saturating_sub(op.called_at_us).saturating_sub(paused_us);
    if took_us > deadline_us.saturating_add(SLACK_US) {
        return violation(format!("{op} took {took_us} us, its deadline is {deadline_us} us"));
    }
    // For what it may fail.
    let excuse = if matches!(op.call, Call::List | Call::Clear | Call::Sync) {
        Some(Excuse::AnyError)
    } else if paused_us > 0 {
        Some(Excuse::Pause)
    } else {
        run.excuses.has_bad_disk(op).then_some(Excuse::Disk)
    };
    match end.outcome {
        Outcome::Ok { .. } => Ok(None),
        Outcome::Fail { error } | Outcome::Info { error } if is_demanded(op.call, error) => Ok(Some(Excuse::Demand)),
        // What it could not keep it does not know, and says so rather than go back.
        Outcome::Fail { error } if let Some(excuse) = forgotten(run, op, error) => Ok(Some(excuse)),
        // A limit of what may be pending was set, and is reached (G11): a write says so.
        Outcome::Fail { error } | Outcome::Info { error } if is_full(run, op, error) => Ok(Some(Excuse::Limit)),
        Outcome::Fail { .. } | Outcome::Info { .. } if excuse.is_some() => Ok(excuse),
        Outcome::Fail { error } => violation(format!("{op} failed while its disk worked: {error}")),
        Outcome::Info { error } => violation(format!("{op} gave up while its disk worked: {error}")),
    }
}

/// The excuse for a read that fails because the instance has forgotten the record, if it may have: to keep within a limit of copies, after its
/// disk failed to keep a copy, or after its log was removed.
fn forgotten(run: &Operations<'_>, op: &Operation<'_>, error: &str) -> Option<Excuse> {
    if !error.starts_with("forgotten") || !matches!(op.call, Call::Get { .. } | Call::GetMany { .. }) {
        return None;
    }
    let of_any = run.excuses.had_store_of_another(op);
    let may_be_its = |other: &&Operation<'_>| of_any || other.instance == op.instance;
    let before = || run.all.iter().filter(may_be_its).filter(|other| other.called < op.returned());
    // What was pending may have been published at any later time. An instance does not know which copies it could not keep:
    // from then on it may have forgotten any record.
    let had_in_hand = |other: &Operation<'_>| is_pending(other) || run.excuses.kept_no_copy(other);
    let limit = run.history.header.tuning.copies_bytes_max;
    if limit.is_some_and(|limit| bytes_of(run, before(), None) > limit) {
        Some(Excuse::Limit)
    } else if run.excuses.had_bad_disk(op) && before().any(had_in_hand) {
        Some(Excuse::Disk)
    } else {
        run.excuses.had_lost_its_log(op).then_some(Excuse::Damage)
    }
}

/// Whether a call fails with what it asked for: Redis's word, or a copy that is not too old.
fn is_demanded(call: &Call, error: &str) -> bool {
    match call {
        Call::Upsert { shared, .. } | Call::Remove { shared, .. } => *shared && error.starts_with("not shared"),
        Call::Get { freshness, .. } | Call::GetMany { freshness, .. } => match freshness {
            Freshness::Any => false,
            Freshness::WithinMs(_) => error.starts_with("too old"),
            Freshness::Shared => error.starts_with("not shared"),
        },
        Call::Import { .. } => error.starts_with("not shared"),
        Call::List | Call::Clear | Call::Sync => false,
    }
}

/// Whether a write may find no room: what is pending has a limit (G11), and what the instance was asked to write may reach it.
fn is_full(run: &Operations<'_>, op: &Operation<'_>, error: &str) -> bool {
    if !error.starts_with("full") || !matches!(op.call, Call::Upsert { .. } | Call::Remove { .. }) {
        return false;
    }
    let mine = || run.all.iter().filter(|other| other.instance == op.instance && other.called < op.returned());
    let drained =
        mine().filter(|sync| sync.precedes(op) && matches!(sync.answer(), Some(Answer::Synced { pending: 0 })));
    let since = drained.map(|sync| sync.called).max().unwrap_or(0);
    // What Redis lost is pending again.
    let is_lost = run.lost_between(0, op.returned());
    let may_be_pending = |other: &&Operation<'_>| is_lost || is_pending(other) && other.returned() > since;
    let limit = run.history.header.tuning.pending_bytes_max;
    // The copy of another's store may hold pending writes of the other.
    if run.excuses.had_store_of_another(op) {
        let any = run.all.iter().filter(|other| other.called < op.returned());
        return limit.is_some_and(|limit| bytes_of(run, any, None) > limit);
    }
    let by = (!is_lost).then_some(op.instance);
    limit.is_some_and(|limit| bytes_of(run, mine().filter(may_be_pending), by) > limit)
}

/// Whether an operation may have left something that Redis does not have yet.
fn is_pending(op: &Operation<'_>) -> bool {
    let is_write = matches!(op.call, Call::Upsert { .. } | Call::Remove { .. } | Call::Clear);
    // One that was refused says so here: it asked for the room that is looked for.
    is_write && op.acknowledged() != Some(Placement::Shared)
}

/// How many bytes an instance holds, at most, of the records that these operations are about. Of each cell the longest value
/// counts, of those by one instance or of all: a merge answers with the whole record. Lives of a record that may be kept apart count each.
fn bytes_of<'a>(run: &Operations<'_>, ops: impl Iterator<Item = &'a Operation<'a>>, by: Option<u32>) -> u64 {
    let is_of = |op: &Operation<'_>, record: usize| match op.record {
        Some(of) => of == record,
        None => matches!(op.call, Call::Clear) && op.prefix == run.records[record].prefix,
    };
    let ops: Vec<_> = ops.collect();
    let records = (0..run.records.len()).filter(|&record| ops.iter().any(|op| is_of(op, record)));
    let of_record = |record: usize| {
        let mut cells: BTreeMap<usize, usize> = BTreeMap::new();
        let writers = run.records[record].writers.values().map(|&upsert| &run.all[upsert]);
        for write in
            writers.filter(|upsert| by.is_none_or(|by| upsert.instance == by)).flat_map(|upsert| upsert.writes.iter())
        {
            let longest = cells.entry(write.cell).or_default();
            *longest = write.value.to_string().len().max(*longest);
        }
        let upserts =
            ops.iter().copied().filter(|op| op.record == Some(record) && matches!(op.call, Call::Upsert { .. }));
        let lives = if run.expiry.lives.is_empty() { 1 } else { run.lives_apart(upserts).max(1) };
        lives * (BYTES_A_RECORD + cells.values().map(|bytes| BYTES_A_CELL + bytes).sum::<usize>())
    };
    records.map(of_record).sum::<usize>() as u64
}

fn unanswered(run: &Operations<'_>, op: &Operation<'_>) -> Result<Option<Excuse>, Verdict> {
    if op.is_cancelled
        || run.stops.iter().any(|&(at, instance, _)| at > op.called && instance == op.instance)
        || is_down(run, op)
    {
        return Ok(Some(Excuse::Stopped));
    }
    let deadline_us = run.history.header.op_deadline_us;
    let ends_at_us = run.history.events.last().map_or(0, |event| event.at_us);
    if ends_at_us <= op.called_at_us.saturating_add(deadline_us).saturating_add(SLACK_US) {
        return Err(Verdict::Unknown { why: format!("the history ends before the deadline of {op}") });
    }
    let message = format!("{op}: its deadline of {deadline_us} us passed and its instance was not stopped");
    Err(Verdict::Violation { message, ops: vec![op.number] })
}

/// Whether the instance was stopped, and not started again, when it was called.
fn is_down(run: &Operations<'_>, op: &Operation<'_>) -> bool {
    let Some(&(stopped, ..)) =
        run.stops.iter().rev().find(|(at, instance, _)| *at < op.called && *instance == op.instance)
    else {
        return false;
    };
    let started = |what: &What| matches!(what, What::Started { instance } if *instance == op.instance);
    let between = run.history.events.iter().filter(|event| stopped < event.ordinal && event.ordinal < op.called);
    !between.into_iter().any(|event| started(&event.what))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        checker::{
            Guarantee::Latency,
            fixture::{DEADLINE_US, Story},
        },
        faults::{DiskTrouble, Fault, StoreChange},
        history::{Phase, Placement, Source, Stop, StoreNow},
    };

    #[test]
    fn a_call_within_deadline_and_slack_passes() {
        let mut story = Story::new(&["p"]);
        let get = story.get_begins(0, "u");
        story.now_us += DEADLINE_US + SLACK_US - 100;
        story.got_none(get, Source::Local);
        story.passes(Latency);
    }

    #[test]
    fn a_late_call_is_a_violation() {
        let mut story = Story::new(&["p"]);
        let sync = story.begin(0, Call::Sync);
        story.now_us += DEADLINE_US + SLACK_US - 99;
        story.info(sync);
        story.violates(Latency, "took 252001 us, its deadline is 250000 us", &[sync]);
    }

    #[test]
    fn a_call_that_never_returns_is_a_violation_unless_its_instance_stopped() {
        let mut story = Story::new(&["p", "p"]);
        story.get_begins(1, "u");
        story.stop(1, Stop::Killed);
        let hangs = story.get_begins(0, "u");
        story.leaves_unknown(Latency, "ends before the deadline");
        story.now_us += DEADLINE_US + SLACK_US;
        story.phase(Phase::Heal);
        story.violates(Latency, "instance was not stopped", &[hangs]);
    }

    #[test]
    fn a_call_on_a_stopped_instance_need_not_return() {
        let mut story = Story::new(&["p"]);
        story.event(What::Stopped { instance: 0, how: Stop::PowerLost });
        story.get_begins(0, "u");
        story.now_us += DEADLINE_US * 2;
        story.phase(Phase::Heal);
        story.passes(Latency);
    }

    #[test]
    fn a_failed_read_and_a_doubtful_write_are_violations() {
        let mut story = Story::new(&["p"]);
        let get = story.get_begins(0, "u");
        story.fail(get, "connection refused");
        story.violates(Latency, "connection refused", &[get]);

        let mut story = Story::new(&["p"]);
        let upsert = story.upsert_begins(0, "u", &["name"]);
        story.info(upsert);
        story.violates(Latency, "gave up while its disk worked", &[upsert]);
    }

    #[test]
    fn a_call_that_asked_for_redis_may_say_that_it_is_away_and_no_other_call_may() {
        let said = "not shared: redis is away";
        for (freshness, is_asked) in
            [(Freshness::Shared, true), (Freshness::Any, false), (Freshness::WithinMs(9), false)]
        {
            let mut story = Story::new(&["p"]);
            let get = story.begin(0, Call::GetMany { uids: vec!["u".to_owned()], freshness });
            let outcome = Outcome::Fail { error: said.to_owned() };
            let reads = vec![crate::history::ReadOfOne { uid: "u".to_owned(), outcome }];
            story.ok(get, crate::history::Answer::ReadMany { reads });
            if is_asked {
                story.passes(Latency);
            } else {
                story.violates(Latency, said, &[get]);
            }
        }
    }

    fn stalls(instance: u32) -> What {
        What::FaultBegin { fault: 0, what: Fault::BadDisk { instance, trouble: DiskTrouble::Stalled }, at: None }
    }

    #[test]
    fn while_its_disk_is_in_trouble_a_call_may_fail_in_time_and_no_later() {
        let mut story = Story::new(&["p", "p"]);
        story.event(stalls(0));
        let excused = story.upsert_begins(0, "u", &["name"]);
        story.info(excused);
        story.event(What::OpenFailed { instance: 0, error: "no space left".to_owned() });
        story.passes(Latency);
        let late = story.get_begins(0, "u");
        story.now_us += DEADLINE_US * 2;
        story.info(late);
        story.violates(Latency, "its deadline is", &[late]);

        let mut story = Story::new(&["p", "p"]);
        story.event(stalls(0));
        let other = story.upsert_begins(1, "u", &["name"]);
        story.info(other);
        story.violates(Latency, "gave up while its disk worked", &[other]);

        let mut story = Story::new(&["p"]);
        story.event(stalls(0));
        story.event(What::FaultEnd { fault: 0, effects: 1 });
        let missed = story.get_begins(0, "u");
        story.fail(missed, "forgotten: redis is away, and what is held may not be all of it");
        story.passes(Latency);
        let after = story.remove_begins(0, "u");
        story.fail(after, "the disk is full");
        story.violates(Latency, "failed while its disk worked", &[after]);
    }

    #[test]
    fn a_cache_that_does_not_open_although_its_disk_works_is_a_violation() {
        let mut story = Story::new(&["p"]);
        story.event(What::OpenFailed { instance: 0, error: "in use by another process".to_owned() });
        story.violates(Latency, "failed to open its cache while its disk worked: in use", &[]);
    }

    #[test]
    fn an_opening_may_fail_as_long_as_it_may_have_begun_on_a_disk_in_trouble() {
        let mut story = Story::new(&["p"]);
        story.event(stalls(0));
        story.event(What::FaultEnd { fault: 0, effects: 1 });
        story.now_us += 1_000_000;
        story.event(What::OpenFailed { instance: 0, error: "it stopped".to_owned() });
        story.passes(Latency);
        story.now_us += 1_000_000;
        story.event(What::OpenFailed { instance: 0, error: "it stopped".to_owned() });
        story.violates(Latency, "failed to open its cache while its disk worked: it stopped", &[]);
    }

    #[test]
    fn a_pause_does_not_count_and_a_call_that_was_given_up_need_not_return() {
        let mut story = Story::new(&["p"]);
        let paused = story.get_begins(0, "u");
        story.event(What::FaultBegin { fault: 0, what: Fault::InstancePause { instance: 0 }, at: None });
        story.now_us += DEADLINE_US * 2;
        story.event(What::FaultEnd { fault: 0, effects: 1 });
        story.info(paused);
        let given_up = story.get_begins(0, "u");
        story.event(What::Cancelled { instance: 0, op: given_up });
        story.now_us += DEADLINE_US * 2;
        story.phase(Phase::Heal);
        story.passes(Latency);
    }

    #[test]
    fn each_life_that_is_kept_apart_counts_towards_a_limit() {
        for (between_us, has_room) in [(1_000_000, true), (12_000_000, false)] {
            let mut story = Story::new(&["p"]);
            story.expires_after_ms(10_000);
            story.limits_pending_to(1_000);
            for _ in 0..2 {
                story.upsert(0, "u", &["name"], Placement::Local);
                story.now_us += between_us;
            }
            let op = story.upsert_begins(0, "u", &["name"]);
            story.fail(op, "full: pending writes have reached their limit");
            if has_room {
                story.violates(Latency, "failed while its disk worked", &[op]);
            } else {
                story.passes(Latency);
            }
        }
    }

    #[test]
    fn a_write_may_find_no_room_only_where_a_limit_may_be_reached_and_a_read_never() {
        for (limit, reads) in [(Some(300), false), (Some(1_000), false), (None, false), (Some(300), true)] {
            let mut story = Story::new(&["p"]);
            if let Some(limit) = limit {
                story.limits_pending_to(limit);
            }
            let op = if reads { story.get_begins(0, "u") } else { story.upsert_begins(0, "u", &["name"]) };
            story.fail(op, "full: pending writes have reached their limit");
            if limit == Some(300) && !reads {
                story.passes(Latency);
            } else {
                story.violates(Latency, "failed while its disk worked", &[op]);
            }
        }
    }

    #[test]
    fn what_a_clear_may_have_removed_takes_room_too() {
        let mut story = Story::new(&["p"]);
        story.limits_pending_to(1_100);
        for uid in ["u", "v", "w"] {
            story.upsert(0, uid, &["name"], Placement::Shared);
        }
        let clear = story.begin(0, Call::Clear);
        let uids = ["u", "v", "w"].map(str::to_owned).to_vec();
        story.ok(clear, Answer::Cleared { placement: Placement::Local, uids, complete: false });
        let upsert = story.upsert_begins(0, "u", &["name"]);
        story.fail(upsert, "full: pending writes have reached their limit");
        story.passes(Latency);
    }

    #[test]
    fn a_disk_in_trouble_excuses_a_forgotten_record_only_if_something_was_in_hand() {
        for in_hand in [true, false] {
            let mut story = Story::new(&["p"]);
            story.event(What::FaultBegin {
                fault: 0,
                what: Fault::BadDisk { instance: 0, trouble: DiskTrouble::Full },
                at: None,
            });
            if in_hand {
                story.get_none(0, "v", Source::Shared);
            }
            story.event(What::FaultEnd { fault: 0, effects: 1 });
            story.now_us += 1_000_000;
            let get = story.get_begins(0, "u");
            story.fail(get, "forgotten: redis is away, and what is held may not be all of it");
            if in_hand {
                story.passes(Latency);
            } else {
                story.violates(Latency, "failed while its disk worked: forgotten", &[get]);
            }
        }
    }

    #[test]
    fn what_was_synced_takes_no_room_any_more() {
        for is_synced in [true, false] {
            let mut story = Story::new(&["p"]);
            story.limits_pending_to(1_100);
            for uid in ["u", "v"] {
                story.upsert(0, uid, &["name"], Placement::Local);
            }
            if is_synced {
                let sync = story.begin(0, Call::Sync);
                story.ok(sync, Answer::Synced { pending: 0 });
            }
            let upsert = story.upsert_begins(0, "w", &["name"]);
            story.fail(upsert, "full: pending writes have reached their limit");
            if is_synced {
                story.violates(Latency, "failed while its disk worked", &[upsert]);
            } else {
                story.passes(Latency);
            }
        }
    }

    /// `contention` 171: no copy of the record was ever held, and the instance cannot know that.
    #[test]
    fn a_read_may_find_any_record_forgotten_once_the_log_was_removed() {
        for (now, is_legal) in [(StoreNow::LogGone, true), (StoreNow::Gone, false)] {
            let mut story = Story::new(&["p", "p"]);
            story.event(What::StoreChanged { instance: 0, now });
            for instance in [0, 1] {
                let get = story.get_begins(instance, "u");
                story.fail(get, "forgotten: redis is away, and what is held may not be all of it");
                if instance == 0 && is_legal {
                    continue;
                }
                story.violates(Latency, "failed while its disk worked", &[get]);
                break;
            }
        }
    }

    #[test]
    fn the_copy_of_anothers_store_may_hold_what_that_owes_and_lack_what_that_has_forgotten() {
        for (is_copied, of_copy) in [(true, true), (true, false), (false, true)] {
            let mut story = Story::new(&["p", "p"]);
            story.limits_pending_to(600);
            for uid in ["u", "v", "w"] {
                story.upsert(1, uid, &["name"], Placement::Local);
            }
            story.event(What::StoreChanged { instance: 1, now: StoreNow::LogGone });
            if is_copied {
                let change = StoreChange::CopyOf { original: 1, age_us: 0, volume: true };
                let what = Fault::StoreChange { instance: 0, change, running: false };
                story.event(What::FaultBegin { fault: 0, what, at: None });
                story.event(What::StoreChanged { instance: 0, now: StoreNow::Clone });
                story.event(What::FaultEnd { fault: 0, effects: 1 });
                story.event(What::Started { instance: 0 });
            }
            let op = if of_copy { story.get_begins(0, "u") } else { story.upsert_begins(0, "x", &["name"]) };
            story.fail(
                op,
                if of_copy { "forgotten: redis is away" } else { "full: pending writes have reached their limit" },
            );
            if is_copied {
                story.passes(Latency);
            } else {
                story.violates(Latency, "failed while its disk worked", &[op]);
            }
        }
    }

    #[test]
    fn a_read_may_find_its_copy_forgotten_only_where_copies_may_reach_their_limit_and_a_write_never() {
        let forgotten = "forgotten: raise copies_bytes_max";
        for (limit, reads, said, is_legal) in [
            (Some(600), true, forgotten, true),
            (Some(2_000), true, forgotten, false),
            (None, true, forgotten, false),
            (Some(600), false, forgotten, false),
            (Some(600), true, "the disk is away", false),
        ] {
            let mut story = Story::new(&["p"]);
            if let Some(limit) = limit {
                story.limits_copies_to(limit);
            }
            for uid in ["u", "v"] {
                story.upsert(0, uid, &["name"], Placement::Shared);
            }
            let op = if reads { story.get_begins(0, "u") } else { story.upsert_begins(0, "u", &["name"]) };
            story.fail(op, said);
            if is_legal {
                story.passes(Latency);
            } else {
                story.violates(Latency, "failed while its disk worked", &[op]);
            }
        }
    }

    #[test]
    fn an_incomplete_list_is_legal_and_a_refusal_is_not() {
        let mut story = Story::new(&["p"]);
        let list = story.begin(0, Call::List);
        story.info(list);
        story.upsert(0, "u", &["name"], Placement::Local);
        story.passes(Latency);
        let upsert = story.upsert_begins(0, "u", &["name"]);
        story.fail(upsert, "refused: nesting deeper than 64");
        story.violates(Latency, "failed while its disk worked: refused", &[upsert]);
    }
}
