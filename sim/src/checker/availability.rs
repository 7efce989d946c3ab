//! G13: an instance that can reach a working Redis uses it.
//!
//! A call is quiet if for [`BACK_US`] before it, and until it returned, no fault touched its instance, that one's disk
//! and clock, Redis or the way between, and the instance ran all the time; from the phase of final reads on the phase of
//! quiescence, which is longer than that or ended at rest, stands for this time. A quiet call is answered by Redis:
//! `Shared`, or `Merged` where the instance may have had something pending that Redis lacks. It is not refused, and it takes no
//! longer than [`PROMPT_US`], where links take a millisecond or two; `sync` ends at zero.
//!
//! Excused, each with its count: calls that a fault touched, those that never returned or were given up, and writes kept
//! locally since others of the record were in the way again and again.

use std::collections::BTreeMap;

use super::{
    Account, Excuse, Verdict,
    operations::{Operation, Operations},
};
use crate::{
    faults::Fault,
    history::{Answer, Call, Outcome, Phase, Placement, Source, What},
};

/// How long after it was touched an instance may take to use Redis again: the longest delay before a reconnect, an attempt
/// that fails, and the opening of a store.
const BACK_US: u64 = 12_000_000;

/// What a quiet call may take. A link takes at most a few milliseconds; a large record or a list needs many segments or
/// pages; a connection that was closed while idle is noticed within one timeout for a reply.
const PROMPT_US: u64 = 250_000;

/// So many writes in its way may make a write give up: the client stamps it again for each.
const CONFLICTS_MAX: usize = 4;

/// When an instance was touched: from when to when, in simulated microseconds.
struct Touches(Vec<Vec<(u64, u64)>>);

pub(super) fn check(run: &Operations<'_>, account: &mut Account) -> Verdict {
    let touches = Touches::of(run);
    let mut found = None;
    for op in &run.all {
        let excuse = excuse(run, &touches, op);
        account.count(excuse);
        if excuse.is_none() && found.is_none() {
            found = fault_of(run, op).map(|message| Verdict::Violation { message, ops: vec![op.number] });
        }
    }
    found.unwrap_or(Verdict::Pass)
}

fn excuse(run: &Operations<'_>, touches: &Touches, op: &Operation<'_>) -> Option<Excuse> {
    match op.end.filter(|_| !op.is_cancelled) {
        None => Some(Excuse::Stopped),
        Some(end) if touches.meet(op, end.at_us) => Some(Excuse::Touched),
        Some(_) => is_outrun(run, op).then_some(Excuse::Contended),
    }
}

/// Whether a write was kept locally, and as many writes of other instances came in its way as it is stamped again for (R10).
fn is_outrun(run: &Operations<'_>, op: &Operation<'_>) -> bool {
    let Some(record) = op.record.filter(|_| op.acknowledged() == Some(Placement::Local)) else { return false };
    let record = &run.records[record];
    let others = record.upserts.iter().chain(&record.removals).map(|&other| &run.all[other]);
    let in_the_way =
        |other: &&Operation<'_>| other.instance != op.instance && !other.precedes(op) && !op.precedes(other);
    others.filter(in_the_way).count() >= CONFLICTS_MAX
}

/// What is wrong with the answer to a quiet call, if anything is.
fn fault_of(run: &Operations<'_>, op: &Operation<'_>) -> Option<String> {
    let end = op.end?;
    let took_us = end.at_us.saturating_sub(op.called_at_us);
    if took_us > PROMPT_US {
        return Some(format!(
            "{op} took {took_us} us, although Redis could be reached and nothing touched its instance"
        ));
    }
    let answer = match end.outcome {
        Outcome::Ok { answer } => answer,
        Outcome::Fail { error } | Outcome::Info { error } => {
            return Some(format!("{op} was refused, although Redis could be reached: {error}"));
        }
    };
    let is_shared = match answer {
        Answer::Written { placement, .. } | Answer::Cleared { placement, .. } => *placement == Placement::Shared,
        Answer::Read { source, .. } | Answer::Listed { source, .. } => match source {
            Source::Shared => true,
            Source::Merged => may_have_pending(run, op),
            Source::Local => false,
        },
        Answer::Synced { pending } => *pending == 0,
    };
    (!is_shared).then(|| format!("{op} was not answered by Redis, although that could be reached"))
}

/// Whether an instance may hold what Redis lacks: what it wrote and Redis did not acknowledge, or what Redis has lost.
fn may_have_pending(run: &Operations<'_>, read: &Operation<'_>) -> bool {
    let tuning = &run.history.header.tuning;
    if !run.losses.is_empty() || tuning.record_ttl_ms.is_some() || tuning.tombstone_ttl_ms.is_some() {
        return true;
    }
    let writes = |op: &&Operation<'_>| matches!(op.call, Call::Upsert { .. } | Call::Remove { .. } | Call::Clear);
    let mine = run.all.iter().filter(|op| op.instance == read.instance && op.called < read.returned());
    let doubtful =
        |op: &Operation<'_>| op.acknowledged() != Some(Placement::Shared) && op.may_have_effect() || !op.precedes(read);
    mine.filter(writes).any(doubtful)
}

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
                What::FaultBegin { fault, what } => {
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
        checker::{Guarantee::Availability, fixture::Story},
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
        story.violates(Availability, "was not answered by Redis", &[upsert]);

        let mut story = quiet();
        let get = story.get_none(0, "u", Source::Local);
        story.violates(Availability, "was not answered by Redis", &[get]);

        let mut story = quiet();
        let list = story.list(0, Source::Local, &[]);
        story.violates(Availability, "was not answered by Redis", &[list]);
    }

    #[test]
    fn a_read_is_merged_only_where_something_may_be_pending() {
        for is_pending in [true, false] {
            let mut story = quiet();
            story.fault(Fault::ResetConnections { instances: vec![0] });
            let upsert = story.upsert(0, "u", &["name"], if is_pending { Placement::Local } else { Placement::Shared });
            story.event(What::FaultEnd { fault: 3, effects: 1 });
            story.now_us += BACK_US;
            let get = story.get(0, "u", Source::Merged, &[("name", upsert)]);
            if is_pending {
                story.passes(Availability);
            } else {
                story.violates(Availability, "was not answered by Redis", &[get]);
            }
        }
    }

    #[test]
    fn a_refusal_and_a_sync_that_leaves_something_pending_are_violations() {
        let mut story = quiet();
        let upsert = story.upsert_begins(0, "u", &["name"]);
        story.fail(upsert, "refused: too large");
        story.violates(Availability, "was refused, although Redis could be reached: refused", &[upsert]);

        let mut story = quiet();
        let list = story.begin(0, Call::List);
        story.info(list);
        story.violates(Availability, "was refused", &[list]);

        let mut story = quiet();
        let sync = story.begin(0, Call::Sync);
        story.ok(sync, Answer::Synced { pending: 1 });
        story.violates(Availability, "was not answered by Redis", &[sync]);
    }

    #[test]
    fn a_write_may_be_outrun_by_as_many_of_other_instances_as_it_is_stamped_again_for() {
        for others in [CONFLICTS_MAX - 1, CONFLICTS_MAX] {
            let mut story = quiet();
            let outrun = story.upsert_begins(0, "u", &["name"]);
            for _ in 0..others {
                story.upsert(1, "u", &["company"], Placement::Shared);
            }
            story.upsert(1, "v", &["company"], Placement::Shared);
            story.written(outrun, Placement::Local);
            if others < CONFLICTS_MAX {
                story.violates(Availability, "was not answered by Redis", &[outrun]);
            } else {
                story.passes(Availability);
            }
        }
    }

    #[test]
    fn a_call_that_takes_long_is_a_violation() {
        let mut story = quiet();
        let get = story.get_begins(0, "u");
        story.now_us += PROMPT_US;
        story.got_none(get, Source::Shared);
        story.violates(Availability, "took 250100 us", &[get]);
    }

    #[test]
    fn a_fault_excuses_its_instances_while_it_lasts_and_until_they_have_to_be_back() {
        let partition = || Fault::Partition { instances: vec![0], direction: crate::faults::Direction::Both };
        let mut story = quiet();
        story.fault(partition());
        story.upsert(0, "u", &["name"], Placement::Local);
        story.event(What::FaultEnd { fault: 3, effects: 1 });
        story.upsert(0, "v", &["name"], Placement::Local);
        story.passes(Availability);
        let mut other = Story::new(&["p", "p"]);
        other.fault(partition());
        let upsert = other.upsert(1, "u", &["name"], Placement::Local);
        other.violates(Availability, "was not answered by Redis", &[upsert]);
        story.now_us += BACK_US;
        let late = story.upsert(0, "w", &["name"], Placement::Local);
        story.violates(Availability, "was not answered by Redis", &[late]);
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
        story.violates(Availability, "was not answered by Redis", &[upsert]);
    }

    #[test]
    fn final_reads_come_after_the_phase_of_quiescence_and_are_quiet() {
        let mut story = quiet();
        story.fault(Fault::ResetConnections { instances: vec![0] });
        story.event(What::FaultEnd { fault: 3, effects: 1 });
        story.phase(Phase::Quiesce);
        story.phase(Phase::FinalReads);
        let get = story.get_none(0, "u", Source::Local);
        story.violates(Availability, "was not answered by Redis", &[get]);
    }
}
