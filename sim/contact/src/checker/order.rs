//! Which of two writes certainly lies above the other, whatever the clocks of their instances show.

use super::{operation::Operation, operations::Operations, record::RecordHistory};
use crate::history::{Call, Placement};

/// Why `lower` certainly lies below `upper`, both writes on one record: for a message, after "it lies below because".
///
/// Only acknowledged writes are placed: one that answered `Info` may have been stamped after its answer. The order of
/// Redis holds only while Redis keeps its data: a write made after a loss need not lie above a forgotten one, whose
/// copies come back with their old stamps. The same holds after Redis has ended a life that goes on.
pub(super) fn certainly_below(
    run: &Operations<'_>,
    lower: &Operation<'_>,
    upper: &Operation<'_>,
) -> Option<&'static str> {
    if matches!(lower.call, Call::Import { .. }) && upper.acknowledged().is_some() {
        return Some("an import lies below every other write");
    }
    let (below, above) = (lower.acknowledged()?, upper.acknowledged()?);
    // An instance whose store was damaged may have forgotten how far its clock was.
    let forgot = || run.excuses.is_damaged(lower.instance, lower.called, upper.returned());
    if lower.precedes(upper) && lower.instance == upper.instance && !forgot() {
        return Some("the same instance had acknowledged it before");
    }
    let both_shared = below == Placement::Shared && above == Placement::Shared;
    let is_kept = !run.lost_between(lower.called, upper.returned()) && !may_come_back(run, lower, upper);
    if lower.precedes(upper) && both_shared && is_kept {
        return Some("Redis had acknowledged it before, and kept its data in between");
    }
    let smaller = lower.stamp().zip(upper.stamp()).is_some_and(|(lower, upper)| lower < upper);
    smaller.then_some("its stamp is smaller")
}

/// Whether Redis may have ended the life of `lower` before it took `upper`, and have heard later that this life goes on: a
/// copy then comes back with its stamp, above later writes with smaller ones.
fn may_come_back(run: &Operations<'_>, lower: &Operation<'_>, upper: &Operation<'_>) -> bool {
    run.may_return_at(lower).is_some_and(|ended| ended < upper.returned())
}

/// How many writes of a record, acknowledged by Redis, came after a life that [`may_come_back`]: the order of Redis does not place
/// them above all earlier ones. To be counted, since every use of that order is weaker for it.
pub(super) fn above_what_may_come_back(run: &Operations<'_>, record: &RecordHistory<'_>) -> u64 {
    let ended = run.upserts(record).filter_map(|upsert| run.may_return_at(upsert)).min();
    let writes = record.upserts.iter().chain(&record.removals).map(|&op| &run.all[op]);
    let is_above = |op: &&Operation<'_>| {
        op.acknowledged() == Some(Placement::Shared) && ended.is_some_and(|ended| ended < op.returned())
    };
    writes.filter(is_above).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{checker::fixture::Story, history::History};

    fn reason(history: &History) -> Option<&'static str> {
        let run = Operations::of(history);
        certainly_below(&run, &run.all[0], &run.all[1])
    }

    #[test]
    fn the_order_of_one_instance_is_certain_for_local_writes_too() {
        let mut story = Story::new(&["p", "p"]);
        story.upsert(0, "u", &["name"], Placement::Local);
        story.upsert(0, "u", &["name"], Placement::Shared);
        assert!(reason(&story.told()).is_some());
    }

    #[test]
    fn the_order_of_two_instances_is_certain_only_through_redis_and_without_a_loss() {
        for (first, lost, certain) in
            [(Placement::Shared, false, true), (Placement::Local, false, false), (Placement::Shared, true, false)]
        {
            let mut story = Story::new(&["p", "p"]);
            story.upsert(0, "u", &["name"], first);
            if lost {
                story.loss();
            }
            story.upsert(1, "u", &["name"], Placement::Shared);
            assert_eq!(reason(&story.told()).is_some(), certain, "{first:?}, lost: {lost}");
        }
    }

    #[test]
    fn redis_orders_no_write_above_one_whose_life_a_step_of_its_clock_ended() {
        for set_back in [false, true] {
            let mut story = Story::new(&["p", "p"]);
            story.expires_after_ms(10_000);
            story.upsert(0, "u", &["name"], Placement::Shared);
            if set_back {
                story.redis_clock_steps(900_000);
                story.redis_clock_steps(-900_000);
            }
            story.upsert(1, "u", &["name"], Placement::Shared);
            let told = story.told();
            assert_eq!(reason(&told).is_none(), set_back);
            let run = Operations::of(&told);
            assert_eq!(above_what_may_come_back(&run, &run.records[0]), u64::from(set_back));
        }
    }

    #[test]
    fn stamps_order_what_time_does_not() {
        let mut story = Story::new(&["p", "p"]);
        let first = story.upsert_begins(0, "u", &["name"]);
        let second = story.upsert_begins(1, "u", &["name"]);
        story.stamped(first, Placement::Local, "01");
        story.stamped(second, Placement::Local, "02");
        assert_eq!(reason(&story.told()), Some("its stamp is smaller"));
    }
}
