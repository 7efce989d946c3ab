//! G10: damage to a local store is noticed, set aside and reported; what is lost by it is never lost in silence.
//!
//! Judged by what an instance says of its store. Damage that lay in a store which had been closed in order must show at the
//! next opening: as a loss, or, where it hit the end of the log, as a store that was not closed in order (rot of the last
//! entries and what a crash cut short cannot be told apart). A loss comes with the damaged file set aside, and only where
//! a fault did damage: what a crash or a failed sync leaves is no damage. A store that was closed in order, and that nothing
//! did damage to, is known as that. And where the loss of a write is excused by damage (G5), its instance must have said
//! something, unless its directory was gone: all evidence of the store is gone with it. `changed.rs` checks the reports on a store
//! that an operator or another process removed, moved or replaced by a copy. G1 and G7 check by the values that no damaged record is
//! served. An instance that never reports on its store cannot be judged once its store was damaged.

use super::{Account, Excuse, Verdict, changed, durability, operation::Operation, operations::Operations};
use crate::history::{Stop, StoreNow, StoreReport, What};

pub(super) fn check(run: &Operations<'_>, account: &mut Account) -> Verdict {
    let mut damaged = vec![false; run.history.header.prefixes.len()];
    let mut closed = damaged.clone();
    for event in &run.history.events {
        let found = match &event.what {
            What::Stopped { instance, how } => {
                set(&mut closed, *instance, *how == Stop::Closed);
                None
            }
            What::StoreDamaged { instance } => {
                let in_order = closed.get(*instance as usize).copied().unwrap_or_default();
                set(&mut damaged, *instance, in_order);
                None
            }
            // The damaged file is no longer in place.
            What::StoreChanged {
                instance,
                now: StoreNow::Gone | StoreNow::LogGone | StoreNow::Copy | StoreNow::Clone,
            } => {
                set(&mut damaged, *instance, false);
                None
            }
            // Who closed that store, and when, is not the instance's own doing.
            What::StoreChanged { instance, now: StoreNow::Other } => {
                set(&mut damaged, *instance, false);
                set(&mut closed, *instance, false);
                None
            }
            What::StoreReport { instance, report } => {
                let [unseen, in_order] = [&mut damaged, &mut closed]
                    .map(|flags| flags.get_mut(*instance as usize).is_some_and(std::mem::take));
                let excused = run.excuses.was_damaged(*instance, event.ordinal);
                let is_bad = report.lost || report.damaged_records > 0 || in_order && !report.clean_end;
                account.count((is_bad && excused).then_some(Excuse::Damage));
                wrong(report, unseen, in_order, excused).map(|what| (instance, what))
            }
            _ => None,
        };
        if let Some((instance, what)) = found {
            let message = format!("instance {instance} {what} (event {})", event.ordinal);
            return Verdict::Violation { message, ops: Vec::new() };
        }
    }
    if let Some(violation) = changed::check(run, account) {
        return violation;
    }
    let lost = durability::excused(run);
    account.note("cells of final reads that damage took", lost.len() as u64);
    let violation = lost.into_iter().find_map(|op| silent(run, op));
    violation.unwrap_or_else(|| unheard(run))
}

/// Unknown if a store was damaged whose instance never says anything.
fn unheard(run: &Operations<'_>) -> Verdict {
    let events = || run.history.events.iter();
    let speaks =
        |instance| events().any(|event| matches!(event.what, What::StoreReport { instance: of, .. } if of == instance));
    let damaged = events().find_map(|event| match event.what {
        What::StoreDamaged { instance } | What::StoreChanged { instance, .. } if !speaks(instance) => {
            Some((instance, event.ordinal))
        }
        _ => None,
    });
    match damaged {
        Some((instance, ordinal)) => {
            let why =
                format!("instance {instance}, whose store was damaged (event {ordinal}), never says anything of it");
            Verdict::Unknown { why }
        }
        None => Verdict::Pass,
    }
}

fn set(flags: &mut [bool], instance: u32, to: bool) {
    if let Some(flag) = flags.get_mut(instance as usize) {
        *flag = to;
    }
}

/// What is wrong with a report: the first since the store was damaged after an orderly end, or since an orderly end.
fn wrong(report: &StoreReport, damaged: bool, in_order: bool, excused: bool) -> Option<&'static str> {
    if damaged && report.clean_end && !report.lost {
        return Some("opened a damaged store and says that nothing is wrong with it");
    }
    if report.lost && !report.set_aside {
        return Some("says that something is lost from its store, and has not set the file aside");
    }
    if (report.lost || report.damaged_records > 0) && !excused {
        return Some("says that its store is damaged, which nothing had done damage to");
    }
    if in_order && !report.clean_end && !excused {
        return Some("says that its store was not closed in order, which it was");
    }
    None
}

/// A write that is lost, of an instance that never said anything.
fn silent(run: &Operations<'_>, lost: &Operation<'_>) -> Option<Verdict> {
    let says = |event: &What| match event {
        What::StoreReport { instance, report } => {
            let StoreReport { clean_end, lost: is_loss, lost_log, is_copy, damaged_records, .. } = *report;
            *instance == lost.instance && (is_loss || !clean_end || lost_log || is_copy || damaged_records > 0)
        }
        // All evidence of the loss is gone too. `changed` checks the instance while it runs.
        What::StoreChanged { instance, now: StoreNow::Gone | StoreNow::Clone } => *instance == lost.instance,
        _ => false,
    };
    let since = run.excuses.damaged_after(lost.instance, lost.called)?;
    let mut later = run.history.events.iter().filter(|event| event.ordinal > since);
    if later.any(|event| says(&event.what)) {
        return None;
    }
    let message = format!("{lost} is lost by damage to the store, of which its instance said nothing");
    Some(Verdict::Violation { message, ops: vec![lost.number] })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        checker::{
            Guarantee::{Durability, Integrity, Session},
            fixture::{Story, stored},
        },
        faults::{Fault, StoreChange},
        history::{
            Phase,
            Placement::{Local, Shared},
            Source, StoredRecord,
        },
    };

    fn rots(story: &mut Story) {
        story.event(What::FaultBegin { fault: 0, what: Fault::BitRot { instance: 0, running: false }, at: None });
        story.event(What::Stopped { instance: 0, how: Stop::Closed });
        story.event(What::StoreDamaged { instance: 0 });
        story.event(What::FaultEnd { fault: 0, effects: 1 });
    }

    fn opens(story: &mut Story, report: StoreReport) {
        story.event(What::StoreReport { instance: 0, report });
        story.event(What::Started { instance: 0 });
    }

    fn clean() -> StoreReport {
        StoreReport { clean_end: true, ..StoreReport::default() }
    }

    fn salvaged() -> StoreReport {
        StoreReport { clean_end: true, lost: true, set_aside: true, ..StoreReport::default() }
    }

    #[test]
    fn damage_that_nobody_notices_is_a_violation() {
        let mut story = Story::new(&["p"]);
        rots(&mut story);
        opens(&mut story, clean());
        story.violates(Integrity, "says that nothing is wrong", &[]);
    }

    #[test]
    fn of_an_instance_that_never_says_anything_nothing_can_be_said_once_its_store_was_damaged() {
        let mut story = Story::new(&["p"]);
        story.passes(Integrity);
        rots(&mut story);
        story.event(What::Started { instance: 0 });
        story.leaves_unknown(Integrity, "instance 0, whose store was damaged (event 2), never says anything of it");
    }

    #[test]
    fn an_orderly_end_that_is_not_known_as_one_is_a_violation() {
        for (how, passes) in [(Stop::Closed, false), (Stop::Killed, true)] {
            let mut story = Story::new(&["p"]);
            opens(&mut story, clean());
            story.event(What::Stopped { instance: 0, how });
            opens(&mut story, StoreReport::default());
            if passes {
                story.passes(Integrity);
            } else {
                story.violates(Integrity, "was not closed in order, which it was", &[]);
            }
        }
    }

    #[test]
    fn damage_of_a_store_that_was_removed_before_it_was_opened_again_is_met_by_no_opening() {
        let mut story = Story::new(&["p"]);
        rots(&mut story);
        let what = Fault::StoreChange { instance: 0, change: StoreChange::Removed, running: false };
        story.event(What::FaultBegin { fault: 1, what, at: None });
        story.event(What::Stopped { instance: 0, how: Stop::Killed });
        story.event(What::StoreChanged { instance: 0, now: StoreNow::Gone });
        story.event(What::FaultEnd { fault: 1, effects: 1 });
        opens(&mut story, clean());
        story.passes(Integrity);
    }

    #[test]
    fn damage_that_is_salvaged_and_set_aside_passes_and_excuses_what_only_that_store_held() {
        let mut story = Story::new(&["p"]);
        let lost = story.upsert(0, "u", &["name"], Local);
        rots(&mut story);
        opens(&mut story, salvaged());
        story.get_none(0, "u", Source::Local);
        story.phase(Phase::FinalReads);
        story.get_none(0, "u", Source::Shared);
        for guarantee in [Integrity, Durability, Session] {
            story.passes(guarantee);
        }
        assert!(lost > 0);
    }

    #[test]
    fn what_can_still_be_read_of_a_damaged_store_must_not_be_lost() {
        let told = |whole: fn(u64) -> Option<StoredRecord>| {
            let mut story = Story::new(&["p"]);
            let kept = story.upsert(0, "u", &["name"], Local);
            rots(&mut story);
            story.store_holds(0, whole(kept).as_slice());
            opens(&mut story, salvaged());
            story.phase(Phase::FinalReads);
            let read = story.get_none(0, "u", Source::Shared);
            (story, [kept, read])
        };
        let (story, ops) = told(|kept| Some(stored("p", "u", &[("name", kept)])));
        story.violates(Durability, "although upsert 1", &ops);
        told(|_| Some(stored("p", "v", &[]))).0.passes(Durability);
        told(|_| None).0.passes(Durability);
    }

    #[test]
    fn damage_at_the_end_of_the_log_may_look_like_a_crash() {
        let mut story = Story::new(&["p"]);
        rots(&mut story);
        opens(&mut story, StoreReport::default());
        story.passes(Integrity);
    }

    #[test]
    fn damage_excuses_no_write_that_redis_had_and_none_of_another_instance() {
        let mut story = Story::new(&["p", "p"]);
        let merged = story.upsert(0, "u", &["name"], Local);
        story.get(1, "u", Source::Shared, &[("name", merged)]);
        rots(&mut story);
        opens(&mut story, salvaged());
        story.phase(Phase::FinalReads);
        let read = story.get_none(0, "u", Source::Shared);
        story.violates(Durability, "although upsert 1", &[merged, read]);

        for (instance, placement) in [(1, Local), (0, Shared)] {
            let mut story = Story::new(&["p", "p"]);
            let kept = story.upsert(instance, "u", &["name"], placement);
            rots(&mut story);
            opens(&mut story, salvaged());
            story.phase(Phase::FinalReads);
            let read = story.get_none(0, "u", Source::Shared);
            story.violates(Durability, "although upsert 1", &[kept, read]);
        }
    }

    #[test]
    fn a_write_that_is_lost_in_silence_is_a_violation() {
        let mut story = Story::new(&["p"]);
        story.event(What::FaultBegin { fault: 0, what: Fault::BitRot { instance: 0, running: true }, at: None });
        let lost = story.upsert(0, "u", &["name"], Local);
        story.event(What::FaultEnd { fault: 0, effects: 1 });
        story.phase(Phase::FinalReads);
        story.get_none(0, "u", Source::Shared);
        story.violates(Integrity, "of which its instance said nothing", &[lost]);
    }

    #[test]
    fn a_loss_without_a_file_set_aside_or_without_damage_is_a_violation() {
        let mut story = Story::new(&["p"]);
        rots(&mut story);
        opens(&mut story, StoreReport { set_aside: false, ..salvaged() });
        story.violates(Integrity, "has not set the file aside", &[]);

        let mut story = Story::new(&["p"]);
        story.stop(0, Stop::PowerLost);
        opens(&mut story, salvaged());
        story.violates(Integrity, "which nothing had done damage to", &[]);
    }
}
