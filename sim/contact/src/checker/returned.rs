//! A value that was gone by Redis's word does not come back. Part of G6, and judged cell by cell.
//!
//! Beside the values that an instance had itself (see `session`), Redis's word counts for all instances. Once a read that Redis answered lacked a
//! value that Redis had acknowledged before, the value had expired, or was removed or overwritten. From then on no read shows it that asks
//! Redis, nor a read without Redis of an instance that was told so in the same process. That needs no clock: it holds in the time
//! in which a life may be over or not. Data that Redis may have lost, and lives that may go on, are exempt. Each exemption is counted.
//!
//! By time: at the end of a run neither Redis nor a store holds a value whose life is over for all instances (reads are held to that
//! by [`Operations::overdue`]).

use std::collections::BTreeMap;

use super::{
    Account, Verdict,
    expiry::Standing,
    operation::{Operation, Seen, numbers},
    operations::Operations,
    record::RecordHistory,
};
use crate::history::{Placement, Source};

pub(super) fn check(run: &Operations<'_>, account: &mut Account) -> Verdict {
    if run.expiry.lives.is_empty() {
        return Verdict::Pass;
    }
    for record in &run.records {
        if let Some(violation) = stored(run, record).or_else(|| Gone::of(run, record).shown_again(account)) {
            return violation;
        }
    }
    Verdict::Pass
}

fn stored(run: &Operations<'_>, record: &RecordHistory<'_>) -> Option<Verdict> {
    record.stored.iter().find_map(|stored| {
        let is_over = |writer: &Operation<'_>| run.standing(writer, stored.at_us) == Standing::Over;
        let (cell, writer) = run.writers_of(record, &stored.shown).find(|(_, writer)| is_over(writer))?;
        let place = record.name(cell);
        let message = format!("{place}: {stored} holds what {writer} wrote, in a life that was over");
        Some(Verdict::Violation { message, ops: numbers(&[writer]) })
    })
}

/// The values of a record that were gone, by Redis's word.
struct Gone<'a, 'h> {
    run: &'a Operations<'h>,
    record: &'a RecordHistory<'h>,
    /// The reads that Redis answered, in the order of their returns: of each instance, and of all.
    told: BTreeMap<Option<u32>, Vec<&'a Operation<'h>>>,
    /// The first of these reads that lacked a value.
    first: BTreeMap<Lookup, Option<&'a Operation<'h>>>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Lookup {
    cell: usize,
    value: Seen,
    /// Only reads that were called later.
    since: u64,
    /// Only reads of this instance.
    instance: Option<u32>,
}

impl<'a, 'h> Gone<'a, 'h> {
    fn of(run: &'a Operations<'h>, record: &'a RecordHistory<'h>) -> Self {
        let reads = record.reads.iter().map(|&op| &run.all[op]);
        let mut reads: Vec<_> = reads.filter(|op| op.source() == Some(Source::Shared)).collect();
        reads.sort_by_key(|op| op.returned());
        let mut told: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for &read in &reads {
            told.entry(Some(read.instance)).or_default().push(read);
        }
        told.insert(None, reads);
        Self { run, record, told, first: BTreeMap::new() }
    }

    fn shown_again(&mut self, account: &mut Account) -> Option<Verdict> {
        let (run, record) = (self.run, self.record);
        for read in record.reads.iter().map(|&op| &run.all[op]) {
            for (cell, writer) in run.writers_of(record, &read.shown) {
                if writer.acknowledged() != Some(Placement::Shared) {
                    continue;
                }
                let Some(without) = self.lacked_before(read, cell, writer.returned()) else { continue };
                if let Some(exempt) = self.exempt(read, cell, writer) {
                    account.note(exempt, 1);
                    continue;
                }
                let place = record.name(cell);
                let message = format!(
                    "{place}: {read} shows what {writer} wrote, which was gone from Redis by {without}: it came back"
                );
                return Some(Verdict::Violation { message, ops: numbers(&[writer, without, read]) });
            }
        }
        None
    }

    /// The first read called since then, and returned before `read` was called, in which Redis lacked what `read` shows. For a read
    /// without Redis, only what its own instance was told counts.
    fn lacked_before(&mut self, read: &Operation<'h>, cell: usize, since: u64) -> Option<&'a Operation<'h>> {
        let instance = (read.source() == Some(Source::Local)).then_some(read.instance);
        let value = read.shown[cell];
        let told = self.told.get(&instance)?;
        let first = self.first.entry(Lookup { cell, value, since, instance }).or_insert_with(|| {
            let later = &told[told.partition_point(|op| op.returned() <= since)..];
            later.iter().copied().find(|op| since < op.called && op.shown[cell] != value)
        });
        first.filter(|without| without.precedes(read))
    }

    /// Why a value may show again that Redis had acknowledged and lacked later.
    fn exempt(&mut self, read: &Operation<'h>, cell: usize, writer: &Operation<'h>) -> Option<&'static str> {
        let (run, record) = (self.run, self.record);
        if run.losses_of(record).any(|loss| writer.called < loss && loss < read.returned()) {
            return Some("values that showed again: Redis had lost data");
        }
        if run.clocks.redis_goes_back(writer.called_at_us) {
            return Some("values that showed again: Redis's clock went back");
        }
        if run.may_show_again(record, writer, read.returned(), read) {
            return Some("values that showed again: a write that Redis heard of late may go on with their life");
        }
        if read.source() == Some(Source::Shared) {
            return None;
        }
        if run.excuses.is_damaged(read.instance, writer.called, read.returned()) {
            return Some("values that showed again: the store of the instance was damaged");
        }
        let crash = run.crashes(read.instance).take_while(|&crash| crash < read.returned()).last();
        let crash = crash.filter(|&crash| writer.called < crash)?;
        // The instance may have forgotten the acknowledgement of its own write, and later answers of Redis.
        let is_forgotten = writer.instance == read.instance
            || read.source() == Some(Source::Local) && self.lacked_before(read, cell, crash).is_none();
        is_forgotten.then_some("values that showed again: a crash took away what the instance had been told")
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        checker::{
            Guarantee::Session,
            fixture::{Story, stored},
            judge,
        },
        faults::Fault,
        history::{
            Placement::{Local, Shared},
            Source, Stop, What,
        },
    };

    const TTL_US: u64 = 10_000_000;

    /// A value that expires, then the next life of its record, in which it is missing by Redis's word.
    fn renewed() -> (Story, [u64; 3]) {
        let mut story = Story::new(&["p", "p"]);
        story.expires_after_ms(TTL_US / 1_000);
        let old = story.upsert(0, "u", &["name"], Shared);
        story.now_us += TTL_US * 95 / 100;
        let new = story.upsert(1, "u", &["title"], Shared);
        let read = story.get(0, "u", Source::Shared, &[("title", new)]);
        (story, [old, new, read])
    }

    /// The exemptions that were counted.
    fn noted(story: &Story) -> Vec<String> {
        judge(&story.told())[Session as usize].account.notes.keys().map(ToString::to_string).collect()
    }

    #[test]
    fn a_value_that_was_gone_by_the_word_of_redis_does_not_come_back() {
        for source in [Source::Shared, Source::Merged, Source::Local] {
            let (mut story, [old, new, without]) = renewed();
            story.passes(Session);
            let read = story.get(0, "u", source, &[("name", old), ("title", new)]);
            story.violates(Session, "it came back", &[old, without, read]);
        }
    }

    #[test]
    fn an_instance_that_has_not_asked_redis_since_may_still_show_it() {
        let (mut story, [old, new, _]) = renewed();
        story.get(1, "u", Source::Local, &[("name", old), ("title", new)]);
        story.passes(Session);
    }

    #[test]
    fn it_may_come_back_with_a_write_that_prolongs_its_life_and_of_which_redis_had_not_heard() {
        for prolongs in [false, true] {
            let mut story = Story::new(&["p", "p"]);
            story.expires_after_ms(TTL_US / 1_000);
            let old = story.upsert(0, "u", &["name"], Shared);
            story.now_us += TTL_US / 2;
            if prolongs {
                story.upsert(1, "u", &["#note"], Local);
            }
            story.now_us += TTL_US * 45 / 100;
            let without = story.get_none(0, "u", Source::Shared);
            let read = story.get(0, "u", Source::Merged, &[("name", old)]);
            if prolongs {
                story.passes(Session);
            } else {
                story.violates(Session, "it came back", &[old, without, read]);
            }
        }
    }

    #[test]
    fn it_may_come_back_with_a_write_of_late_although_another_value_showed_in_between() {
        let mut story = Story::new(&["p", "p"]);
        story.expires_after_ms(TTL_US / 1_000);
        let old = story.upsert(0, "u", &["name"], Shared);
        story.now_us += TTL_US / 2;
        let other = story.upsert(1, "u", &["name"], Shared);
        let without = story.get(1, "u", Source::Shared, &[("name", other)]);
        story.upsert(0, "u", &["#note"], Local);
        let read = story.get(0, "u", Source::Merged, &[("name", old)]);
        story.violates(Session, "it came back", &[old, without, read]);

        let mut story = Story::new(&["p", "p"]);
        story.expires_after_ms(TTL_US / 1_000);
        let old = story.upsert(0, "u", &["name"], Shared);
        story.now_us += TTL_US / 2;
        let other = story.upsert(1, "u", &["name"], Shared);
        story.get(1, "u", Source::Shared, &[("name", other)]);
        story.upsert(0, "u", &["#note"], Local);
        story.now_us += TTL_US * 99 / 100;
        story.get(0, "u", Source::Merged, &[("name", old)]);
        story.passes(Session);
        assert_eq!(
            noted(&story),
            ["values that showed again: a write that Redis heard of late may go on with their life"]
        );
    }

    #[test]
    fn what_redis_lost_and_what_a_damaged_store_had_may_come_back() {
        let (mut story, [old, new, _]) = renewed();
        story.loss();
        story.get(0, "u", Source::Merged, &[("name", old), ("title", new)]);
        story.passes(Session);
        assert_eq!(noted(&story), ["values that showed again: Redis had lost data"]);

        let (mut story, [old, new, _]) = renewed();
        story.fault(Fault::BitRot { instance: 0, running: false });
        story.event(What::FaultEnd { fault: 0, effects: 1 });
        story.event(What::Started { instance: 0 });
        story.get(0, "u", Source::Merged, &[("name", old), ("title", new)]);
        story.passes(Session);
        assert_eq!(noted(&story), ["values that showed again: the store of the instance was damaged"]);
    }

    #[test]
    fn what_redis_removed_may_come_back_once_its_clock_has_gone_back() {
        let (mut story, [old, new, _]) = renewed();
        story.redis_clock_steps(-60_000);
        story.get(0, "u", Source::Shared, &[("name", old), ("title", new)]);
        story.passes(Session);
        assert_eq!(noted(&story), ["values that showed again: Redis's clock went back"]);
    }

    #[test]
    fn a_crash_takes_away_what_an_instance_was_told_and_an_orderly_stop_does_not() {
        for how in [Stop::Closed, Stop::Killed] {
            let (mut story, [old, new, _]) = renewed();
            let without = story.get(1, "u", Source::Shared, &[("title", new)]);
            story.stop(1, how);
            let mut read = story.get(1, "u", Source::Local, &[("name", old), ("title", new)]);
            if how == Stop::Killed {
                story.passes(Session);
                assert_eq!(
                    noted(&story),
                    ["values that showed again: a crash took away what the instance had been told"]
                );
                // Told again in the next process.
                story.get(1, "u", Source::Shared, &[("title", new)]);
                read = story.get(1, "u", Source::Local, &[("name", old), ("title", new)]);
            }
            story.violates(Session, "it came back", &[old, without, read]);
        }
    }

    #[test]
    fn a_crash_may_take_away_that_redis_acknowledged_an_own_write() {
        for (how, is_exempt) in [(Stop::Closed, false), (Stop::Killed, true)] {
            let (mut story, [old, new, without]) = renewed();
            story.stop(0, how);
            let read = story.get(0, "u", Source::Merged, &[("name", old), ("title", new)]);
            if is_exempt {
                story.passes(Session);
            } else {
                story.violates(Session, "it came back", &[old, without, read]);
            }
        }
    }

    #[test]
    fn what_was_written_in_a_life_that_is_over_is_stored_nowhere_in_the_end() {
        for in_redis in [true, false] {
            for (after_us, is_over) in [(TTL_US / 2, false), (TTL_US * 3 / 2, true)] {
                let mut story = Story::new(&["p"]);
                story.expires_after_ms(TTL_US / 1_000);
                let old = story.upsert(0, "u", &["name"], Shared);
                story.now_us += after_us;
                let held = [stored("p", "u", &[("name", old)])];
                if in_redis {
                    story.redis_holds(&held);
                } else {
                    story.store_holds(0, &held);
                }
                if is_over {
                    story.violates(Session, "in a life that was over", &[old]);
                } else {
                    story.passes(Session);
                }
            }
        }
    }
}
