//! G13: an instance that can reach a working Redis uses it.
//!
//! A call is quiet if for [`BACK_US`] before it, and until it returned, no fault touched its instance, that one's disk
//! and clock, Redis or the way between, and the instance ran all the time. The phase of final reads begins at rest, so that
//! no fault before it counts in it. Redis answers a quiet call: `Shared`, or `Merged` while something was pending. The call is
//! not refused, it takes no longer than some of the slowest round trips of the run, and `sync` ends at zero.
//!
//! Excused, each with its count: calls that a fault touched, those that never returned, writes kept locally since
//! others of the record were in the way again and again, and reads that told Redis again what it had lost or forgotten.

use std::collections::BTreeMap;

use super::{
    Account, Excuse, Verdict,
    operation::{Operation, Return},
    operations::Operations,
};
use crate::{
    faults::Fault,
    history::{Answer, Call, Outcome, Phase, Placement, Source, What},
};

/// How long after it was touched an instance may take to use Redis again: the longest delay before a reconnect (8 s), an
/// attempt that fails (1 s), a probe (1 s), and the replay of what is pending.
const BACK_US: u64 = 12_000_000;

/// How long an instance that no fault touches may take to publish the times or cells that a read has found to be lacking in Redis.
const TELLS_US: u64 = 1_000_000;

/// How many of the slowest round trips a call of one record may take: the script may have to be sent whole, and a write is
/// stamped again after a conflict.
const ROUND_TRIPS: u64 = 12;

/// The same of a call of many records, or of a large one: it goes over a connection of its own, which may have to be
/// opened, in many segments, or page by page.
const ROUND_TRIPS_OF_MUCH: u64 = 48;

/// A record with more bytes is a large one.
const MUCH_BYTES: usize = 16 << 10;

/// The number of concurrent writes that may make a write give up. The client tries four stamps (R10). The first may conflict with a
/// write from before the call, since the clock of the instance may be behind. Each other stamp fails only by a concurrent write.
const WRITES_BESIDE: usize = 3;

pub(super) fn check(run: &Operations<'_>, account: &mut Account) -> Verdict {
    let touches = Touches::of(run);
    let mut verdict = Verdict::Pass;
    for op in &run.all {
        let found = match op.end {
            None => Err(Excuse::Stopped),
            Some(end) if touches.meet(op, end.at_us) => Err(Excuse::Touched),
            Some(end) => fault_of(run, op, end),
        };
        account.count(found.as_ref().err().copied());
        if let Ok(Some(what)) = found {
            let message = format!("{op} {what}, although its instance could reach Redis and no fault touched it");
            verdict = verdict.merge(Verdict::Violation { message, ops: vec![op.number] });
        }
    }
    verdict
}

/// What is wrong with the answer to a quiet call, if anything is; an error is what excuses it.
fn fault_of(run: &Operations<'_>, op: &Operation<'_>, end: Return<'_>) -> Result<Option<String>, Excuse> {
    if let Some(late) = lateness(run, op, end) {
        return Ok(Some(late));
    }
    let answer = match end.outcome {
        Outcome::Ok { answer } => answer,
        Outcome::Fail { error } | Outcome::Info { error } if error.starts_with("not shared") => {
            return not_shared(run, op, error);
        }
        // The write had to be kept locally. G8 checks whether there really was no room.
        Outcome::Fail { error } | Outcome::Info { error }
            if error.starts_with("full") && writes(op.call) && is_outrun(run, op) =>
        {
            return Err(Excuse::Contended);
        }
        Outcome::Fail { error } | Outcome::Info { error } => return Ok(Some(format!("was refused ({error})"))),
    };
    let wrong = match answer {
        Answer::Written { placement: Placement::Local, .. } | Answer::Cleared { placement: Placement::Local, .. } => {
            if is_outrun(run, op) {
                return Err(Excuse::Contended);
            }
            Some("was kept locally")
        }
        Answer::Cleared { complete: false, .. } => Some("did not clear everything"),
        Answer::Read { source: Source::Merged, .. } if owes(run, op) => None,
        Answer::Read { source: Source::Merged, .. } => match tells_again(run, op) {
            Some(excuse) => return Err(excuse),
            None => Some("was merged with a local write that was not pending"),
        },
        Answer::Read { source: Source::Local, .. } | Answer::Listed { source: Source::Local, .. } => {
            Some("was answered without Redis")
        }
        Answer::Synced { pending: 1.. } if owes(run, op) => return Err(Excuse::Contended),
        Answer::Synced { pending: 1.. } => Some("left writes pending"),
        Answer::ReadMany { .. } => Some("left the record out"),
        Answer::Written { .. }
        | Answer::Imported { .. }
        | Answer::Cleared { .. }
        | Answer::Read { .. }
        | Answer::Listed { .. }
        | Answer::Synced { pending: 0 } => None,
    };
    Ok(wrong.map(str::to_owned))
}

/// How much longer a call took than it may, if it did. How large its record is, is only looked at then: that takes as long as
/// all other judging of the call.
fn lateness(run: &Operations<'_>, op: &Operation<'_>, end: Return<'_>) -> Option<String> {
    let slowest_us = run.history.header.round_trip_us?;
    let took_us = end.at_us.saturating_sub(op.called_at_us);
    if took_us <= slowest_us * ROUND_TRIPS {
        return None;
    }
    let round_trips = if is_much(op) { ROUND_TRIPS_OF_MUCH } else { ROUND_TRIPS };
    let limit_us = slowest_us * round_trips;
    (took_us > limit_us).then(|| format!("took {took_us} us, more than {round_trips} slow round trips ({limit_us} us)"))
}

/// A call that asked for Redis's word, and was told that there is none: it would have been answered `Merged`, or kept locally.
fn not_shared(run: &Operations<'_>, op: &Operation<'_>, error: &str) -> Result<Option<String>, Excuse> {
    if writes(op.call) {
        return if is_outrun(run, op) { Err(Excuse::Contended) } else { Ok(Some(format!("was refused ({error})"))) };
    }
    match tells_again(run, op) {
        _ if matches!(op.call, Call::Import { .. }) => Ok(Some(format!("was refused ({error})"))),
        _ if owes(run, op) => Ok(None),
        Some(excuse) => Err(excuse),
        None => Ok(Some(format!("was refused ({error})"))),
    }
}

/// Whether a call is of many records, or of a large one.
fn is_much(op: &Operation<'_>) -> bool {
    match op.call {
        Call::GetMany { .. } | Call::List | Call::Clear | Call::Sync => true,
        Call::Upsert { patch, .. } | Call::Import { patch, .. } => {
            serde_json::to_vec(patch).is_ok_and(|patch| patch.len() > MUCH_BYTES)
        }
        Call::Get { .. } | Call::Remove { .. } => {
            op.values.iter().map(|(_, value)| value.to_string().len()).sum::<usize>() > MUCH_BYTES
        }
    }
}

/// Whether as many writes of the record were under way beside a write as it is stamped again for.
fn is_outrun(run: &Operations<'_>, op: &Operation<'_>) -> bool {
    let is_beside = |other: &&Operation<'_>| {
        other.number != op.number
            && writes(other.call)
            && other.prefix == op.prefix
            && (op.record.is_none() || other.record.is_none() || other.record == op.record)
            && !other.precedes(op)
            && !op.precedes(other)
    };
    run.all.iter().filter(is_beside).count() >= WRITES_BESIDE
}

fn writes(call: &Call) -> bool {
    matches!(call, Call::Upsert { .. } | Call::Remove { .. } | Call::Clear)
}

/// Whether an instance may hold what Redis lacks: a write of its own that Redis did not acknowledge, or not until after the
/// call began, and that is not older than it takes to publish what is pending.
fn owes(run: &Operations<'_>, op: &Operation<'_>) -> bool {
    let since_us = op.called_at_us.saturating_sub(BACK_US);
    let is_owed = |other: &Operation<'_>| {
        let is_recent = other.end.is_none_or(|end| end.at_us >= since_us);
        let is_shared = other.acknowledged() == Some(Placement::Shared) && other.precedes(op);
        writes(other.call) && is_recent && !is_shared && other.may_have_effect()
    };
    run.all.iter().any(|other| other.instance == op.instance && other.called < op.returned() && is_owed(other))
}

/// Why a read tells Redis of a record again, if it may: Redis lost the record, or forgot that it was removed, or when it was
/// first revealed.
fn tells_again(run: &Operations<'_>, op: &Operation<'_>) -> Option<Excuse> {
    if finds_a_loss(run, op) {
        return Some(Excuse::LostData);
    }
    (was_removed(run, op) || was_over(run, op) || run.may_live_on(op)).then_some(Excuse::ToldAgain)
}

/// Whether a life of the record may have ended since the instance last met the record in Redis, which forgot with it when the record
/// was first revealed. That is told again when the record lives again.
fn was_over(run: &Operations<'_>, op: &Operation<'_>) -> bool {
    let (Some(ttl_ms), Some(end)) = (run.history.header.tuning.record_ttl_ms, op.end) else { return false };
    let earlier =
        run.all.iter().filter(|met| met.instance == op.instance && met.record == op.record && met.precedes(op));
    // An acknowledgement does not tell when the record was first revealed; a reply to a read does.
    let (mut read_us, mut written_us) = (None, None);
    for (met, end) in earlier.filter_map(|met| Some((met, met.end?))) {
        match met.source() {
            // A read that answered `Merged` publishes again, which may still be under way.
            Some(Source::Merged) if op.called_at_us < end.at_us.saturating_add(TELLS_US) => {}
            Some(Source::Shared | Source::Merged) if !writes_meanwhile(run, met) => {
                read_us = read_us.max(Some(end.at_us));
            }
            None if met.acknowledged().is_some() => written_us = written_us.or(Some(end.at_us)),
            Some(_) | None => {}
        }
    }
    let Some(met_us) = read_us.or(written_us) else { return false };
    let clock = |from_us: u64, until_us: u64| run.clocks.redis(from_us, until_us);
    let gone_us = clock(met_us, end.at_us).most - clock(met_us, met_us).least;
    gone_us / 900 >= i64::try_from(ttl_ms).unwrap_or(i64::MAX)
}

/// Whether Redis lost the record, and the instance has not read it from Redis since.
fn finds_a_loss(run: &Operations<'_>, op: &Operation<'_>) -> bool {
    let Some(record) = op.record.map(|record| &run.records[record]) else { return false };
    let Some(lost) = run.losses_of(record).filter(|&loss| loss < op.called).max() else { return false };
    let mut reads = record.reads.iter().map(|&read| &run.all[read]).filter(|read| read.instance == op.instance);
    !reads.any(|read| {
        let is_after = lost < read.called && read.precedes(op) && read.source() == Some(Source::Shared);
        is_after && !writes_meanwhile(run, read)
    })
}

/// Whether the instance wrote to the record during this read. The reply then carries no information about the state that the
/// instance held before the write, and that state stays as it was.
fn writes_meanwhile(run: &Operations<'_>, read: &Operation<'_>) -> bool {
    let is_its = |op: &Operation<'_>| op.instance == read.instance && (op.record.is_none() || op.record == read.record);
    run.all.iter().any(|op| writes(op.call) && is_its(op) && !op.precedes(read) && !read.precedes(op))
}

/// Whether the record was removed, and the instance may tell Redis of that again: where Redis forgets removals in their
/// time, and for a while where a removal ended a life that the instance believed to be longer.
fn was_removed(run: &Operations<'_>, op: &Operation<'_>) -> bool {
    let tuning = &run.history.header.tuning;
    let since_us = match (tuning.tombstone_ttl_ms, tuning.record_ttl_ms) {
        (Some(_), _) => 0,
        (None, Some(_)) => op.called_at_us.saturating_sub(BACK_US),
        (None, None) => return false,
    };
    let Some(record) = op.record.map(|record| &run.records[record]) else { return false };
    let mut removals = record.removals.iter().map(|&removal| &run.all[removal]);
    removals.any(|removal| removal.called < op.returned() && removal.end.is_none_or(|end| end.at_us >= since_us))
}

/// When each instance was touched: from when to when, in simulated microseconds.
struct Touches(Vec<Vec<(u64, u64)>>);

impl Touches {
    fn of(run: &Operations<'_>) -> Self {
        let instances = run.history.header.prefixes.len();
        let mut touches = Self(vec![Vec::new(); instances]);
        let mut begun: BTreeMap<u32, (u64, &Fault)> = BTreeMap::new();
        let mut is_set_up = false;
        let mut final_us = u64::MAX;
        for event in &run.history.events {
            match &event.what {
                What::Phase { phase } => {
                    is_set_up |= *phase != Phase::SetUp;
                    if *phase == Phase::FinalReads {
                        final_us = event.at_us;
                    }
                }
                What::FaultBegin { fault, what, .. } => {
                    begun.insert(*fault, (event.at_us, what));
                }
                What::FaultEnd { fault, .. } => {
                    if let Some((from_us, what)) = begun.remove(fault) {
                        touches.add(what, from_us, event.at_us);
                    }
                }
                What::Started { instance } if is_set_up => touches.touch(*instance, event.at_us, event.at_us),
                What::Stopped { instance, .. } | What::OpenFailed { instance, .. } => {
                    touches.touch(*instance, event.at_us, event.at_us);
                }
                What::RedisLostData | What::RedisLostRecords { .. } => {
                    (0..instances).for_each(|each| touches.0[each].push((event.at_us, event.at_us)));
                }
                _ => {}
            }
        }
        for (from_us, what) in begun.into_values() {
            touches.add(what, from_us, u64::MAX);
        }
        touches.settle(final_us);
        touches
    }

    fn add(&mut self, fault: &Fault, from_us: u64, until_us: u64) {
        if fault.instances().is_empty() {
            self.0.iter_mut().for_each(|of| of.push((from_us, until_us)));
        }
        fault.instances().iter().for_each(|&instance| self.touch(instance, from_us, until_us));
    }

    fn touch(&mut self, instance: u32, from_us: u64, until_us: u64) {
        if let Some(of) = self.0.get_mut(instance as usize) {
            of.push((from_us, until_us));
        }
    }

    /// Each goes on until the instance has to be back; at the latest where the phase of final reads begins after it.
    fn settle(&mut self, final_us: u64) {
        for (from_us, until_us) in self.0.iter_mut().flatten() {
            let back_us = until_us.saturating_add(BACK_US);
            *until_us = if *until_us <= final_us && *from_us <= final_us { back_us.min(final_us) } else { back_us };
        }
    }

    fn meet(&self, op: &Operation<'_>, returned_us: u64) -> bool {
        let meets = |&(from_us, until_us): &(u64, u64)| from_us <= returned_us && op.called_at_us < until_us;
        self.0.get(op.instance as usize).is_some_and(|of| of.iter().any(meets))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        checker::{
            Guarantee::Availability,
            fixture::{ROUND_TRIP_US, Story},
        },
        history::Stop,
    };

    fn quiet() -> Story {
        let mut story = Story::new(&["p", "p"]);
        (0..2).for_each(|instance| story.event(What::Started { instance }));
        story.phase(Phase::Faults);
        story
    }

    #[test]
    fn calls_that_redis_answers_pass() {
        let mut story = quiet();
        let upsert = story.upsert(0, "u", &["name"], Placement::Shared);
        story.get(1, "u", Source::Shared, &[("name", upsert)]);
        story.list(1, Source::Shared, &["u"]);
        story.remove(0, "u", Placement::Shared);
        story.clear(1, &[]);
        let sync = story.begin(0, Call::Sync);
        story.ok(sync, Answer::Synced { pending: 0 });
        story.passes(Availability);
    }

    #[test]
    fn a_call_that_is_answered_without_redis_is_a_violation() {
        let mut story = quiet();
        let upsert = story.upsert(0, "u", &["name"], Placement::Local);
        story.violates(Availability, "was kept locally", &[upsert]);

        let mut story = quiet();
        let get = story.get_none(0, "u", Source::Local);
        story.violates(Availability, "was answered without Redis", &[get]);

        let mut story = quiet();
        let list = story.list(0, Source::Local, &[]);
        story.violates(Availability, "was answered without Redis", &[list]);
    }

    #[test]
    fn what_was_kept_locally_is_published_before_a_call_is_quiet() {
        let mut story = quiet();
        story.fault(Fault::ResetConnections { instances: vec![0] });
        let upsert = story.upsert(0, "u", &["name"], Placement::Local);
        story.event(What::FaultEnd { fault: 3, effects: 1 });
        story.now_us += BACK_US;
        let get = story.get(0, "u", Source::Merged, &[("name", upsert)]);
        story.violates(Availability, "was merged with a local write that was not pending", &[get]);
    }

    #[test]
    fn a_read_tells_again_of_a_life_that_goes_on_with_a_write_heard_of_late_and_of_no_other() {
        for is_prolonged in [false, true] {
            let mut story = Story::new(&["p", "p", "p"]);
            story.expires_after_ms(10_000);
            (0..3).for_each(|instance| story.event(What::Started { instance }));
            story.phase(Phase::Faults);
            let write = story.upsert(1, "u", &["name"], Placement::Shared);
            story.now_us += 8_000_000;
            story.get(2, "u", Source::Shared, &[("name", write)]);
            story.fault(Fault::ResetConnections { instances: vec![0] });
            story.upsert(0, if is_prolonged { "u" } else { "v" }, &["title"], Placement::Local);
            story.now_us += 2_500_000;
            let again = story.get(2, "u", Source::Merged, &[("name", write)]);
            if is_prolonged {
                story.passes(Availability);
            } else {
                story.violates(Availability, "was merged with a local write that was not pending", &[again]);
            }
        }
    }

    #[test]
    fn a_refusal_and_a_sync_that_leaves_something_pending_are_violations() {
        let mut story = quiet();
        let upsert = story.upsert_begins(0, "u", &["name"]);
        story.fail(upsert, "refused: too large");
        story.violates(Availability, "was refused (refused: too large), although", &[upsert]);

        let mut story = quiet();
        let list = story.begin(0, Call::List);
        story.info(list);
        story.violates(Availability, "was refused", &[list]);

        let mut story = quiet();
        let sync = story.begin(0, Call::Sync);
        story.ok(sync, Answer::Synced { pending: 1 });
        story.violates(Availability, "left writes pending", &[sync]);
    }

    #[test]
    fn a_write_may_be_outrun_by_as_many_others_as_it_is_stamped_again_for_and_reads_show_it_meanwhile() {
        for others in [WRITES_BESIDE - 1, WRITES_BESIDE] {
            let mut story = quiet();
            let outrun = story.upsert_begins(0, "u", &["name"]);
            for _ in 0..others {
                story.upsert(1, "u", &["company"], Placement::Shared);
            }
            story.upsert(1, "v", &["company"], Placement::Shared);
            story.written(outrun, Placement::Local);
            story.get(0, "u", Source::Merged, &[("name", outrun)]);
            if others < WRITES_BESIDE {
                story.violates(Availability, "was kept locally", &[outrun]);
            } else {
                story.passes(Availability);
            }
        }
    }

    #[test]
    fn the_first_read_after_a_loss_may_tell_redis_again_and_no_later_one() {
        let mut story = quiet();
        let write = story.upsert(0, "u", &["name"], Placement::Shared);
        story.loss();
        story.now_us += BACK_US;
        story.get(0, "u", Source::Merged, &[("name", write)]);
        story.get(0, "u", Source::Shared, &[("name", write)]);
        story.passes(Availability);
        let again = story.get(0, "u", Source::Merged, &[("name", write)]);
        story.violates(Availability, "was merged with a local write that was not pending", &[again]);
    }

    #[test]
    fn a_read_tells_again_of_a_removal_only_where_redis_forgets_one_or_lives_end() {
        for (ttl_ms, forgets_ms, is_excused) in
            [(None, None, false), (Some(60_000), None, true), (None, Some(1_000), true)]
        {
            let mut story = quiet();
            if let Some(ms) = ttl_ms {
                story.expires_after_ms(ms);
            }
            if let Some(ms) = forgets_ms {
                story.forgets_removals_after_ms(ms);
            }
            story.remove(1, "u", Placement::Shared);
            let get = story.get_none(0, "u", Source::Merged);
            if is_excused {
                story.passes(Availability);
            } else {
                story.violates(Availability, "was merged with", &[get]);
            }
        }
    }

    #[test]
    fn a_read_tells_again_when_a_record_was_first_revealed_once_its_life_may_be_over() {
        for is_over in [false, true] {
            let mut story = quiet();
            story.expires_after_ms(2_000);
            story.upsert(0, "u", &["name"], Placement::Shared);
            story.now_us += if is_over { 1_900_000 } else { 1_500_000 };
            story.upsert(0, "u", &["name"], Placement::Shared);
            let again = story.upsert(1, "u", &["name"], Placement::Shared);
            let get = story.get(0, "u", Source::Merged, &[("name", again)]);
            if is_over {
                // It is still being published.
                story.get(0, "u", Source::Merged, &[("name", again)]);
                story.passes(Availability);
            } else {
                story.violates(Availability, "was merged with", &[get]);
            }
        }
    }

    #[test]
    fn a_read_beside_a_write_of_its_instance_leaves_what_is_told_again_to_the_next() {
        for (writer, writes_meanwhile) in [(1, false), (0, true)] {
            let mut story = quiet();
            story.expires_after_ms(2_000);
            story.upsert(0, "u", &["name"], Placement::Shared);
            story.now_us += 1_900_000;
            let read = story.get_begins(0, "u");
            let again = story.upsert(writer, "u", &["name"], Placement::Shared);
            story.got(read, Source::Shared, &[("name", again)]);
            let get = story.get(0, "u", Source::Merged, &[("name", again)]);
            if writes_meanwhile {
                story.passes(Availability);
            } else {
                story.violates(Availability, "was merged with", &[get]);
            }
        }
    }

    #[test]
    fn a_write_that_others_outran_may_find_no_room_and_another_may_not() {
        for writes_beside in [WRITES_BESIDE - 1, WRITES_BESIDE] {
            let mut story = quiet();
            let full = story.upsert_begins(0, "u", &["name"]);
            for _ in 0..writes_beside {
                story.upsert(1, "u", &["name"], Placement::Shared);
            }
            story.fail(full, "full: there is no room");
            if writes_beside == WRITES_BESIDE {
                story.passes(Availability);
            } else {
                story.violates(Availability, "was refused (full: there is no room)", &[full]);
            }
        }
    }

    #[test]
    fn a_call_that_takes_long_is_a_violation_and_a_large_one_may_take_longer() {
        let limit_us = ROUND_TRIPS * ROUND_TRIP_US;
        let mut story = quiet();
        let get = story.get_begins(0, "u");
        story.now_us += limit_us;
        story.got_none(get, Source::Shared);
        story.violates(Availability, "took 60100 us, more than 12 slow round trips (60000 us)", &[get]);

        let mut story = quiet();
        let list = story.begin(0, Call::List);
        story.now_us += limit_us;
        story.ok(list, Answer::Listed { source: Source::Shared, uids: Vec::new() });
        story.passes(Availability);
    }

    #[test]
    fn a_fault_excuses_its_instances_while_it_lasts_and_until_they_have_to_be_back() {
        let partition = || Fault::Partition { instances: vec![0], direction: crate::faults::CutDirection::Both };
        let mut story = quiet();
        story.fault(partition());
        story.upsert(0, "u", &["name"], Placement::Local);
        story.event(What::FaultEnd { fault: 3, effects: 1 });
        story.upsert(0, "v", &["name"], Placement::Local);
        story.passes(Availability);
        let mut other = Story::new(&["p", "p"]);
        other.fault(partition());
        let upsert = other.upsert(1, "u", &["name"], Placement::Local);
        other.violates(Availability, "was kept locally", &[upsert]);
        story.now_us += BACK_US;
        let late = story.upsert(0, "w", &["name"], Placement::Local);
        story.violates(Availability, "was kept locally", &[late]);
    }

    #[test]
    fn a_fault_of_redis_excuses_everybody_and_a_restart_its_instance() {
        let mut story = quiet();
        story.fault(Fault::RedisPause);
        story.upsert(1, "u", &["name"], Placement::Local);
        story.event(What::FaultEnd { fault: 3, effects: 1 });
        story.now_us += BACK_US;
        story.stop(0, Stop::Killed);
        story.upsert(0, "v", &["name"], Placement::Local);
        story.passes(Availability);
        let upsert = story.upsert(1, "w", &["name"], Placement::Local);
        story.violates(Availability, "was kept locally", &[upsert]);
    }

    #[test]
    fn final_reads_come_after_the_phase_of_quiescence_and_are_quiet() {
        let mut story = quiet();
        story.fault(Fault::ResetConnections { instances: vec![0] });
        story.event(What::FaultEnd { fault: 3, effects: 1 });
        story.phase(Phase::Quiesce);
        story.phase(Phase::FinalReads);
        let get = story.get_none(0, "u", Source::Local);
        story.violates(Availability, "was answered without Redis", &[get]);
    }
}
