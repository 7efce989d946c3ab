//! G10 for a store that an operator or another process removed, moved away, or replaced by a copy. Its instance must report every
//! change that it can detect:
//!
//! - Each sync of a running instance can detect that its store is no longer in place. No write called after the change is
//!   acknowledged `Local` until the cache is opened again, and the cache does not report an orderly close.
//! - The same goes for a store that a process on another host has opened since.
//! - The next opening reports a log that is missing from a directory that had one, and a store that is a copy.
//! - An opening reports neither without such a change.
//! - If the whole directory is gone, or the clone of another volume is in its place, an opening reports no change: all evidence of the
//!   earlier store is gone too.
//!
//! An interrupted opening may already have detected the change, so that later openings need not report it. For an instance that
//! never reports on its store, only the visible effects are checked (G5, G6).

use std::collections::{BTreeMap, BTreeSet};

use super::{Account, Verdict, operations::Operations};
use crate::history::{Placement, Stop, StoreNow, StoreReport, What};

/// The store of one instance, as far as the history shows it.
#[derive(Default)]
struct KnownStore {
    runs: bool,
    /// The event since which the store of the running process is not in place.
    taken: Option<u64>,
    /// The change that the next opening must report, and its event.
    untold: Option<(StoreNow, u64)>,
    /// Every change so far. An opening may report one again: a full disk keeps the instance from noting that it reported a copy.
    had: Vec<StoreNow>,
}

/// A stretch between a change and the end of the process.
struct ChangedStretch {
    instance: u32,
    from: u64,
    until: u64,
}

pub(super) fn check(run: &Operations<'_>, account: &mut Account) -> Option<Verdict> {
    let speaking: BTreeSet<u32> = run.history.events.iter().filter_map(|event| speaker(&event.what)).collect();
    let mut each = BTreeMap::<u32, KnownStore>::new();
    let mut stretches = Vec::new();
    for event in &run.history.events {
        let found = match &event.what {
            What::Started { instance } => {
                each.entry(*instance).or_default().runs = true;
                None
            }
            What::Stopped { instance, how } => {
                let known = each.entry(*instance).or_default();
                account
                    .note("changes of stores of which no opening told: it was cut short", u64::from(known.must_tell()));
                let taken = known.stops();
                stretches.extend(taken.map(|from| ChangedStretch { instance: *instance, from, until: event.ordinal }));
                taken.filter(|_| *how == Stop::Closed).map(|since| {
                    (*instance, format!("closed its store in order, which was not where it was since event {since}"))
                })
            }
            What::StoreChanged { instance, now } => {
                account.note("changes of stores", 1);
                each.entry(*instance).or_default().changes(*now, event.ordinal);
                None
            }
            What::StoreReport { instance, report } => {
                let known = each.entry(*instance).or_default();
                account.note("changes of stores that an opening had to tell", u64::from(known.must_tell()));
                let said = known.hears(report);
                said.map(|what| (*instance, what))
            }
            _ => None,
        };
        if let Some((instance, what)) = found.filter(|(instance, _)| speaking.contains(instance)) {
            let message = format!("instance {instance} {what} (event {})", event.ordinal);
            return Some(Verdict::Violation { message, ops: Vec::new() });
        }
    }
    let running = each.into_iter().filter_map(|(instance, known)| Some((instance, known.taken?)));
    stretches.extend(running.map(|(instance, from)| ChangedStretch { instance, from, until: u64::MAX }));
    stretches.retain(|taken| speaking.contains(&taken.instance));
    stretches.iter().find_map(|taken| acknowledged_within(run, taken))
}

fn speaker(what: &What) -> Option<u32> {
    match what {
        What::StoreReport { instance, .. } => Some(*instance),
        _ => None,
    }
}

/// A write that was called after its store was taken away, and acknowledged to be in there.
fn acknowledged_within(run: &Operations<'_>, taken: &ChangedStretch) -> Option<Verdict> {
    let is_within = |called, returned| taken.from < called && returned < taken.until;
    let op = run.all.iter().find(|op| {
        op.instance == taken.instance
            && op.acknowledged() == Some(Placement::Local)
            && is_within(op.called, op.returned())
    })?;
    let message = format!(
        "{op} is acknowledged to be in a store that is not where it was (event {}): nobody would find it there",
        taken.from
    );
    Some(Verdict::Violation { message, ops: vec![op.number] })
}

impl KnownStore {
    /// Whether the opening that is under way has to report a change.
    fn must_tell(&self) -> bool {
        !self.runs && self.untold.is_some()
    }

    /// Notes the end of its process. Returns the event since which its store was not in place.
    fn stops(&mut self) -> Option<u64> {
        if !self.runs {
            self.untold = None;
        }
        self.runs = false;
        self.taken.take()
    }

    fn changes(&mut self, now: StoreNow, ordinal: u64) {
        if self.runs && now != StoreNow::Cut {
            self.taken.get_or_insert(ordinal);
        }
        self.untold = match now {
            StoreNow::LogGone | StoreNow::Copy => Some((now, ordinal)),
            StoreNow::Gone | StoreNow::Clone | StoreNow::Other => None,
            StoreNow::Away | StoreNow::Back | StoreNow::Cut | StoreNow::Taken => self.untold,
        };
        self.had.push(now);
    }

    /// The error in a report of the instance on its store. Only an opening has to report earlier changes.
    fn hears(&mut self, report: &StoreReport) -> Option<String> {
        if report.lost_log && !self.had.contains(&StoreNow::LogGone) {
            return Some("says that its log is gone, which nobody had removed".to_owned());
        }
        // The original of a clone may have had a copy in its place.
        if report.is_copy && !self.had.iter().any(|had| matches!(had, StoreNow::Copy | StoreNow::Clone)) {
            return Some("says that its store is a copy, which it is not".to_owned());
        }
        if self.runs {
            return None;
        }
        match self.untold.take()? {
            (StoreNow::LogGone, since) if !report.lost_log => {
                Some(format!("does not say that its log is gone since event {since}"))
            }
            (StoreNow::Copy, since) if !report.is_copy => {
                Some(format!("does not say that its store is a copy since event {since}"))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        checker::{
            Guarantee::{Durability, Integrity, Session},
            fixture::Story,
        },
        faults::{Fault, StoreChange},
        history::{Phase, Placement::Local, Source},
    };

    fn opens(story: &mut Story, report: StoreReport) {
        story.event(What::StoreReport { instance: 0, report });
        story.event(What::Started { instance: 0 });
    }

    fn clean() -> StoreReport {
        StoreReport { clean_end: true, ..StoreReport::default() }
    }

    /// A fault that begins with a change, while the instance runs or after it was closed.
    fn begins(story: &mut Story, change: StoreChange, now: StoreNow, running: bool) {
        let what = Fault::StoreChange { instance: 0, change, running };
        story.event(What::FaultBegin { fault: 0, what, at: None });
        if !running {
            story.event(What::Stopped { instance: 0, how: Stop::Closed });
        }
        story.event(What::StoreChanged { instance: 0, now });
    }

    fn ends(story: &mut Story, how: Option<Stop>) {
        if let Some(how) = how {
            story.event(What::Stopped { instance: 0, how });
        }
        story.event(What::FaultEnd { fault: 0, effects: 1 });
    }

    fn finally_lost(story: &mut Story) -> u64 {
        story.phase(Phase::FinalReads);
        story.get_none(0, "u", Source::Shared)
    }

    #[test]
    fn a_directory_that_is_gone_between_two_openings_may_be_met_in_silence_and_takes_what_only_it_held() {
        let mut story = Story::new(&["p"]);
        opens(&mut story, clean());
        story.upsert(0, "u", &["name"], Local);
        begins(&mut story, StoreChange::Removed, StoreNow::Gone, false);
        ends(&mut story, None);
        opens(&mut story, clean());
        finally_lost(&mut story);
        story.passes(Integrity);
        story.passes(Durability);
    }

    #[test]
    fn a_write_that_is_acknowledged_after_the_store_is_gone_is_a_violation_and_is_not_excused() {
        for (change, now) in [
            (StoreChange::Removed, StoreNow::Gone),
            (StoreChange::LogRemoved, StoreNow::LogGone),
            (StoreChange::MovedAway, StoreNow::Away),
            (StoreChange::CopiedBack { age_us: 1 }, StoreNow::Copy),
        ] {
            let mut story = Story::new(&["p"]);
            opens(&mut story, clean());
            begins(&mut story, change, now, true);
            let write = story.upsert(0, "u", &["name"], Local);
            ends(&mut story, Some(Stop::Killed));
            let [lost_log, is_copy] = [StoreNow::LogGone, StoreNow::Copy].map(|of| of == now);
            opens(&mut story, StoreReport { lost_log, is_copy, ..StoreReport::default() });
            let read = finally_lost(&mut story);
            story.violates(Integrity, "nobody would find it there", &[write]);
            story.violates(Durability, "although upsert 1", &[write, read]);
        }
    }

    #[test]
    fn a_store_that_is_gone_is_not_closed_in_order() {
        for (how, passes) in [(Stop::Closed, false), (Stop::Killed, true)] {
            let mut story = Story::new(&["p"]);
            opens(&mut story, clean());
            begins(&mut story, StoreChange::Emptied, StoreNow::Gone, true);
            ends(&mut story, Some(how));
            opens(&mut story, clean());
            if passes {
                story.passes(Integrity);
            } else {
                story.violates(Integrity, "closed its store in order, which was not where it was", &[]);
            }
        }
    }

    #[test]
    fn a_log_that_is_gone_and_a_copy_must_be_told_at_the_next_opening_that_is_not_cut_short() {
        let log_gone = StoreReport { lost_log: true, ..StoreReport::default() };
        let copy = StoreReport { is_copy: true, ..StoreReport::default() };
        let each = [
            (StoreChange::LogRemoved, StoreNow::LogGone, log_gone, "does not say that its log is gone"),
            (
                StoreChange::CopiedBack { age_us: 1 },
                StoreNow::Copy,
                copy.clone(),
                "does not say that its store is a copy",
            ),
            (copy_of_another(false), StoreNow::Copy, copy, "does not say that its store is a copy"),
        ];
        for (change, now, told, violation) in each {
            for (cut_short, report, passes) in [
                (false, told.clone(), true),
                (false, StoreReport::default(), false),
                (true, StoreReport::default(), true),
            ] {
                let mut story = Story::new(&["p"]);
                opens(&mut story, clean());
                begins(&mut story, change, now, false);
                ends(&mut story, None);
                if cut_short {
                    story.event(What::Stopped { instance: 0, how: Stop::Killed });
                }
                opens(&mut story, report);
                if passes {
                    story.passes(Integrity);
                } else {
                    story.violates(Integrity, violation, &[]);
                }
            }
            let mut story = Story::new(&["p"]);
            opens(&mut story, told);
            story.violates(Integrity, "says that its", &[]);
        }
    }

    /// Instance 0 has the store, instance 1 opens it too.
    fn shared(story: &mut Story, taken: u32) {
        let what = Fault::StoreShared { instances: vec![0, 1], taken_back: false };
        story.event(What::FaultBegin { fault: 0, what, at: None });
        story.event(What::Stopped { instance: 1, how: Stop::Closed });
        story.event(What::StoreChanged { instance: 1, now: StoreNow::Other });
        // It was not closed in order: instance 0 has it open.
        story.event(What::StoreReport { instance: 1, report: StoreReport::default() });
        story.event(What::Started { instance: 1 });
        story.event(What::StoreChanged { instance: taken, now: StoreNow::Taken });
    }

    fn shared_no_more(story: &mut Story, how: Stop) {
        story.event(What::Stopped { instance: 1, how });
        story.event(What::StoreChanged { instance: 1, now: StoreNow::Other });
        story.event(What::StoreReport { instance: 1, report: clean() });
        story.event(What::Started { instance: 1 });
        story.event(What::Stopped { instance: 0, how: Stop::Killed });
        story.event(What::FaultEnd { fault: 0, effects: 1 });
        opens(story, clean());
    }

    #[test]
    fn a_store_that_two_hosts_open_is_the_later_ones_and_nothing_acknowledged_is_excused() {
        for (by, taken) in [(1, 0), (0, 0), (1, 1)] {
            let mut story = Story::new(&["p", "p"]);
            opens(&mut story, clean());
            story.event(What::StoreReport { instance: 1, report: clean() });
            story.event(What::Started { instance: 1 });
            shared(&mut story, taken);
            let write = story.upsert(by, "u", &["name"], Local);
            shared_no_more(&mut story, if taken == 1 { Stop::Killed } else { Stop::Closed });
            if by == taken {
                story.violates(Integrity, "nobody would find it there", &[write]);
            } else {
                story.passes(Integrity);
            }
            let read = finally_lost(&mut story);
            story.violates(Durability, "although upsert 1", &[write, read]);
        }
    }

    #[test]
    fn an_instance_that_has_anothers_store_need_not_hold_what_is_in_its_own_one_and_one_that_shares_its_own_must() {
        for by in [0, 1] {
            let mut story = Story::new(&["p", "p"]);
            opens(&mut story, clean());
            story.event(What::StoreReport { instance: 1, report: clean() });
            story.event(What::Started { instance: 1 });
            let write = story.upsert(by, "u", &["name"], Local);
            shared(&mut story, 0);
            let read = story.get_none(by, "u", Source::Local);
            if by == 1 {
                story.passes(Session);
            } else {
                story.violates(Session, "", &[write, read]);
            }
        }
    }

    fn copy_of_another(volume: bool) -> StoreChange {
        StoreChange::CopyOf { original: 1, age_us: 0, volume }
    }

    #[test]
    fn the_clone_of_another_volume_may_be_told_or_not_and_takes_what_only_the_own_store_held_and_nothing_later() {
        for (is_copy, is_later) in [(false, false), (true, false), (false, true)] {
            let mut story = Story::new(&["p", "p"]);
            opens(&mut story, clean());
            story.upsert(0, "u", &["name"], Local);
            begins(&mut story, copy_of_another(true), StoreNow::Clone, false);
            ends(&mut story, None);
            opens(&mut story, StoreReport { is_copy, ..StoreReport::default() });
            if is_later {
                let write = story.upsert(0, "u", &["name"], Local);
                let read = finally_lost(&mut story);
                story.violates(Durability, "although upsert 2", &[write, read]);
            } else {
                finally_lost(&mut story);
                story.passes(Integrity);
                story.passes(Durability);
            }
        }
    }

    #[test]
    fn what_was_in_a_store_that_was_moved_away_is_there_when_it_is_back() {
        let mut story = Story::new(&["p"]);
        opens(&mut story, clean());
        let write = story.upsert(0, "u", &["name"], Local);
        begins(&mut story, StoreChange::MovedAway, StoreNow::Away, true);
        story.event(What::Stopped { instance: 0, how: Stop::Killed });
        story.event(What::StoreChanged { instance: 0, now: StoreNow::Back });
        ends(&mut story, None);
        opens(&mut story, StoreReport::default());
        let read = finally_lost(&mut story);
        story.passes(Integrity);
        story.violates(Durability, "although upsert 1", &[write, read]);
    }
}
