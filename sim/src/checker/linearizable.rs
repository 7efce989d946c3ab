//! G2: what was answered `Shared` behaves as one copy of each record. Judged cell by cell, each as a register.
//!
//! A register sees definite operations (writes and reads answered `Shared`; a loss of the record in Redis, which
//! writes "absent" at its ordinal) and optional ones: writes answered `Local` or `Info`, or not at all, take effect once at
//! any later time or never; and after each loss every write called before it may take effect once more, since some
//! instance may hold a copy; and a record whose time to live is over is absent at any later time. Answers `Merged` and `Local` promise less and are not judged here, nor are values that G7
//! judges.

use std::collections::BTreeMap;

use super::{
    Verdict,
    operations::{Operation, Operations, Record, Seen, numbers},
    register::{Act, Found, Register, Span},
};
use crate::history::{Placement, Source};

/// Past this many steps a cell is unknown. Valid histories of hundreds of operations take a few steps an operation.
const STEPS_MAX: u32 = 20_000;

pub(super) fn check(run: &Operations<'_>) -> Verdict {
    let mut verdict = Verdict::Pass;
    for record in &run.records {
        for cell in 0..record.cells.len() {
            match register(run, record, cell, u64::MAX).search(STEPS_MAX) {
                Found::Explained => {}
                Found::Unexplained => return explain(run, record, cell),
                Found::TooHard => {
                    let why = format!("the search was given up after {STEPS_MAX} steps: {}", record.name(cell));
                    verdict = verdict.merge(Verdict::Unknown { why });
                }
            }
        }
    }
    verdict
}

/// The register of a cell as it was known at the ordinal `until`: what had not returned by then is optional.
fn register(run: &Operations<'_>, record: &Record<'_>, cell: usize, until: u64) -> Register {
    let mut definite = Vec::new();
    let mut optional: BTreeMap<Seen, Vec<u64>> = BTreeMap::new();
    let losses = || run.losses_of(record).filter(|&loss| loss <= until);
    for (value, op) in writes(run, record, cell).filter(|(_, op)| op.called <= until) {
        let possible = optional.entry(value).or_default();
        possible.extend(losses().filter(|&loss| op.called < loss));
        if op.acknowledged() == Some(Placement::Shared) && op.returned() <= until {
            definite.push(Span { called: op.called, returned: op.returned(), act: Act::Write(value) });
        } else {
            possible.push(op.called);
        }
    }
    let expirations: Vec<u64> = run.expirations(record).filter(|&possible| possible <= until).collect();
    if !expirations.is_empty() {
        // A copy that comes back after a loss may bury the record once more.
        let again = losses().flat_map(|loss| expirations.iter().map(move |&possible| possible.max(loss)));
        let again: Vec<u64> = again.collect();
        optional.entry(Seen::Absent).or_default().extend(expirations.iter().copied().chain(again));
    }
    for (value, op) in reads(run, record, cell).filter(|(_, op)| op.returned() <= until) {
        definite.push(Span { called: op.called, returned: op.returned(), act: Act::Read(value) });
    }
    definite.extend(losses().map(|at| Span { called: at, returned: at, act: Act::Write(Seen::Absent) }));
    Register::new(definite, optional)
}

fn writes<'a, 'h>(
    run: &'a Operations<'h>,
    record: &'a Record<'h>,
    cell: usize,
) -> impl Iterator<Item = (Seen, &'a Operation<'h>)> {
    let removals = record.removals.iter().map(|&op| (Seen::Absent, &run.all[op]));
    run.writers(record, cell).chain(removals)
}

fn reads<'a, 'h>(
    run: &'a Operations<'h>,
    record: &'a Record<'h>,
    cell: usize,
) -> impl Iterator<Item = (Seen, &'a Operation<'h>)> {
    let reads = record.reads.iter().map(|&op| &run.all[op]).filter(|op| op.source() == Some(Source::Shared));
    reads.map(move |op| (op.shown[cell], op)).filter(|(value, _)| *value != Seen::Stray)
}

/// Names the first read, by its return, that cannot be explained together with all that had happened before it. Once a
/// history is unexplained it stays so as it grows, and a write that returns makes none so: hence a read, found by
/// halves.
fn explain(run: &Operations<'_>, record: &Record<'_>, cell: usize) -> Verdict {
    let mut by_return: Vec<_> = reads(run, record, cell).collect();
    by_return.sort_by_key(|(_, read)| read.returned());
    let explained =
        |read: &Operation<'_>| register(run, record, cell, read.returned()).search(STEPS_MAX) != Found::Unexplained;
    let first = by_return.partition_point(|(_, read)| explained(read)).min(by_return.len() - 1);
    let (value, read) = by_return[first];
    let mut ops = vec![read];
    let mut said = vec![format!("{}: {read} answered {}", record.name(cell), named(value))];
    let writers: Vec<_> = writes(run, record, cell).filter(|(written, _)| *written == value).collect();
    said.extend(writers.is_empty().then(|| "nobody wrote that".to_owned()));
    for (_, writer) in writers.iter().take(3) {
        said.push(format!("that was written by {writer}"));
        ops.push(writer);
    }
    let before = |op: &&Operation<'_>| op.precedes(read);
    let other = writes(run, record, cell).filter(|(written, _)| *written != value).map(|(_, op)| op);
    let other = other.filter(before).filter(|op| op.acknowledged() == Some(Placement::Shared));
    if let Some(write) = other.max_by_key(|op| op.returned()) {
        said.push(format!("before the get, {write} had written something else"));
        ops.push(write);
    }
    let shown = by_return[..first].iter().filter(|(seen, op)| *seen != value && before(op));
    if let Some((seen, other)) = shown.max_by_key(|(_, op)| op.returned()) {
        said.push(format!("before the get, {other} had answered {}", named(*seen)));
        ops.push(other);
    }
    said.push("no order of all operations gives the get this answer".to_owned());
    Verdict::Violation { message: said.join("; "), ops: numbers(&ops) }
}

fn named(value: Seen) -> String {
    match value {
        Seen::Absent => "that there is none".to_owned(),
        Seen::Present => "that there is one".to_owned(),
        Seen::Tagged(tag) => format!("the value with tag {tag}"),
        Seen::Stray => "a value of another record".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        checker::{Guarantee::Linearizable, fixture::Story},
        history::{
            Placement::{Local, Shared},
            Stop,
        },
    };

    #[test]
    fn a_stale_read_from_redis_is_a_violation() {
        let mut story = Story::new(&["p", "p"]);
        let old = story.upsert(0, "u", &["name"], Shared);
        let new = story.upsert(1, "u", &["name"], Shared);
        let read = story.get(0, "u", Source::Shared, &[("name", old)]);
        let said = "before the get, upsert 2 on instance 1 (events 2 to 3, Shared) had written something else";
        story.violates(Linearizable, said, &[old, new, read]);
    }

    #[test]
    fn a_read_older_than_one_before_it_is_a_violation() {
        let mut story = Story::new(&["p", "p", "p"]);
        let old = story.upsert(0, "u", &["name"], Shared);
        let new = story.upsert_begins(1, "u", &["name"]);
        let first = story.get(0, "u", Source::Shared, &[("name", new)]);
        let second = story.get(2, "u", Source::Shared, &[("name", old)]);
        story.get(0, "u", Source::Shared, &[("name", new)]);
        story.written(new, Shared);
        story.violates(Linearizable, "get 3 on instance 0 (events 3 to 4, Shared) had answered", &[old, first, second]);
    }

    #[test]
    fn a_lost_update_is_a_violation() {
        let mut story = Story::new(&["p", "p"]);
        let write = story.upsert(0, "u", &["name"], Shared);
        let read = story.get_none(1, "u", Source::Shared);
        story.violates(Linearizable, "answered that there is none; nobody wrote that", &[write, read]);
    }

    #[test]
    fn an_empty_record_that_does_not_appear_is_a_violation() {
        let mut story = Story::new(&["p", "p"]);
        let write = story.upsert(0, "u", &[], Shared);
        let read = story.get_none(1, "u", Source::Shared);
        story.violates(Linearizable, "record \"u\" under prefix \"p\": get 2", &[write, read]);
    }

    #[test]
    fn a_removed_value_that_comes_back_is_a_violation() {
        let mut story = Story::new(&["p", "p"]);
        let write = story.upsert(0, "u", &["name"], Shared);
        let clear = story.clear(1, &["u"]);
        let read = story.get(0, "u", Source::Shared, &[("name", write)]);
        story.violates(Linearizable, "had written something else", &[write, clear, read]);
    }

    #[test]
    fn an_unknown_write_that_takes_effect_twice_is_a_violation() {
        let mut story = Story::new(&["p", "p"]);
        let unknown = story.upsert_begins(0, "u", &["name"]);
        story.info(unknown);
        let first = story.get(1, "u", Source::Shared, &[("name", unknown)]);
        let other = story.upsert(1, "u", &["name"], Shared);
        let second = story.get(1, "u", Source::Shared, &[("name", unknown)]);
        story.violates(Linearizable, "no order of all operations", &[unknown, other, second]);
        assert!(first < second);
    }

    #[test]
    fn a_refused_write_that_is_read_is_a_violation() {
        let mut story = Story::new(&["p", "p"]);
        let refused = story.upsert_begins(0, "u", &["name"]);
        story.fail(refused, "refused: too large");
        let read = story.get(1, "u", Source::Shared, &[("name", refused)]);
        story.violates(Linearizable, "nobody wrote that", &[read]);
    }

    #[test]
    fn operations_that_overlap_may_be_in_either_order() {
        for seen in 0..2 {
            let mut story = Story::new(&["p", "p", "p"]);
            let both = [story.upsert_begins(0, "u", &["name"]), story.upsert_begins(1, "u", &["name"])];
            let early = story.get_begins(2, "u");
            story.written(both[0], Shared);
            story.written(both[1], Shared);
            story.got_none(early, Source::Shared);
            story.get(2, "u", Source::Shared, &[("name", both[seen])]);
            story.passes(Linearizable);
        }
    }

    #[test]
    fn local_and_unanswered_writes_may_take_effect_late_and_once() {
        let mut story = Story::new(&["p", "p"]);
        let local = story.upsert(0, "u", &["name"], Local);
        let dead = story.upsert_begins(0, "u", &["name"]);
        story.stop(0, Stop::Killed);
        let other = story.upsert(1, "u", &["name"], Shared);
        story.get(1, "u", Source::Shared, &[("name", other)]);
        story.get(1, "u", Source::Shared, &[("name", dead)]);
        story.get(1, "u", Source::Shared, &[("name", local)]);
        let removal = story.remove_begins(0, "u");
        story.get_none(1, "u", Source::Shared);
        story.info(removal);
        story.passes(Linearizable);
    }

    #[test]
    fn after_a_loss_everything_is_gone_and_what_was_there_may_come_back_once() {
        let mut story = Story::new(&["p", "p"]);
        let old = story.upsert(0, "u", &["name"], Shared);
        let new = story.upsert(1, "u", &["name"], Shared);
        story.loss();
        story.get_none(0, "u", Source::Shared);
        story.get(0, "u", Source::Shared, &[("name", old)]);
        story.get(0, "u", Source::Shared, &[("name", new)]);
        story.passes(Linearizable);
        let again = story.get(0, "u", Source::Shared, &[("name", old)]);
        story.violates(Linearizable, "no order of all operations", &[old, new, again - 1, again]);
    }

    #[test]
    fn a_loss_that_nobody_notices_is_a_violation() {
        let mut story = Story::new(&["p", "p"]);
        let write = story.upsert(0, "u", &["name"], Shared);
        story.get(0, "u", Source::Shared, &[("name", write)]);
        story.get_none(0, "u", Source::Shared);
        let removed_by_the_loss = story.get_begins(0, "u");
        story.loss();
        story.got_none(removed_by_the_loss, Source::Shared);
        story.violates(Linearizable, "nobody wrote that", &[write, write + 1, write + 2]);
    }

    #[test]
    fn local_answers_may_be_stale() {
        let mut story = Story::new(&["p", "p"]);
        let old = story.upsert(0, "u", &["name"], Shared);
        story.upsert(1, "u", &["name"], Shared);
        story.get(0, "u", Source::Local, &[("name", old)]);
        story.get(0, "u", Source::Merged, &[("name", old)]);
        story.passes(Linearizable);
    }
}
