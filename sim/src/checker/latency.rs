//! G8: every call returns within its deadline, and what needs only the local disk succeeds.
//!
//! No run injects disk faults or reaches a limit, so `get`, `upsert` and `remove` must not fail, except that a record
//! which cannot be kept exactly is refused. `list`, `clear` and `sync` may answer any error, in time.

use super::{
    Verdict,
    operations::{Operation, Operations},
};
use crate::history::{Call, Outcome, What};

/// What a call may take beyond its deadline: the simulated scheduler wakes a sleeper up to a tick late, and the answer
/// passes through a few wake-ups before it is recorded.
const SLACK_US: u64 = 2_000;

pub(super) fn check(run: &Operations<'_>) -> Verdict {
    run.all.iter().fold(Verdict::Pass, |verdict, op| verdict.merge(judge(run, op)))
}

fn judge(run: &Operations<'_>, op: &Operation<'_>) -> Verdict {
    let deadline_us = run.history.header.op_deadline_us;
    let violation = |message| Verdict::Violation { message, ops: vec![op.number] };
    let Some(end) = op.end else { return unanswered(run, op) };
    let took_us = end.at_us.saturating_sub(op.called_at_us);
    if took_us > deadline_us.saturating_add(SLACK_US) {
        return violation(format!("{op} took {took_us} us, its deadline is {deadline_us} us"));
    }
    let must_succeed = matches!(op.call, Call::Get { .. } | Call::Upsert { .. } | Call::Remove { .. });
    match end.outcome {
        Outcome::Fail { error } if must_succeed && !error.starts_with("refused") => {
            violation(format!("{op} failed while its disk worked: {error}"))
        }
        Outcome::Info { error } if must_succeed => violation(format!("{op} gave up while its disk worked: {error}")),
        Outcome::Ok { .. } | Outcome::Fail { .. } | Outcome::Info { .. } => Verdict::Pass,
    }
}

fn unanswered(run: &Operations<'_>, op: &Operation<'_>) -> Verdict {
    if run.stops.iter().any(|&(at, instance, _)| at > op.called && instance == op.instance) || is_down(run, op) {
        return Verdict::Pass;
    }
    let deadline_us = run.history.header.op_deadline_us;
    let ends_at_us = run.history.events.last().map_or(0, |event| event.at_us);
    if ends_at_us <= op.called_at_us.saturating_add(deadline_us).saturating_add(SLACK_US) {
        return Verdict::Unknown { why: format!("the history ends before the deadline of {op}") };
    }
    let message = format!("{op}: its deadline of {deadline_us} us passed and its instance was not stopped");
    Verdict::Violation { message, ops: vec![op.number] }
}

/// Whether the instance was stopped, and not started again, when it was called.
fn is_down(run: &Operations<'_>, op: &Operation<'_>) -> bool {
    let Some(&(stopped, ..)) =
        run.stops.iter().rev().find(|(at, instance, _)| *at < op.called && *instance == op.instance)
    else {
        return false;
    };
    let started = |what: &What| matches!(what, What::Started { instance } if *instance == op.instance);
    let between = run.history.events.iter().filter(|event| stopped < event.ordinal && event.ordinal < op.called);
    !between.into_iter().any(|event| started(&event.what))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        checker::{
            Guarantee::Latency,
            fixture::{DEADLINE_US, Story},
        },
        history::{Phase, Placement, Source, Stop},
    };

    #[test]
    fn a_call_within_deadline_and_slack_passes() {
        let mut story = Story::new(&["p"]);
        let get = story.get_begins(0, "u");
        story.now_us += DEADLINE_US + SLACK_US - 100;
        story.got_none(get, Source::Local);
        story.passes(Latency);
    }

    #[test]
    fn a_late_call_is_a_violation() {
        let mut story = Story::new(&["p"]);
        let sync = story.begin(0, Call::Sync);
        story.now_us += DEADLINE_US + SLACK_US - 99;
        story.info(sync);
        story.violates(Latency, "took 252001 us, its deadline is 250000 us", &[sync]);
    }

    #[test]
    fn a_call_that_never_returns_is_a_violation_unless_its_instance_stopped() {
        let mut story = Story::new(&["p", "p"]);
        story.get_begins(1, "u");
        story.stop(1, Stop::Killed);
        let hangs = story.get_begins(0, "u");
        story.leaves_unknown(Latency, "ends before the deadline");
        story.now_us += DEADLINE_US + SLACK_US;
        story.phase(Phase::Heal);
        story.violates(Latency, "instance was not stopped", &[hangs]);
    }

    #[test]
    fn a_call_on_a_stopped_instance_need_not_return() {
        let mut story = Story::new(&["p"]);
        story.event(What::Stopped { instance: 0, how: Stop::PowerLost });
        story.get_begins(0, "u");
        story.now_us += DEADLINE_US * 2;
        story.phase(Phase::Heal);
        story.passes(Latency);
    }

    #[test]
    fn a_failed_read_and_a_doubtful_write_are_violations() {
        let mut story = Story::new(&["p"]);
        let get = story.get_begins(0, "u");
        story.fail(get, "connection refused");
        story.violates(Latency, "connection refused", &[get]);

        let mut story = Story::new(&["p"]);
        let upsert = story.upsert_begins(0, "u", &["name"]);
        story.info(upsert);
        story.violates(Latency, "gave up while its disk worked", &[upsert]);
    }

    #[test]
    fn a_refusal_and_an_incomplete_list_are_legal() {
        let mut story = Story::new(&["p"]);
        let upsert = story.upsert_begins(0, "u", &["name"]);
        story.fail(upsert, "refused: nesting deeper than 64");
        let list = story.begin(0, Call::List);
        story.info(list);
        story.upsert(0, "u", &["name"], Placement::Local);
        story.passes(Latency);
    }
}
