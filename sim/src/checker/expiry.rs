//! When the records of a run may have expired, and when they must have.
//!
//! Every upsert gives its record a new deadline: the time to live, less up to a tenth, from when it was called, by Redis's
//! clock or by its author's estimate of that. The deadline of a record is that of the upsert on top. When it passes, Redis
//! buries the record under that upsert's stamp: with it goes all that lies below, and nothing that lies above.
//!
//! So what an upsert wrote may be gone by some time if the deadline of it, or of one that may lie above it, may have
//! passed by then; not by the deadline of one that Redis had certainly put another on top of before. An instance that
//! does not know of the other one goes by what it knows.

use super::{
    operations::{Operation, Operations, Record},
    order::certainly_below,
};
use crate::{
    faults::Fault,
    history::{Call, History, Placement, What},
};

/// How old an estimate of Redis's clock is when it is made: a round trip, at most the time a client waits for a reply.
const ESTIMATE_US: u64 = 300_000;

/// How long a request may take to be executed while nothing is wrong.
const EXECUTED_US: u64 = 500_000;

/// How long it may take at most: what a kernel goes on sending for an application that has closed the connection, and a
/// few attempts more.
const EXECUTED_US_MAX: u64 = 140_000_000;

/// The times that deadlines depend on.
#[derive(Default)]
#[expect(clippy::struct_field_names, reason = "all are times, and the unit stands last")]
pub(super) struct Expiry {
    ttl_us: Option<u64>,
    /// How wrong a deadline, or what it is compared with, can be.
    error_us: u64,
    /// How late a write can be executed: its deadline is that much later.
    late_us: u64,
}

/// Whose knowledge of deadlines counts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Knowledge {
    /// Redis's, which has every upsert that it acknowledged.
    Redis,
    /// An instance's, which may know of none but its own.
    Instance,
}

impl Expiry {
    pub(super) fn of(history: &History) -> Self {
        let Some(ttl_ms) = history.header.tuning.record_ttl_ms else { return Self::default() };
        let (mut paused_us, mut slowed_us) = (0, 0);
        for (index, event) in history.events.iter().enumerate() {
            let What::FaultBegin { fault, what } = &event.what else { continue };
            let ends = |later: &&crate::history::Event| matches!(later.what, What::FaultEnd { fault: number, .. } if number == *fault);
            let lasts_us = history.events[index..].iter().find(ends).map_or(u64::MAX, |end| end.at_us - event.at_us);
            match what {
                Fault::InstancePause { .. } | Fault::InstanceSuspend { .. } => {
                    paused_us = lasts_us.saturating_add(paused_us);
                }
                Fault::Partition { .. } | Fault::SlowLink { .. } | Fault::BadNetwork { .. } | Fault::RedisPause => {
                    slowed_us = lasts_us.saturating_add(slowed_us);
                }
                _ => {}
            }
        }
        let clocks_us = history.header.clock_error_ms.saturating_mul(1_000);
        let slowed_us = slowed_us.saturating_add(paused_us);
        Self {
            ttl_us: Some(ttl_ms.saturating_mul(1_000)),
            error_us: ESTIMATE_US.saturating_add(paused_us).saturating_add(clocks_us).saturating_mul(2),
            // The time between two retransmissions doubles: the last one may come as late again.
            late_us: slowed_us.saturating_mul(2).saturating_add(EXECUTED_US).min(EXECUTED_US_MAX),
        }
    }

    /// When the deadline of an upsert may have passed; the end of time if records live for ever.
    fn earliest_us(&self, upsert: &Operation<'_>) -> u64 {
        let Some(ttl_us) = self.ttl_us else { return u64::MAX };
        let lives_us = (ttl_us / 10 * 9).saturating_sub(self.error_us);
        upsert.called_at_us.saturating_add(lives_us)
    }

    /// When it has certainly passed, for everybody.
    fn latest_us(&self, upsert: &Operation<'_>) -> u64 {
        let ttl_us = self.ttl_us.unwrap_or(u64::MAX);
        upsert.called_at_us.saturating_add(ttl_us).saturating_add(self.error_us).saturating_add(self.late_us)
    }
}

impl<'h> Operations<'h> {
    /// Whether what `write` wrote may have expired when `by` returned; of a write that is not known, whether anything of the
    /// record may have.
    pub(super) fn may_expire(
        &self,
        record: &Record<'h>,
        write: Option<&Operation<'h>>,
        by: &Operation<'h>,
        whose: Knowledge,
    ) -> bool {
        let by = (by.returned(), by.end.map_or(u64::MAX, |end| end.at_us));
        self.may_expire_by(record, write, by, whose)
    }

    /// The same, by an ordinal and its time.
    pub(super) fn may_expire_by(
        &self,
        record: &Record<'h>,
        write: Option<&Operation<'h>>,
        (by, by_us): (u64, u64),
        whose: Knowledge,
    ) -> bool {
        let reaches = |upsert: &Operation<'h>| {
            write.is_none_or(|write| write.number == upsert.number || certainly_below(self, upsert, write).is_none())
        };
        self.expiry.ttl_us.is_some()
            && self.upserts(record).any(|upsert| {
                self.expiry.earliest_us(upsert) <= by_us
                    && reaches(upsert)
                    && (whose == Knowledge::Instance || !self.is_renewed(record, upsert, by))
            })
    }

    /// The ordinals from which on the record may expire in Redis, once each.
    pub(super) fn expirations<'a>(&'a self, record: &'a Record<'h>) -> impl Iterator<Item = u64> + 'a {
        let events = &self.history.events;
        let upserts = self.upserts(record).filter(|_| self.expiry.ttl_us.is_some());
        upserts.filter(|upsert| !self.is_renewed(record, upsert, u64::MAX)).filter_map(|upsert| {
            let earliest_us = self.expiry.earliest_us(upsert);
            let before = events.partition_point(|event| event.at_us < earliest_us).checked_sub(1)?;
            (before + 1 < events.len()).then(|| events[before].ordinal.max(upsert.called))
        })
    }

    /// Whether a read shows a record of which every deadline had passed before it was called.
    pub(super) fn is_overdue(&self, record: &Record<'h>, read: &Operation<'h>) -> bool {
        let passed = |upsert: &Operation<'h>| self.expiry.latest_us(upsert) < read.called_at_us;
        matches!(read.call, Call::Get { .. })
            && read.record_read().is_some()
            && self.upserts(record).filter(|upsert| upsert.called < read.returned()).all(passed)
    }

    fn upserts<'a>(&'a self, record: &'a Record<'h>) -> impl Iterator<Item = &'a Operation<'h>> {
        record.upserts.iter().map(|&op| &self.all[op])
    }

    /// Whether Redis had certainly another upsert on top of this one before its deadline, and kept it.
    fn is_renewed(&self, record: &Record<'h>, upsert: &Operation<'h>, until: u64) -> bool {
        let in_time = |other: &Operation<'h>| {
            other.acknowledged() == Some(Placement::Shared)
                && other.end.is_some_and(|end| end.at_us < self.expiry.earliest_us(upsert))
                && certainly_below(self, upsert, other).is_some()
        };
        !self.lost_between(upsert.called, until) && self.upserts(record).any(in_time)
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        checker::{
            Guarantee::{Convergence, Durability, Linearizable, Listing, Session},
            fixture::Story,
        },
        history::{
            Phase,
            Placement::{Local, Shared},
            Source, Stop,
        },
    };

    const TTL_US: u64 = 10_000_000;

    fn expiring() -> Story {
        let mut story = Story::new(&["p", "p"]);
        story.expires_after_ms(TTL_US / 1_000);
        story
    }

    #[test]
    fn a_record_may_be_gone_once_its_time_is_over_and_not_before() {
        for (after_us, may_be_gone) in [(TTL_US, true), (TTL_US / 2, false)] {
            let mut story = expiring();
            let write = story.upsert(0, "u", &["name"], Shared);
            story.now_us += after_us;
            let list = story.list(0, Source::Shared, &[]);
            let read = story.get_none(0, "u", Source::Shared);
            story.phase(Phase::FinalReads);
            let final_read = story.get_none(0, "u", Source::Shared);
            story.get_none(1, "u", Source::Shared);
            if may_be_gone {
                for guarantee in [Linearizable, Convergence, Durability, Session, Listing] {
                    story.passes(guarantee);
                }
            } else {
                story.violates(Linearizable, "nobody wrote that", &[write, read]);
                story.violates(Durability, "nobody removed the record", &[write, final_read]);
                story.violates(Session, "nobody can have removed it since", &[write, read]);
                story.violates(Listing, "which its instance held since", &[write, list]);
            }
        }
    }

    #[test]
    fn an_upsert_begins_the_time_anew_for_the_whole_record() {
        let mut story = expiring();
        let write = story.upsert(0, "u", &["name"], Shared);
        story.now_us += TTL_US / 2;
        let renewed = story.upsert(1, "u", &["@a"], Shared);
        story.now_us += TTL_US * 3 / 4;
        let read = story.get(0, "u", Source::Shared, &[("@a", renewed)]);
        story.violates(Linearizable, "that there is none", &[write, read]);
        // What the instance itself knew had expired.
        story.passes(Session);
        story.phase(Phase::FinalReads);
        let last = story.get(0, "u", Source::Shared, &[("@a", renewed)]);
        story.violates(Durability, "nobody removed the record", &[write, last]);
    }

    #[test]
    fn an_upsert_that_redis_lost_renews_nothing() {
        let mut story = expiring();
        story.upsert(0, "u", &["name"], Shared);
        story.now_us += TTL_US / 2;
        let renewed = story.upsert(1, "u", &["@a"], Shared);
        story.loss();
        story.now_us += TTL_US * 3 / 4;
        story.phase(Phase::FinalReads);
        story.get(0, "u", Source::Shared, &[("@a", renewed)]);
        story.passes(Durability);
        story.passes(Linearizable);
    }

    #[test]
    fn what_has_certainly_expired_must_not_be_shown_from_any_source() {
        for source in [Source::Local, Source::Merged, Source::Shared] {
            let mut story = expiring();
            let write = story.upsert(0, "u", &["name"], Local);
            story.now_us += TTL_US;
            story.get(0, "u", source, &[("name", write)]);
            story.passes(Session);
            story.now_us += TTL_US;
            let read = story.get(0, "u", source, &[("name", write)]);
            story.violates(Session, "whose time to live was over", &[write, read]);
        }
    }

    #[test]
    fn a_record_that_expired_may_show_again_to_an_instance_that_did_not_know_better() {
        let mut story = expiring();
        let write = story.upsert(0, "u", &["name"], Shared);
        story.now_us += TTL_US / 2;
        let renewed = story.upsert(1, "u", &["@a"], Shared);
        story.now_us += TTL_US * 3 / 5;
        story.get_none(0, "u", Source::Local);
        story.get(0, "u", Source::Shared, &[("name", write), ("@a", renewed)]);
        story.passes(Session);
    }

    #[test]
    fn final_reads_may_meet_the_end_of_a_record_and_not_its_return() {
        let mut story = expiring();
        let write = story.upsert(0, "u", &["name"], Shared);
        story.stop(0, Stop::Closed);
        story.phase(Phase::FinalReads);
        story.now_us += TTL_US * 95 / 100;
        story.get(0, "u", Source::Shared, &[("name", write)]);
        let none = story.get_none(1, "u", Source::Shared);
        story.passes(Convergence);
        let again = story.get(0, "u", Source::Shared, &[("name", write)]);
        story.violates(Convergence, "the final reads differ", &[none, again]);
    }

    #[test]
    fn a_removal_that_came_back_is_not_excused_by_expiry() {
        let mut story = expiring();
        let write = story.upsert(0, "u", &["name"], Shared);
        let removal = story.remove(0, "u", Shared);
        story.now_us += TTL_US;
        let read = story.get(0, "u", Source::Shared, &[("name", write)]);
        story.violates(Session, "went back", &[write, removal, read]);
    }
}
