//! G9: when Redis is back, every instance is connected and drained within a bound.
//!
//! The bound is the phase of quiescence: what has not come to rest at its end says so with an `Unquiet` event, and the
//! last state that an instance reported must be `connected`. An instance that has reported none since it was last
//! started is judged by its rest alone.

use super::{Verdict, operations::Operations};
use crate::history::{Phase, What};

pub(super) fn check(run: &Operations<'_>) -> Verdict {
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
            What::State { .. } if reading && run.history.header.tuning.tombstone_ttl_ms.is_some() => {}
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
        if let Some((ordinal, state)) = last.filter(|(_, state)| *state != "connected") {
            let message = format!("instance {instance} ended {state} (event {ordinal}), although Redis was back");
            return Verdict::Violation { message, ops: Vec::new() };
        }
    }
    Verdict::Pass
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

    #[test]
    fn without_quiescence_nothing_is_known() {
        Story::new(&["p"]).leaves_unknown(Recovery, "no phase of quiescence");
    }
}
