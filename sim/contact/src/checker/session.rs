//! G6: an instance reads its own writes and never goes back.
//!
//! Judged for each instance and cell over its operations that answered `Ok`, from any tier. One operation is later than
//! another if it was called after the other had returned. Two rules:
//!
//! - A value, once the instance had it (read or written) and later had something else, never shows again: what it had
//!   later is newer, since a read joins all that the instance holds.
//! - Once the instance had a value, a later read shows none only if somebody may have removed the record: not if every
//!   removal was its own and came before that value.
//!
//! And a record that has expired for certain does not show. One that may have, by what the instance knew, may be absent, and
//! show again once the instance learns that somebody had begun its time anew; and behind a write of which only the
//! instance knew, and whose time is over, what is older shows again. A value may also come back after another showed: Redis may have ended its life
//! before it heard of a write with which that life goes on.
//!
//! While the store of an instance is damaged it is not judged, and afterwards it begins anew.
//!
//! A crash takes away what the instance had seen and what it wrote to Redis alone; its acknowledged local writes were
//! synced, and still bind it; where the run syncs every write, so do those that Redis acknowledged. Where instances are set to
//! accept losses, a record is not judged after Redis lost it. An orderly stop and a loss of Redis's data take nothing away.

use std::{cell::Cell, collections::BTreeMap};

use super::{
    Account, Excuse, Verdict,
    expiry::Knowledge,
    operation::{EXISTENCE, Operation, Seen, numbers},
    operations::Operations,
    record::RecordHistory,
};
use crate::history::{Call, Placement};

pub(super) fn check(run: &Operations<'_>, account: &mut Account) -> Verdict {
    for record in &run.records {
        for instance in (0_u32..).take(run.history.header.prefixes.len()) {
            if let Some(violation) =
                (SessionChecker { run, record, instance, expired: Cell::new(false) }).judge(account)
            {
                return violation;
            }
        }
    }
    Verdict::Pass
}

struct SessionChecker<'a, 'h> {
    run: &'a Operations<'h>,
    record: &'a RecordHistory<'h>,
    instance: u32,
    /// Whether something was excused since it may have expired.
    expired: Cell<bool>,
}

/// What the instance knows of one cell.
#[derive(Default)]
struct CellMemory<'a, 'h> {
    values: BTreeMap<Seen, KnownValue<'a, 'h>>,
    /// By proof, the values that the instance had and whose end is not proven: few, however many it had.
    open: [Vec<Seen>; 2],
    /// The value that this life had last.
    latest: Option<Seen>,
    /// The operations that gave the cell any value, by their return; of earlier lives only local writes.
    had: Vec<&'a Operation<'h>>,
}

/// A value that the instance had. For each fact there are two proofs: one of this life, and one that outlives a crash.
#[derive(Default)]
struct KnownValue<'a, 'h> {
    first: [Option<&'a Operation<'h>>; 2],
    /// The operation that had it, and the later one that had something else.
    superseded: [Option<(&'a Operation<'h>, &'a Operation<'h>)>; 2],
}

const THIS_LIFE: usize = 0;
const DURABLE: usize = 1;

impl<'a, 'h> SessionChecker<'a, 'h> {
    fn judge(&self, account: &mut Account) -> Option<Verdict> {
        let (run, record) = (self.run, self.record);
        let lists = [&record.reads, &record.upserts, &record.removals];
        let ops = lists.into_iter().flatten().map(|&op| &run.all[op]);
        let mut ops: Vec<_> = ops.filter(|op| op.instance == self.instance && op.answer().is_some()).collect();
        ops.sort_by_key(|op| op.returned());
        let mut crashes = run.crashes(self.instance).peekable();
        let mut memories: Vec<_> = record.cells.iter().map(|_| CellMemory::default()).collect();
        let mut judged_until = 0;
        for op in ops {
            let since = std::mem::replace(&mut judged_until, op.returned());
            if run.excuses.is_damaged(self.instance, since, op.returned()) {
                memories.fill_with(CellMemory::default);
            }
            if run.history.header.tuning.accepts_losses && run.losses_of(record).any(|loss| loss < op.returned()) {
                account.count(Some(Excuse::LostData));
                continue;
            }
            if run.excuses.is_damaged(self.instance, op.called, op.returned()) {
                account.count(Some(Excuse::Damage));
                continue;
            }
            while crashes.next_if(|&crash| crash < op.returned()).is_some() {
                for memory in &mut memories {
                    memory.crash(run);
                }
            }
            match op.call {
                Call::Upsert { .. } => {
                    memories[EXISTENCE].learn(run, op, Seen::Present);
                    for write in op.writes.iter() {
                        memories[write.cell].learn(run, op, Seen::Tagged(write.tag));
                    }
                    for &cell in &op.removes {
                        memories[cell].learn(run, op, Seen::Absent);
                    }
                }
                Call::Get { .. } | Call::GetMany { .. } => {
                    if let Some(violation) = run.overdue(self.record, op) {
                        return Some(violation);
                    }
                    let may_expire = run.may_expire(record, None, op, Knowledge::Instance);
                    for (cell, memory) in memories.iter_mut().enumerate() {
                        if let Some(violation) = self.went_back(memory, op, cell) {
                            return Some(violation);
                        }
                        if op.shown[cell] != Seen::Absent || !may_expire {
                            memory.learn(run, op, op.shown[cell]);
                        }
                    }
                }
                Call::Remove { .. } | Call::Clear => {
                    for memory in &mut memories {
                        memory.learn(run, op, Seen::Absent);
                    }
                }
                Call::Import { .. } | Call::List | Call::Sync => {}
            }
            account.count(self.expired.take().then_some(Excuse::Expiry));
        }
        None
    }

    fn went_back(&self, memory: &CellMemory<'a, 'h>, read: &Operation<'h>, cell: usize) -> Option<Verdict> {
        let place = || (self.record.name(cell), self.instance);
        match read.shown[cell] {
            Seen::Tagged(tag) => {
                let known = memory.values.get(&Seen::Tagged(tag))?;
                let proofs = known.superseded.into_iter().flatten();
                let writer = self.record.writers.get(&(cell, tag)).map(|&op| &self.run.all[op]);
                let may_return = |later: &Operation<'h>| {
                    let returns = |writer| self.run.may_show_again(self.record, writer, later.returned(), read);
                    self.excuse(writer.is_some_and(returns))
                };
                let stands = |later: &Operation<'h>| {
                    later.precedes(read) && !self.is_excused(later, cell, read) && !may_return(later)
                };
                let (first, later) = proofs.into_iter().find(|(_, later)| stands(later))?;
                let (place, instance) = place();
                let message = format!(
                    "{place}: instance {instance} went back: it had the value with tag {tag} in {first}, \
                     something else in {later}, and the former again in {read}"
                );
                Some(Verdict::Violation { message, ops: numbers(&[first, later, read]) })
            }
            Seen::Absent => {
                let removals = || self.run.removers(self.record, cell).filter(|op| op.called < read.returned());
                if removals().any(|op| op.instance != self.instance) {
                    return None;
                }
                let mut had = memory.had.iter().rev().filter(|had| had.precedes(read));
                let had = had.find(|had| {
                    removals().all(|op| self.is_own_before(op, had)) && !self.is_excused(had, cell, read)
                })?;
                let (place, instance) = place();
                let message = format!(
                    "{place}: instance {instance} went back: it had a value in {had}, {read} shows none, \
                     and nobody can have removed it since"
                );
                Some(Verdict::Violation { message, ops: numbers(&[had, read]) })
            }
            Seen::Present | Seen::Stray => None,
        }
    }

    /// Whether a violation is excused by an expiry; remembers that.
    fn is_excused(&self, had: &Operation<'h>, cell: usize, read: &Operation<'h>) -> bool {
        self.excuse(self.may_have_expired(had, cell, read))
    }

    fn excuse(&self, excused: bool) -> bool {
        self.expired.set(self.expired.get() || excused);
        excused
    }

    /// Whether the value that an operation had of a cell may have expired when a later one showed none.
    fn may_have_expired(&self, had: &Operation<'h>, cell: usize, read: &Operation<'h>) -> bool {
        let of_tag = |seen: &Seen| match seen {
            Seen::Tagged(tag) => self.record.writers.get(&(cell, *tag)).map(|&op| &self.run.all[op]),
            _ => None,
        };
        let writer = match had.call {
            Call::Upsert { .. } => Some(had),
            // What is removed is removed for good.
            Call::Remove { .. } | Call::Clear => return false,
            _ => had.shown.get(cell).and_then(of_tag),
        };
        self.run.may_expire(self.record, writer, read, Knowledge::Instance)
    }

    /// Whether `had` is above this removal because the instance itself had made it before, and still knew.
    fn is_own_before(&self, removal: &Operation<'_>, had: &Operation<'_>) -> bool {
        let crashed = || self.run.crashes(self.instance).any(|crash| removal.returned() < crash && crash < had.called);
        removal.instance == self.instance
            && removal.acknowledged().is_some()
            && removal.precedes(had)
            && !self.run.excuses.is_damaged(self.instance, removal.called, had.called)
            && (is_synced(self.run, removal) || !crashed())
    }
}

impl<'a, 'h> CellMemory<'a, 'h> {
    /// Takes in what an operation read or wrote. Operations come in the order of their returns, so the first proof of a
    /// fact is the one that holds earliest.
    fn learn(&mut self, run: &Operations<'_>, op: &'a Operation<'h>, value: Seen) {
        if value == Seen::Stray {
            return;
        }
        let is_synced = is_synced(run, op);
        if !is_synced && self.latest == Some(value) && self.open[THIS_LIFE] == [value] {
            // The usual read: it repeats the latest value, and the cell had no other value in between.
            self.had.push(op);
            return;
        }
        self.latest = Some(value).filter(|value| matches!(value, Seen::Tagged(_)));
        let proofs = if is_synced { &[THIS_LIFE, DURABLE][..] } else { &[THIS_LIFE] };
        for &proof in proofs {
            let values = &mut self.values;
            self.open[proof].retain(|had| {
                if *had == value {
                    return true;
                }
                let known = values.get_mut(had).expect("what is open is known");
                let first = known.first.into_iter().flatten().find(|first| first.precedes(op));
                known.superseded[proof] = first.map(|first| (first, op));
                first.is_none()
            });
        }
        if value != Seen::Absent {
            self.had.push(op);
        }
        if matches!(value, Seen::Tagged(_)) {
            let known = self.values.entry(value).or_default();
            let is_new = known.first.iter().all(Option::is_none);
            known.first[THIS_LIFE].get_or_insert(op);
            if is_synced {
                known.first[DURABLE].get_or_insert(op);
            }
            if is_new {
                self.open(value);
            }
        }
    }

    /// The instance has the value.
    fn open(&mut self, value: Seen) {
        let superseded = self.values.get(&value).map(|known| known.superseded.map(|proof| proof.is_some()));
        for (open, is_superseded) in self.open.iter_mut().zip(superseded.into_iter().flatten()) {
            if !is_superseded {
                open.push(value);
            }
        }
    }

    fn crash(&mut self, run: &Operations<'_>) {
        for known in self.values.values_mut() {
            known.first[THIS_LIFE] = None;
            known.superseded[THIS_LIFE] = None;
        }
        self.had.retain(|op| is_synced(run, op));
        (self.open, self.latest) = Default::default();
        let had = self.values.iter().filter(|(_, known)| known.first[DURABLE].is_some());
        let had: Vec<_> = had.map(|(value, _)| *value).collect();
        for value in had {
            self.open(value);
        }
    }
}

/// A local write is synced before it is acknowledged, and any where the run says so. Some removals of a clear may be in Redis
/// alone.
fn is_synced(run: &Operations<'_>, op: &Operation<'_>) -> bool {
    let is_synced = match op.acknowledged() {
        Some(Placement::Local) => true,
        Some(Placement::Shared) => run.history.header.tuning.syncs_every_write,
        None => false,
    };
    is_synced && !matches!(op.call, Call::Clear)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        checker::{Guarantee::Session, fixture::Story},
        history::{
            Placement::{Local, Shared},
            Source, Stop,
        },
    };

    #[test]
    fn a_read_that_goes_back_is_a_violation_across_a_fallback() {
        let mut story = Story::new(&["p", "p"]);
        let old = story.upsert(1, "u", &["name"], Shared);
        let first = story.get(0, "u", Source::Shared, &[("name", old)]);
        let new = story.upsert(1, "u", &["name"], Shared);
        let second = story.get(0, "u", Source::Shared, &[("name", new)]);
        story.loss();
        story.stop(0, Stop::Closed);
        let third = story.get(0, "u", Source::Local, &[("name", old)]);
        story.violates(Session, "instance 0 went back: it had the value with tag 1", &[first, second, third]);
    }

    #[test]
    fn an_own_write_that_is_not_seen_is_a_violation() {
        let mut story = Story::new(&["p"]);
        let old = story.upsert(0, "u", &["name"], Shared);
        let new = story.upsert(0, "u", &["name"], Shared);
        let read = story.get(0, "u", Source::Merged, &[("name", old)]);
        story.violates(Session, "something else in upsert 2", &[old, new, read]);
    }

    #[test]
    fn an_own_write_that_vanishes_is_a_violation() {
        let mut story = Story::new(&["p", "p"]);
        story.remove(0, "u", Local);
        let write = story.upsert(0, "u", &[], Local);
        let read = story.get_none(0, "u", Source::Shared);
        story.violates(Session, "nobody can have removed it since", &[write, read]);
    }

    #[test]
    fn a_removed_value_that_comes_back_is_a_violation() {
        let mut story = Story::new(&["p"]);
        let write = story.upsert(0, "u", &["name"], Shared);
        let removal = story.remove(0, "u", Shared);
        let read = story.get(0, "u", Source::Local, &[("name", write)]);
        story.violates(Session, "went back", &[write, removal, read]);
    }

    #[test]
    fn a_removed_field_that_comes_back_is_a_violation() {
        let mut story = Story::new(&["p"]);
        let write = story.upsert(0, "u", &["name"], Shared);
        let removal = story.upsert(0, "u", &["-name"], Local);
        let read = story.get(0, "u", Source::Local, &[("name", write)]);
        story.violates(Session, "went back", &[write, removal, read]);
    }

    #[test]
    fn a_field_that_somebody_removed_may_be_gone_and_no_other() {
        let mut story = Story::new(&["p", "p"]);
        let write = story.upsert(0, "u", &["name", "title"], Shared);
        story.upsert(1, "u", &["-name"], Shared);
        story.get(0, "u", Source::Shared, &[("title", write)]);
        story.passes(Session);
        let read = story.get(0, "u", Source::Shared, &[]);
        story.violates(Session, "nobody can have removed it since", &[write + 2, read]);
    }

    #[test]
    fn an_own_local_write_binds_across_a_crash() {
        let mut story = Story::new(&["p"]);
        let old = story.upsert(0, "u", &["name"], Shared);
        let new = story.upsert(0, "u", &["name"], Local);
        story.stop(0, Stop::PowerLost);
        let read = story.get(0, "u", Source::Local, &[("name", old)]);
        story.violates(Session, "went back", &[old, new, read]);

        let mut story = Story::new(&["p"]);
        let write = story.upsert(0, "u", &["name"], Local);
        story.stop(0, Stop::PowerLost);
        let read = story.get_none(0, "u", Source::Local);
        story.violates(Session, "nobody can have removed it since", &[write, read]);
    }

    #[test]
    fn an_own_shared_write_binds_across_a_crash_where_every_write_is_synced() {
        let mut story = Story::new(&["p"]);
        let old = story.upsert(0, "u", &["name"], Local);
        let new = story.upsert(0, "u", &["name"], Shared);
        story.stop(0, Stop::PowerLost);
        let read = story.get(0, "u", Source::Local, &[("name", old)]);
        story.passes(Session);
        story.syncs_every_write();
        story.violates(Session, "went back", &[old, new, read]);
    }

    #[test]
    fn a_copy_may_yield_to_a_loss_only_where_losses_are_accepted() {
        let mut story = Story::new(&["p"]);
        let write = story.upsert(0, "u", &["name"], Shared);
        story.loss();
        let read = story.get_none(0, "u", Source::Shared);
        story.violates(Session, "nobody can have removed it since", &[write, read]);
        story.accepts_losses();
        story.passes(Session);
    }

    #[test]
    fn an_old_local_write_must_not_come_back_after_a_crash_and_a_newer_value() {
        let mut story = Story::new(&["p", "p"]);
        let own = story.upsert(0, "u", &["name"], Local);
        let other = story.upsert(1, "u", &["name"], Local);
        story.stop(0, Stop::Killed);
        let newer = story.get(0, "u", Source::Shared, &[("name", other)]);
        let read = story.get(0, "u", Source::Local, &[("name", own)]);
        story.violates(Session, "went back", &[own, newer, read]);
    }

    #[test]
    fn a_crash_forgets_what_was_only_seen_or_written_to_redis() {
        let mut story = Story::new(&["p", "p"]);
        let old = story.upsert(0, "u", &["name"], Local);
        let new = story.upsert(0, "u", &["name"], Shared);
        let other = story.upsert(1, "v", &["name"], Shared);
        story.get(0, "v", Source::Shared, &[("name", other)]);
        story.stop(0, Stop::Killed);
        story.get(0, "u", Source::Local, &[("name", old)]);
        story.get_none(0, "v", Source::Local);
        story.get(0, "u", Source::Shared, &[("name", new)]);
        story.get(0, "v", Source::Shared, &[("name", other)]);
        story.passes(Session);
    }

    #[test]
    fn an_expired_value_may_show_again_after_another_with_a_late_write_that_prolongs_its_life_and_not_without() {
        for is_prolonged in [false, true] {
            let mut story = Story::new(&["p", "p"]);
            story.expires_after_ms(10_000);
            let own = story.upsert(0, "u", &["name"], Local);
            story.now_us += 8_000_000;
            if is_prolonged {
                story.upsert(1, "u", &["title"], Local);
            }
            story.now_us += 4_000_000;
            let other = story.upsert(1, "u", &["name"], Local);
            story.get(0, "u", Source::Shared, &[("name", other)]);
            let read = story.get(0, "u", Source::Shared, &[("name", own)]);
            if is_prolonged {
                story.passes(Session);
            } else {
                story.violates(Session, "in a life that was over", &[own, read]);
            }
        }
    }

    #[test]
    fn overlapping_operations_have_no_order() {
        let mut story = Story::new(&["p", "p"]);
        let old = story.upsert(0, "u", &["name"], Shared);
        let slow = story.get_begins(0, "u");
        let new = story.upsert(0, "u", &["name"], Shared);
        story.get(0, "u", Source::Shared, &[("name", new)]);
        story.got(slow, Source::Shared, &[("name", old)]);
        story.passes(Session);
    }

    #[test]
    fn a_concurrent_write_of_another_instance_may_win() {
        let mut story = Story::new(&["p", "p"]);
        let other = story.upsert(1, "u", &["name"], Local);
        story.upsert(0, "u", &["name"], Local);
        story.get(0, "u", Source::Shared, &[("name", other)]);
        story.passes(Session);
    }

    #[test]
    fn a_removal_by_anyone_else_explains_an_absence() {
        let mut story = Story::new(&["p", "p"]);
        let removal = story.remove_begins(1, "u");
        story.info(removal);
        story.upsert(0, "u", &["name"], Shared);
        story.get_none(0, "u", Source::Shared);
        story.passes(Session);
    }

    #[test]
    fn what_a_long_record_held_is_looked_at_once() {
        let mut story = Story::new(&["p"]);
        for _ in 0..1_000 {
            story.upsert(0, "u", &["name"], Shared);
        }
        let history = story.told();
        let run = Operations::of(&history);
        let (mut memory, mut most) = (CellMemory::default(), 0);
        for op in &run.all {
            memory.learn(&run, op, Seen::Tagged(op.writes[0].tag));
            most = most.max(memory.open[THIS_LIFE].len());
        }
        assert_eq!((memory.values.len(), most), (1_000, 1));
    }
}
