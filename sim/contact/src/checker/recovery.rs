//! G9: when Redis is back, every instance is connected and drained within a bound.
//!
//! The bound is the phase of quiescence: what has not come to rest at its end says so with an `Unquiet` event, and the
//! last state that an instance reported must be `connected`. An instance that has reported none since it was last
//! started is judged by its rest alone.
//!
//! A `sync` that answers that nothing is pending has heard so from Redis: it is a violation where the instance was cut off from a
//! local write before it until it returned.
//!
//! And without a stampede: of N instances at most N/4, or ten, ask for a connection within any 100 ms. An instance that
//! is being started asks at once, and is not counted until it has opened its cache: when it starts is not its choice.
//! All else is, also what it does when a fault ends for everybody in one moment: its first delay is drawn from at least a
//! second.

use super::{
    Account, Excuse, Verdict,
    cuts::{Cuts, ON_ITS_WAY_US},
    operation::Operation,
    operations::Operations,
};
use crate::history::{Answer, Event, Phase, Placement, What};

/// The window in which attempts to connect are counted, in simulated microseconds.
const WINDOW_US: u64 = 100_000;

/// So few attempts within a window harm nobody.
const ATTEMPTS_LEAST: usize = 10;

pub(super) fn check(run: &Operations<'_>, account: &mut Account) -> Verdict {
    if let Some(message) = run.unquiet() {
        return Verdict::Violation { message, ops: Vec::new() };
    }
    let (mut quiesced, mut reading) = (false, false);
    let mut states: Vec<Option<(u64, &str)>> = vec![None; run.history.header.prefixes.len()];
    for event in &run.history.events {
        match &event.what {
            What::Phase { phase: Phase::Quiesce } => quiesced = true,
            What::Phase { phase: Phase::FinalReads } => reading = true,
            // A final read may tell Redis again of a removal that it has forgotten in its time.
            What::State { .. } if reading && run.history.header.tuning.tombstone_ttl_ms.is_some() => {
                account.note("states reported while final reads told removals again", 1);
            }
            What::State { instance, state } => {
                if let Some(last) = states.get_mut(*instance as usize) {
                    *last = Some((event.ordinal, state));
                }
            }
            What::Stopped { instance, .. } => {
                if let Some(last) = states.get_mut(*instance as usize) {
                    *last = None;
                }
            }
            _ => {}
        }
    }
    if !quiesced {
        return Verdict::Unknown { why: "the history has no phase of quiescence".to_owned() };
    }
    for (instance, last) in states.iter().enumerate() {
        account.count(last.is_none().then_some(Excuse::NotTold));
        if let Some((ordinal, state)) = last.filter(|(_, state)| *state != "connected") {
            let message = format!("instance {instance} ended {state} (event {ordinal}), although Redis was back");
            return Verdict::Violation { message, ops: Vec::new() };
        }
    }
    if let Some(verdict) = synced_unheard(run, account) {
        return verdict;
    }
    stampede(run, account).map_or(Verdict::Pass, |message| Verdict::Violation { message, ops: Vec::new() })
}

/// A sync that has nothing pending, although Redis cannot have acknowledged a local write before it.
fn synced_unheard(run: &Operations<'_>, account: &mut Account) -> Option<Verdict> {
    let cuts = Cuts::of(&run.history.events);
    for sync in &run.all {
        let (Some(Answer::Synced { pending: 0 }), Some(end)) = (sync.answer(), sync.end) else { continue };
        account.note("syncs that left nothing pending", 1);
        let is_kept = |write: &&Operation<'_>| {
            write.instance == sync.instance
                && write.acknowledged() == Some(Placement::Local)
                && write.precedes(sync)
                && !run.excuses.is_damaged(write.instance, write.called, sync.returned())
        };
        let is_unheard = |write: &&Operation<'_>| {
            let cut = cuts.around(write.instance, write.called_at_us, end.at_us);
            cut.is_some_and(|cut_us| cut_us.saturating_add(ON_ITS_WAY_US) < write.called_at_us)
        };
        if let Some(write) = run.all.iter().filter(is_kept).find(is_unheard) {
            let message = format!("{sync} left nothing pending, but its instance was cut off from Redis since {write}");
            return Some(Verdict::Violation { message, ops: vec![write.number, sync.number] });
        }
    }
    None
}

/// Too many attempts to connect within one window.
fn stampede(run: &Operations<'_>, account: &mut Account) -> Option<String> {
    let events = &run.history.events;
    let instances = run.history.header.prefixes.len();
    let openings = openings(events, instances);
    let mut times: Vec<u64> = Vec::new();
    for event in events {
        let What::Attempts { instance, times_us } = &event.what else { continue };
        let openings = openings.get(*instance as usize).map_or(&[][..], Vec::as_slice);
        let counts = |at: &&u64| !openings.iter().any(|(from, until)| from <= *at && *at <= until);
        let before = times.len();
        times.extend(times_us.iter().filter(counts));
        let left_out = times_us.len() - (times.len() - before);
        account.note("attempts to connect while an instance was being started", left_out as u64);
    }
    times.sort_unstable();
    let most = (instances / 4).max(ATTEMPTS_LEAST);
    let crowd = times.windows(most + 1).find(|crowd| crowd[most] - crowd[0] < WINDOW_US)?;
    let within = times.iter().filter(|&&at| crowd[0] <= at && at - crowd[0] < WINDOW_US).count();
    Some(format!(
        "{within} attempts to connect within 100 ms, from {} us: of {instances} instances at most {most} may come at once",
        crowd[0]
    ))
}

/// When each instance was being started: from its end, or the beginning, until it had opened its cache, or ended again
/// before.
fn openings(events: &[Event], instances: usize) -> Vec<Vec<(u64, u64)>> {
    let mut openings = vec![Vec::new(); instances];
    let mut since_us = vec![Some(0); instances];
    for event in events {
        let (instance, next) = match event.what {
            What::Started { instance } => (instance as usize, None),
            What::Stopped { instance, .. } => (instance as usize, Some(event.at_us)),
            _ => continue,
        };
        if let (Some(openings), Some(since_us)) = (openings.get_mut(instance), since_us.get_mut(instance)) {
            openings.extend(std::mem::replace(since_us, next).map(|since| (since, event.at_us)));
        }
    }
    for (openings, since_us) in openings.iter_mut().zip(since_us) {
        openings.extend(since_us.map(|since| (since, u64::MAX)));
    }
    openings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        checker::{Guarantee::Recovery, fixture::Story},
        history::Stop,
    };

    fn state(story: &mut Story, instance: u32, state: &str) {
        story.event(What::State { instance, state: state.to_owned() });
    }

    #[test]
    fn an_instance_that_ends_connected_passes() {
        let mut story = Story::new(&["p", "p"]);
        state(&mut story, 0, "degraded");
        state(&mut story, 1, "connected");
        story.phase(Phase::Quiesce);
        state(&mut story, 0, "recovering");
        state(&mut story, 0, "connected");
        story.phase(Phase::FinalReads);
        story.passes(Recovery);
    }

    #[test]
    fn an_instance_that_stays_degraded_is_a_violation() {
        let mut story = Story::new(&["p", "p"]);
        state(&mut story, 0, "connected");
        state(&mut story, 1, "degraded");
        story.phase(Phase::Quiesce);
        story.violates(Recovery, "instance 1 ended degraded (event 1)", &[]);
    }

    #[test]
    fn an_instance_that_tells_a_forgotten_removal_again_in_the_end_is_no_violation() {
        for forgets in [true, false] {
            let mut story = Story::new(&["p"]);
            if forgets {
                story.forgets_removals_after_ms(120_000);
            }
            story.phase(Phase::Quiesce);
            state(&mut story, 0, "connected");
            story.phase(Phase::FinalReads);
            state(&mut story, 0, "recovering");
            if forgets {
                story.passes(Recovery);
            } else {
                story.violates(Recovery, "instance 0 ended recovering", &[]);
            }
        }
    }

    #[test]
    fn a_state_from_before_a_crash_says_nothing() {
        let mut story = Story::new(&["p"]);
        state(&mut story, 0, "degraded");
        story.stop(0, Stop::Killed);
        story.phase(Phase::Quiesce);
        story.passes(Recovery);
    }

    #[test]
    fn an_instance_that_is_not_drained_is_a_violation() {
        let mut story = Story::new(&["p"]);
        story.phase(Phase::Quiesce);
        story.unquiet(0);
        story.violates(Recovery, "3 writes pending", &[]);
    }

    /// Instances that are up, and ask for a connection at these times.
    fn crowd(instances: u32, at_us: impl Fn(u32) -> Vec<u64>) -> Story {
        let mut story = Story::new(&vec!["p"; instances as usize]);
        (0..instances).for_each(|instance| story.event(What::Started { instance }));
        story.phase(Phase::Quiesce);
        for instance in 0..instances {
            story.event(What::Attempts { instance, times_us: at_us(instance) });
        }
        story
    }

    #[test]
    fn two_hundred_instances_that_return_spread_out_pass() {
        crowd(200, |instance| vec![1_000_000 + u64::from(instance) * 2_000]).passes(Recovery);
    }

    #[test]
    fn two_hundred_instances_that_return_in_one_moment_are_a_violation() {
        let story = crowd(200, |instance| vec![1_000_000 + u64::from(instance) * 1_900]);
        let said = "53 attempts to connect within 100 ms, from 1000000 us: of 200 instances at most 50";
        story.violates(Recovery, said, &[]);
    }

    #[test]
    fn a_single_instance_that_does_not_wait_between_attempts_is_a_violation() {
        let tight = (0..11).map(|attempt| 1_000_000 + attempt * 9_000).collect::<Vec<_>>();
        crowd(1, |_| tight.clone()).violates(Recovery, "11 attempts to connect within 100 ms", &[]);
        crowd(1, |_| tight[1..].to_vec()).passes(Recovery);
    }

    #[test]
    fn instances_that_are_started_in_one_moment_are_no_stampede() {
        crowd(50, |_| vec![0]).passes(Recovery);
        crowd(50, |_| vec![50_000]).violates(Recovery, "50 attempts", &[]);
    }

    #[test]
    fn an_instance_that_ends_while_it_is_started_was_being_started_until_then() {
        let mut story = Story::new(&["p"]);
        story.event(What::Started { instance: 0 });
        for how in [Stop::Closed, Stop::Killed] {
            story.event(What::Stopped { instance: 0, how });
        }
        story.event(What::Started { instance: 0 });
        let events = story.told().events;
        let at: Vec<_> = events.iter().map(|event| event.at_us).collect();
        assert_eq!(openings(&events, 1), [[(0, at[0]), (at[1], at[2]), (at[2], at[3])]]);
    }

    #[test]
    fn without_quiescence_nothing_is_known() {
        Story::new(&["p"]).leaves_unknown(Recovery, "no phase of quiescence");
    }
}
