//! When the records of a run may have expired, and when they must have.
//!
//! Records in Redis expire by the bounds of each upsert's life (see `lives`). A read without Redis goes by the clock of its instance
//! and by the lives that the instance knows of, so that it may hide a record that Redis still has. No read shows a life that is over
//! for all instances (`overdue`).

use super::{
    life::{Doubt, UpsertLife},
    operation::{Operation, Seen},
    operations::Operations,
    order::certainly_below,
    record::RecordHistory,
};
use crate::history::{Answer, Placement, Source, Stop};

/// How a life stands at some time of Redis's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Lives,
    MayBeOver(Doubt),
    Over,
}

/// Whose knowledge of lives counts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Knowledge {
    /// Redis's, which has every upsert that it acknowledged.
    Redis,
    /// That of the instance which answers: where Redis did not, it may know of none but its own.
    Instance,
}

impl<'h> Operations<'h> {
    /// Whether what `write` wrote may have expired when `by` returned; of a write that is not known, whether anything of the
    /// record may have.
    pub(super) fn may_expire(
        &self,
        record: &RecordHistory<'h>,
        write: Option<&Operation<'h>>,
        by: &Operation<'h>,
        whose: Knowledge,
    ) -> bool {
        if self.expiry.lives.is_empty() {
            return false;
        }
        let by_us = by.end.map_or(u64::MAX, |end| end.at_us);
        let is_by_instance = whose == Knowledge::Instance && !is_told_by_redis(by);
        let may_expire = |upsert: &Operation<'h>| {
            let Some(life) = self.expiry.lives.get(&upsert.number) else { return false };
            life.may_end_us <= by_us || is_by_instance && self.is_over_to_instance(record, upsert, by)
        };
        match write {
            Some(write) => may_expire(write),
            None => self.upserts(record).any(may_expire),
        }
    }

    /// Whether a list may leave out what Redis still has of a write, since its instance takes that for over: it knows what
    /// Redis holds by then, and judges it by its estimate of Redis's clock.
    pub(super) fn may_be_left_out(
        &self,
        record: &RecordHistory<'h>,
        write: &Operation<'h>,
        list: &Operation<'h>,
    ) -> bool {
        let (Some(life), Some(end)) = (self.expiry.lives.get(&write.number), list.end) else { return false };
        let estimated = self.clocks.estimated_for_a_read(list, end.at_us);
        let is_told = |upsert: &&Operation<'h>| {
            upsert.acknowledged() == Some(Placement::Shared) && upsert.precedes(list) && write.called <= upsert.called
        };
        let told = self.upserts(record).filter(is_told).filter_map(|upsert| self.expiry.lives.get(&upsert.number));
        let ends = told.map(|life| life.ends.least).max().unwrap_or(life.ends.least);
        life.may_end_us <= end.at_us || ends <= estimated.most
    }

    /// Whether all that is shown of a record may have expired in Redis by some time.
    pub(super) fn all_may_expire(&self, record: &RecordHistory<'h>, shown: &[Seen], by_us: u64) -> bool {
        let may_expire =
            |upsert: &Operation<'h>| self.expiry.lives.get(&upsert.number).is_some_and(|life| life.may_end_us <= by_us);
        let mut writers = self.writers_of(record, shown).peekable();
        if writers.peek().is_none() {
            return self.upserts(record).any(may_expire);
        }
        writers.all(|(_, writer)| may_expire(writer))
    }

    /// How the life of an acknowledged upsert stood when the contents of Redis were noted, or at another time.
    pub(super) fn standing(&self, upsert: &Operation<'h>, at_us: u64) -> Standing {
        match self.expiry.lives.get(&upsert.number) {
            Some(life) if life.over < self.clocks.redis(at_us, at_us).least => Standing::Over,
            Some(life) if life.may_end_us <= at_us => Standing::MayBeOver(life.doubt),
            Some(_) | None => Standing::Lives,
        }
    }

    /// The ordinals from which on the record may expire in Redis, once each.
    pub(super) fn expirations<'a>(&'a self, record: &'a RecordHistory<'h>) -> impl Iterator<Item = u64> + 'a {
        self.upserts(record).filter_map(|upsert| self.expires_at(upsert, self.expiry.lives.get(&upsert.number)?))
    }

    /// The ordinal from which on what an upsert wrote may come back after it expired in Redis: Redis had not heard in time of
    /// another write with which its life goes on, and copies tell it again.
    pub(super) fn may_return_at(&self, upsert: &Operation<'h>) -> Option<u64> {
        let life = self.expiry.lives.get(&upsert.number).filter(|life| life.may_return)?;
        self.expires_at(upsert, life)
    }

    /// Whether a value that showed no longer may show again in a later read: its life may go on after Redis ended it before
    /// `until`, unless Redis acknowledged every upsert of the record by then and so heard of all in time.
    pub(super) fn may_show_again(
        &self,
        record: &RecordHistory<'h>,
        writer: &Operation<'h>,
        until: u64,
        read: &Operation<'h>,
    ) -> bool {
        let has_heard = |upsert: &Operation<'h>| upsert.acknowledged() == Some(Placement::Shared);
        let may_return = self.may_return_at(writer).is_some_and(|expired| expired < until);
        may_return
            && (self.clocks.redis_is_set_back()
                || record.imports.iter().any(|&import| self.all[import].called < read.returned())
                || !self.upserts(record).filter(|upsert| upsert.called < read.returned()).all(has_heard))
    }

    /// Whether Redis may have ended a life that goes on: with a write of which it heard late, or because its clock was set
    /// back. An instance with a copy then publishes the cells of that life again (L1, R5).
    pub(super) fn may_live_on(&self, read: &Operation<'h>) -> bool {
        let Some((record, end)) = read.record.map(|record| &self.records[record]).zip(read.end) else { return false };
        self.upserts(record).any(|upsert| {
            let may_be_over = matches!(self.standing(upsert, end.at_us), Standing::MayBeOver(_));
            may_be_over && self.may_show_again(record, upsert, read.returned(), read)
        })
    }

    fn expires_at(&self, upsert: &Operation<'h>, life: &UpsertLife) -> Option<u64> {
        let events = &self.history.events;
        let before = events.partition_point(|event| event.at_us < life.may_end_us).checked_sub(1)?;
        (before + 1 < events.len()).then(|| events[before].ordinal.max(upsert.called))
    }

    /// Whether an instance may take the life of a write for over when it answers without Redis: by its clock, and by what
    /// it has itself written while that went on.
    fn is_over_to_instance(&self, record: &RecordHistory<'h>, write: &Operation<'h>, by: &Operation<'h>) -> bool {
        let (clocks, lives) = (&self.clocks, &self.expiry.lives);
        let most_by = |at_us: u64| clocks.most_estimated(by.instance, write.called_at_us, at_us);
        let mut ends = lives[&write.number].ends.least;
        let own = self.upserts(record).filter(|own| own.instance == by.instance && own.precedes(by));
        for own in own.filter(|own| write.called < own.returned() && self.still_holds(record, own, by)) {
            let renewed = lives[&own.number].ends.least;
            if renewed > ends && own.end.is_some_and(|end| most_by(end.at_us) < ends) {
                ends = renewed;
            }
        }
        ends <= most_by(by.end.map_or(u64::MAX, |end| end.at_us))
    }

    /// Whether an instance certainly holds what it wrote itself.
    fn still_holds(&self, record: &RecordHistory<'h>, own: &Operation<'h>, by: &Operation<'h>) -> bool {
        let (from, until) = (own.called, by.returned());
        let crashed = || {
            let stops = self.stops.iter().filter(|(_, instance, _)| *instance == own.instance);
            stops.into_iter().any(|&(at, _, how)| from < at && at < until && how != Stop::Closed)
        };
        let is_kept = match own.acknowledged() {
            Some(Placement::Local) => true,
            Some(Placement::Shared) => !crashed() && !self.excuses.kept_no_copy(own),
            None => false,
        };
        let mut removals = record.removals.iter().map(|&op| &self.all[op]);
        let may_be_removed =
            removals.any(|removal| removal.called < until && certainly_below(self, removal, own).is_none());
        is_kept
            && !may_be_removed
            && self.history.header.tuning.copies_bytes_max.is_none()
            && !self.excuses.is_damaged(own.instance, from, until)
    }

    /// The upserts that wrote what is shown of a record, with the cells.
    pub(super) fn writers_of<'a>(
        &'a self,
        record: &'a RecordHistory<'h>,
        shown: &'a [Seen],
    ) -> impl Iterator<Item = (usize, &'a Operation<'h>)> {
        let writer = |(cell, seen): (usize, &Seen)| match seen {
            Seen::Tagged(tag) => Some((cell, &self.all[*record.writers.get(&(cell, *tag))?])),
            Seen::Absent | Seen::Present | Seen::Stray => None,
        };
        shown.iter().enumerate().filter_map(writer)
    }

    pub(super) fn upserts<'a>(&'a self, record: &'a RecordHistory<'h>) -> impl Iterator<Item = &'a Operation<'h>> {
        record.upserts.iter().map(|&op| &self.all[op])
    }

    pub(super) fn time_of(&self, ordinal: u64) -> u64 {
        let events = &self.history.events;
        let at = events.partition_point(|event| event.ordinal < ordinal);
        events.get(at).map_or(u64::MAX, |event| event.at_us)
    }
}

/// Whether an answer shows what Redis takes for alive, and nothing else.
fn is_told_by_redis(op: &Operation<'_>) -> bool {
    matches!(op.answer(), Some(Answer::Read { source: Source::Shared, .. }))
}

#[cfg(test)]
mod tests {
    use crate::{
        checker::{
            Guarantee::{Convergence, Durability, Linearizable, Listing, Session},
            fixture::Story,
        },
        faults::Fault,
        history::{
            Phase,
            Placement::{Local, Shared},
            Source, Stop, What,
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
        // What the instance itself knew had expired.
        story.get_none(0, "u", Source::Local);
        story.passes(Session);
        let read = story.get(0, "u", Source::Shared, &[("@a", renewed)]);
        story.violates(Linearizable, "that there is none", &[write, read]);
        story.violates(Session, "went back", &[write, read]);
        story.phase(Phase::FinalReads);
        let last = story.get(0, "u", Source::Shared, &[("@a", renewed)]);
        story.violates(Durability, "nobody removed the record", &[write, last]);
    }

    #[test]
    fn a_write_made_while_cut_off_is_joined_with_the_life_that_others_kept_going() {
        let mut story = expiring();
        let cut_off = story.upsert(0, "u", &["name"], Local);
        story.now_us += TTL_US / 2;
        story.upsert(1, "u", &["title"], Shared);
        story.now_us += TTL_US * 3 / 4;
        let renewed = story.upsert(1, "u", &["title"], Shared);
        story.now_us += TTL_US / 4;
        story.phase(Phase::FinalReads);
        let last = story.get(1, "u", Source::Shared, &[("title", renewed)]);
        story.violates(Durability, "nobody removed the record", &[cut_off, last]);
    }

    #[test]
    fn what_expired_in_redis_may_come_back_with_a_write_that_prolongs_its_life_and_not_without() {
        for prolonged in [false, true] {
            let mut story = expiring();
            let write = story.upsert(1, "u", &["name"], Shared);
            story.now_us += TTL_US / 2;
            let later = if prolonged { story.upsert(0, "u", &["title"], Local) } else { write };
            story.now_us += TTL_US * 55 / 100;
            let none = story.get_none(1, "u", Source::Shared);
            let read = story.get(1, "u", Source::Shared, &[("name", write)]);
            if prolonged {
                story.get(1, "u", Source::Shared, &[("name", write), ("title", later)]);
                story.passes(Linearizable);
            } else {
                story.violates(Linearizable, "had answered that there is none", &[write, none, read]);
            }
        }
    }

    #[test]
    fn what_expired_in_redis_may_come_back_when_its_clock_goes_back() {
        for goes_back in [false, true] {
            let mut story = expiring();
            let write = story.upsert(1, "u", &["name"], Shared);
            story.now_us += TTL_US * 95 / 100;
            let none = story.get_none(1, "u", Source::Shared);
            if goes_back {
                story.redis_clock_steps(-60_000);
            }
            let read = story.get(1, "u", Source::Shared, &[("name", write)]);
            if goes_back {
                story.passes(Linearizable);
            } else {
                story.violates(Linearizable, "had answered that there is none", &[write, none, read]);
            }
        }
    }

    #[test]
    fn what_the_clock_of_redis_ended_by_a_step_may_come_back_when_that_is_undone() {
        for goes_back in [false, true] {
            let mut story = expiring();
            let write = story.upsert(1, "u", &["name"], Shared);
            story.redis_clock_steps(900_000);
            let none = story.get_none(1, "u", Source::Shared);
            if goes_back {
                story.redis_clock_steps(-900_000);
            }
            let read = story.get(1, "u", Source::Shared, &[("name", write)]);
            if goes_back {
                story.passes(Linearizable);
            } else {
                story.violates(Linearizable, "had answered that there is none", &[write, none, read]);
            }
        }
    }

    #[test]
    fn a_write_whose_life_ended_before_the_present_one_began_does_not_return() {
        let mut story = expiring();
        let cut_off = story.upsert(0, "u", &["name"], Local);
        story.now_us += TTL_US * 5 / 4;
        let later = story.upsert(1, "u", &["title"], Shared);
        story.phase(Phase::FinalReads);
        story.get(0, "u", Source::Shared, &[("title", later)]);
        story.passes(Durability);
        let read = story.get(0, "u", Source::Shared, &[("name", cut_off), ("title", later)]);
        story.violates(Session, "in a life that was over", &[cut_off, read]);
        story.violates(Linearizable, "in a life that was over", &[cut_off, read]);
    }

    #[test]
    fn a_wrong_clock_excuses_what_its_instance_wrote_before_it_met_redis_and_no_more() {
        for meets in [false, true] {
            let mut story = expiring();
            let others = story.upsert(1, "u", &["name"], Shared);
            story.stop(0, Stop::Closed);
            story.clock_steps(0, -60_000);
            if meets {
                story.get_none(0, "v", Source::Shared);
            }
            let own = story.upsert(0, "u", &["@a"], Local);
            story.stop(0, Stop::Killed);
            story.now_us += TTL_US / 4;
            story.phase(Phase::FinalReads);
            let read = story.get(0, "u", Source::Shared, &[("name", others)]);
            let none_is_lost =
                |story: &Story, lost, by| story.violates(Durability, "nobody removed the record", &[lost, by]);
            if meets {
                none_is_lost(&story, own, read);
                continue;
            }
            story.passes(Durability);
            let gone = story.get_none(0, "u", Source::Shared);
            none_is_lost(&story, others, gone);
        }
    }

    #[test]
    fn what_was_written_by_a_wrong_clock_is_right_once_its_instance_has_met_redis() {
        let mut story = expiring();
        story.clock_steps(0, 60_000);
        story.stop(0, Stop::Closed);
        let write = story.upsert(0, "u", &["name"], Local);
        story.get_none(0, "v", Source::Shared);
        story.now_us += TTL_US * 3 / 2;
        let read = story.get(1, "u", Source::Shared, &[("name", write)]);
        story.violates(Session, "in a life that was over", &[write, read]);
    }

    #[test]
    fn the_clock_of_redis_ends_lives_and_its_steps_are_known() {
        let mut story = expiring();
        let over = story.upsert(0, "u", &["name"], Shared);
        story.now_us += TTL_US / 4;
        story.redis_clock_steps(60_000);
        let gone = story.get_none(1, "u", Source::Shared);
        for guarantee in [Linearizable, Session] {
            story.passes(guarantee);
        }
        story.now_us += TTL_US / 2;
        // It has heard of the step.
        story.get_none(0, "v", Source::Shared);
        let write = story.upsert(0, "u", &["title"], Shared);
        story.now_us += TTL_US / 2;
        let read = story.get_none(1, "u", Source::Shared);
        story.violates(Linearizable, "that there is none", &[over, gone, write, read]);
    }

    #[test]
    fn a_life_told_before_the_clock_of_redis_went_back_goes_on_and_takes_others_along() {
        let mut story = expiring();
        story.get_none(0, "v", Source::Shared);
        story.redis_clock_steps(60_000);
        story.now_us += TTL_US / 2;
        story.upsert(1, "u", &["name"], Shared);
        story.redis_clock_steps(-60_000);
        story.now_us += TTL_US / 2;
        story.get_none(0, "v", Source::Shared);
        story.now_us += TTL_US / 2;
        let joined = story.upsert(0, "u", &["title"], Shared);
        // Longer than a life that may lie anywhere prolongs another.
        story.now_us += TTL_US * 3;
        story.get(0, "u", Source::Shared, &[("title", joined)]);
        story.passes(Session);
    }

    #[test]
    fn a_list_goes_by_the_estimate_of_its_instance_which_may_not_have_heard_of_a_step_yet() {
        for heard in [false, true] {
            let mut story = expiring();
            story.get_none(0, "v", Source::Shared);
            story.redis_clock_steps(-60_000);
            if heard {
                story.now_us += TTL_US / 2;
                story.get_none(0, "v", Source::Shared);
            }
            let write = story.upsert(1, "u", &["name"], Shared);
            let list = story.list(0, Source::Shared, &[]);
            if heard {
                story.violates(Listing, "which was there throughout", &[write, list]);
            } else {
                story.passes(Listing);
            }
        }
    }

    #[test]
    fn a_wall_clock_that_steps_forth_may_hide_a_record_from_its_instance_and_from_nobody_else() {
        let mut story = expiring();
        let write = story.upsert(0, "u", &["name"], Shared);
        story.clock_steps(0, 60_000);
        story.get_none(0, "u", Source::Local);
        story.passes(Session);
        let read = story.get_none(0, "u", Source::Shared);
        story.violates(Session, "went back", &[write, read]);
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
    fn without_redis_a_record_is_not_shown_past_its_end_by_the_clock_that_went_further() {
        for is_cut_off in [false, true] {
            let mut story = expiring();
            let write = story.upsert(0, "u", &["name"], Shared);
            if is_cut_off {
                story.fault(Fault::RedisPause);
            }
            story.now_us += TTL_US / 2;
            story.clock_steps(0, 60_000);
            story.get(1, "u", Source::Local, &[("name", write)]);
            story.passes(Session);
            let read = story.get(0, "u", Source::Local, &[("name", write)]);
            if is_cut_off {
                story.violates(Session, "in a life that was over", &[write, read]);
            } else {
                // It may have heard from Redis since.
                story.passes(Session);
            }
        }
    }

    #[test]
    fn what_is_written_in_the_microsecond_of_a_crash_is_of_the_process_that_crashed() {
        let mut story = expiring();
        story.get_none(0, "u", Source::Shared);
        story.fault(Fault::RedisPause);
        story.now_us += 2 * crate::checker::clocks::ESTIMATE_US.unsigned_abs() + 1_000_000;
        // Its wall clock goes far ahead: what it wrote may live until a time to live after it is published.
        story.clock_steps(0, 60_000);
        let write = story.upsert_begins(0, "u", &["name"]);
        story.now_us -= 100;
        story.stop(0, Stop::PowerLost);
        story.event(What::FaultEnd { fault: 2, effects: 1 });
        story.now_us += TTL_US * 3 / 2;
        story.get(0, "u", Source::Shared, &[("name", write)]);
        story.passes(Session);
    }

    #[test]
    fn what_is_written_after_a_sleep_lives_its_time() {
        let mut story = expiring();
        story.get_none(0, "u", Source::Shared);
        story.sleeps(0, 2 * TTL_US);
        let write = story.upsert(0, "u", &["name"], Local);
        story.now_us += TTL_US / 2;
        story.phase(Phase::FinalReads);
        let read = story.get_none(1, "u", Source::Shared);
        story.violates(Durability, "nobody removed the record", &[write, read]);
    }

    #[test]
    fn a_record_is_not_shown_after_a_sleep_that_lasted_longer_than_its_life() {
        let mut story = expiring();
        let write = story.upsert(0, "u", &["name"], Shared);
        story.fault(Fault::RedisPause);
        story.sleeps(0, 2 * TTL_US);
        let read = story.get(0, "u", Source::Local, &[("name", write)]);
        story.violates(Session, "in a life that was over", &[write, read]);
    }

    #[test]
    fn what_has_certainly_expired_must_not_be_shown_from_any_source() {
        for source in [Source::Local, Source::Merged, Source::Shared] {
            let mut story = expiring();
            story.get_none(0, "v", Source::Shared);
            let write = story.upsert(0, "u", &["name"], Local);
            story.now_us += TTL_US;
            story.get(0, "u", source, &[("name", write)]);
            story.passes(Session);
            story.now_us += TTL_US / 5;
            let read = story.get(0, "u", source, &[("name", write)]);
            story.violates(Session, "in a life that was over", &[write, read]);
        }
    }

    #[test]
    fn an_empty_record_that_has_certainly_expired_must_not_be_shown_either() {
        let mut story = expiring();
        let write = story.upsert(0, "u", &[], Shared);
        story.now_us += TTL_US * 6 / 5;
        let read = story.get(0, "u", Source::Shared, &[]);
        story.violates(Session, "in a life that was over", &[write, read]);
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
