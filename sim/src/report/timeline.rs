//! The timeline of a run: one line an event, in fixed columns.

use std::fmt::Write as _;

use super::{seconds, word};
use crate::{
    checker::{Judgement, Verdict},
    explore::ending,
    faults::{Direction, Fault},
    history::{Answer, Call, Event, History, Outcome, Patch, What},
};

/// Widest text of a call or an answer before it is cut; a replay file has all of it.
const TEXT_MAX: usize = 100;

/// The whole run.
pub fn text(history: &History) -> String {
    let mut text = String::new();
    let header = &history.header;
    let _ = writeln!(text, "Seed {} of {}: {} instances", header.seed, header.workload, header.prefixes.len());
    for (instance, prefix) in header.prefixes.iter().enumerate() {
        let _ = writeln!(text, "  instance {instance}  prefix {prefix:?}");
    }
    let _ = writeln!(text, "\n{:>14}  {:<9}  {:<5}  {:<22}  what", "time [s]", "instance", "op", "event");
    for event in &history.events {
        line(&mut text, event);
    }
    text
}

/// The verdicts of a run, and why.
pub fn verdicts(judgements: &[Judgement]) -> String {
    let mut text = String::new();
    for Judgement { guarantee, verdict } in judgements {
        let _ = write!(text, "  {:<8}{guarantee}", word(verdict));
        let _ = match verdict {
            Verdict::Pass => writeln!(text),
            Verdict::Unknown { why } => writeln!(text, "\n          {why}"),
            Verdict::Violation { message, ops } => {
                writeln!(text, "\n          {message}\n          operations {ops:?}")
            }
        };
    }
    text
}

fn line(text: &mut String, event: &Event) {
    let (instance, op, kind, what) = match &event.what {
        What::Phase { phase } => {
            let name = serde_json::to_value(phase).unwrap_or_default();
            let _ = writeln!(
                text,
                "{:>14}  -- {} --",
                seconds(event.at_us),
                name.as_str().unwrap_or_default().replace('_', " ")
            );
            return;
        }
        What::Started { instance } => (Some(instance), None, "started", String::new()),
        What::Stopped { instance, how } => (Some(instance), None, "stopped", format!("{how:?}")),
        What::State { instance, state } => (Some(instance), None, "state", state.clone()),
        What::Invoke { instance, op, call } => (Some(instance), Some(op), "call", call_text(call)),
        What::Complete { instance, op, outcome } => (Some(instance), Some(op), ending(outcome), outcome_text(outcome)),
        What::FaultBegin { fault, what } => (None, None, "fault begins", format!("#{fault} {}", fault_text(what))),
        What::FaultEnd { fault } => (None, None, "fault ends", format!("#{fault}")),
        What::RedisLostData => (None, None, "redis lost its data", String::new()),
        What::Unquiet { instance, reason } => (Some(instance), None, "not at rest", reason.clone()),
    };
    let column = |number: Option<String>| number.unwrap_or_default();
    let _ = writeln!(
        text,
        "{}",
        format!(
            "{:>14}  {:<9}  {:<5}  {kind:<22}  {what}",
            seconds(event.at_us),
            column(instance.map(ToString::to_string)),
            column(op.map(ToString::to_string)),
        )
        .trim_end()
    );
}

fn call_text(call: &Call) -> String {
    match call {
        Call::Upsert { uid, patch } => format!("upsert {uid:?} {}", cut(&patch_text(patch))),
        Call::Get { uid } => format!("get {uid:?}"),
        Call::Remove { uid } => format!("remove {uid:?}"),
        Call::List => "list".to_owned(),
        Call::Clear => "clear".to_owned(),
        Call::Sync => "sync".to_owned(),
    }
}

fn patch_text(patch: &Patch) -> String {
    serde_json::to_string(patch).expect("a patch becomes JSON")
}

fn outcome_text(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Fail { error } | Outcome::Info { error } => error.clone(),
        Outcome::Ok { answer } => match answer {
            Answer::Written { stamp, .. } => stamp.clone().unwrap_or_default(),
            Answer::Read { record: None, .. } => "no record".to_owned(),
            Answer::Read { record: Some(record), .. } => cut(&record.to_string()),
            Answer::Listed { uids, .. } | Answer::Cleared { uids, .. } => cut(&format!("{uids:?}")),
            Answer::Synced { pending } => format!("{pending} pending"),
        },
    }
}

fn fault_text(fault: &Fault) -> String {
    let on = |instances: &[u32]| format!("{} of instances {instances:?}", fault.kind());
    match fault {
        Fault::Partition { instances, direction: Direction::Both } => format!("{} from redis", on(instances)),
        Fault::Partition { instances, .. } | Fault::ResetConnections { instances } => on(instances),
        Fault::SlowLink { instances, extra_us } => format!("{}: +{} ms each way", on(instances), extra_us / 1_000),
        Fault::InstanceRestart { instance } | Fault::InstanceCrash { instance, .. } => {
            format!("{} of instance {instance}", fault.kind())
        }
        Fault::RedisRefuses { with } => format!("{}: {with:?}", fault.kind()),
        Fault::RedisCrash { .. } | Fault::RedisPause | Fault::ScriptFlush | Fault::FlushAll => fault.kind().to_owned(),
    }
}

fn cut(text: &str) -> String {
    if text.chars().count() <= TEXT_MAX {
        return text.to_owned();
    }
    text.chars().take(TEXT_MAX).chain("..".chars()).collect()
}
