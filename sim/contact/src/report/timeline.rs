//! The timeline of a run: one line an event, in fixed columns.

use std::fmt::Write as _;

use super::{account::account_text, seconds, word};
use crate::{
    checker::{Judgement, Verdict},
    faults::{CutDirection, Fault, StoreChange},
    history::{Answer, Call, Event, Freshness, History, Holding, Outcome, Patch, ReadOfOne, StoreReport, What},
    outcomes::ending,
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
    for Judgement { guarantee, verdict, account } in judgements {
        let _ = write!(text, "  {:<8}{guarantee}", word(verdict));
        let _ = match verdict {
            Verdict::Pass => writeln!(text),
            Verdict::Unknown { why } => writeln!(text, "\n          {why}"),
            Verdict::Violation { message, ops } => {
                writeln!(text, "\n          {message}\n          operations {ops:?}")
            }
        };
        if account.total() > 0 {
            let _ = writeln!(text, "          {}", account_text(*guarantee, account));
        }
        for (what, count) in &account.notes {
            let _ = writeln!(text, "{count:>14}  {what}");
        }
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
        What::FaultBegin { fault, what, at } => {
            let at = at.as_ref().map_or(String::new(), |moment| format!(", {moment}"));
            (None, None, "fault begins", format!("#{fault} {}{at}", fault_text(what)))
        }
        What::FaultEnd { fault, effects } => (None, None, "fault ends", format!("#{fault}, effects {effects}")),
        What::RedisLostData => (None, None, "redis lost its data", String::new()),
        What::RedisLostRecords { records } => {
            let uids: Vec<_> = records.iter().map(|record| (&record.prefix, &record.uid)).collect();
            (None, None, "redis lost records", cut(&format!("{uids:?}")))
        }
        What::RedisLostKeys { keys } => (None, None, "redis lost keys", format!("{} of another service", keys.len())),
        What::OthersWrote { keys } => (None, None, "others wrote", format!("{} keys", keys.len())),
        What::Cancelled { instance, op } => (Some(instance), Some(op), "given up by caller", String::new()),
        What::StoreDamaged { instance } => (Some(instance), None, "store is damaged", String::new()),
        What::StoreChanged { instance, now } => (Some(instance), None, "store is changed", format!("{now:?}")),
        What::StoreReport { instance, report } => (Some(instance), None, "store", report_text(report)),
        What::OpenFailed { instance, error } => (Some(instance), None, "failed to open", error.clone()),
        What::Holds { instance, closed, what } => {
            let kind = if *closed { "closed, holds" } else { "holds" };
            (Some(instance), None, kind, holdings_text(what))
        }
        What::Attempts { instance, times_us: at_us } => {
            (Some(instance), None, "connects", format!("asked for a connection {} times", at_us.len()))
        }
        What::RedisHolds { keys } => (None, None, "redis holds", format!("{} keys", keys.len())),
        What::StoreHolds { instance, entries } => {
            (Some(instance), None, "store holds", format!("{} records", entries.len()))
        }
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

fn holdings_text(what: &[Holding]) -> String {
    let each = what.iter().map(|held| {
        let limit = held.limit.map_or(String::new(), |limit| format!(" of {limit}"));
        format!("{:?} {}, at most {}{limit}", held.resource, held.now, held.most)
    });
    each.collect::<Vec<_>>().join("; ")
}

fn report_text(report: &StoreReport) -> String {
    let StoreReport { clean_end, lost, set_aside, damaged_records, lost_log, is_copy } = report;
    let mut said = vec![if *clean_end { "closed in order" } else { "not closed in order" }.to_owned()];
    said.extend(lost.then(|| "something is lost".to_owned()));
    said.extend(set_aside.then(|| "the damaged file is set aside".to_owned()));
    said.extend(lost_log.then(|| "the log is gone".to_owned()));
    said.extend(is_copy.then(|| "it is a copy".to_owned()));
    said.extend((*damaged_records > 0).then(|| format!("{damaged_records} records turned out to be damaged")));
    said.join(", ")
}

fn call_text(call: &Call) -> String {
    match call {
        Call::Upsert { uid, patch, shared } => {
            format!("upsert{} {uid:?} {}", demand_text(*shared), cut(&patch_text(patch)))
        }
        Call::Get { uid, freshness } => format!("get{} {uid:?}", freshness_text(*freshness)),
        Call::GetMany { uids, freshness } => {
            format!("get of many{} {}", freshness_text(*freshness), cut(&format!("{uids:?}")))
        }
        Call::Remove { uid, shared } => format!("remove{} {uid:?}", demand_text(*shared)),
        Call::Import { uid, patch, preview, .. } => {
            format!("import{} {uid:?} {}", if *preview { " (preview)" } else { "" }, cut(&patch_text(patch)))
        }
        Call::List => "list".to_owned(),
        Call::Clear => "clear".to_owned(),
        Call::Sync => "sync".to_owned(),
    }
}

fn demand_text(shared: bool) -> &'static str {
    if shared { " (shared)" } else { "" }
}

fn freshness_text(freshness: Freshness) -> String {
    match freshness {
        Freshness::Any => String::new(),
        Freshness::WithinMs(ms) => format!(" (within {ms} ms)"),
        Freshness::Shared => " (shared)".to_owned(),
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
            Answer::ReadMany { reads } => cut(&reads.iter().map(of_one_text).collect::<Vec<_>>().join("; ")),
            Answer::Listed { uids, .. } | Answer::Cleared { uids, .. } => cut(&format!("{uids:?}")),
            Answer::Imported { .. } => String::new(),
            Answer::Synced { pending } => format!("{pending} pending"),
        },
    }
}

fn of_one_text(read: &ReadOfOne) -> String {
    format!("{:?}: {} ({})", read.uid, outcome_text(&read.outcome), ending(&read.outcome))
}

fn fault_text(fault: &Fault) -> String {
    let on = |instances: &[u32]| format!("{} of instances {instances:?}", fault.kind());
    match fault {
        Fault::Partition { instances, direction: CutDirection::Both } => format!("{} from redis", on(instances)),
        Fault::Partition { instances, .. } | Fault::ResetConnections { instances } => on(instances),
        Fault::SlowLink { instances, extra_us } => format!("{}: +{} ms each way", on(instances), extra_us / 1_000),
        Fault::RedisRefuses { with } => format!("{}: {with:?}", fault.kind()),
        Fault::RedisDenies { denied } => format!("{}: {}", fault.kind(), denied.commands().join(", ")),
        Fault::RedisLimits { to } => format!("{}: {to:?}", fault.kind()),
        Fault::RedisBusyScript { silent_us } => {
            format!("{}: no answer for {} ms, then busy", fault.kind(), silent_us / 1_000)
        }
        Fault::ForeignKeys { spellings, strings, crowd } => {
            format!("{}: {spellings} other spellings, {strings} strings, {crowd} of another prefix", fault.kind())
        }
        Fault::RedisClockStep { by_ms } => format!("{}: {by_ms:+} ms", fault.kind()),
        Fault::RedisRollback { age_us } => format!("{}: by {} ms", fault.kind(), age_us / 1_000),
        Fault::Eviction { keys, .. } => format!("{} of {keys} keys", fault.kind()),
        Fault::RollingRestart { down_us } => format!("{}: each down for {} ms", fault.kind(), down_us / 1_000),
        Fault::ClockStep { instance, by_ms } => format!("{} of instance {instance}: {by_ms:+} ms", fault.kind()),
        Fault::ClockDrift { instance, ppm } => {
            format!("{} of instance {instance}: {ppm:+} us each second", fault.kind())
        }
        Fault::CrashAtDisk { instance, ops, .. } => {
            format!("{} of instance {instance}: after {ops} operations", fault.kind())
        }
        Fault::InstanceRestart { instance }
        | Fault::InstanceCrash { instance, .. }
        | Fault::InstancePause { instance }
        | Fault::InstanceSuspend { instance }
        | Fault::LockHeld { instance }
        | Fault::CancelledCalls { instance, .. }
        | Fault::BadDisk { instance, .. }
        | Fault::BitRot { instance, .. }
        | Fault::BadWrites { instance, .. } => format!("{} of instance {instance}", fault.kind()),
        Fault::StoreChange { instance, change: StoreChange::CopyOf { original, age_us, .. }, .. } => {
            format!(
                "{}: that of instance {original}, {} ms old, in the place of the store of instance {instance}, which is down",
                fault.kind(),
                age_us / 1_000
            )
        }
        Fault::StoreShared { instances, .. } => {
            format!("{}: that of the first of instances {instances:?}", fault.kind())
        }
        Fault::StoreChange { instance, running, .. } => {
            format!(
                "{} of instance {instance}, {}",
                fault.kind(),
                if *running { "which runs" } else { "which is down" }
            )
        }
        Fault::RedisFailover { lag_us, .. } => format!("{}: {} ms behind", fault.kind(), lag_us / 1_000),
        Fault::RedisRefusesOne { instance, with, .. } => {
            format!("{} of instance {instance}: {with:?}", fault.kind())
        }
        Fault::RedisSwap { holds } => format!("{}: it holds {holds:?}", fault.kind()),
        Fault::BadNetwork { instances, trouble } => format!("{}: {trouble:?}", on(instances)),
        Fault::BadNames { instances, delay_us, answer } => {
            format!("{}: {answer:?} after {} ms", on(instances), delay_us / 1_000)
        }
        Fault::RedisCrash { .. }
        | Fault::RedisPowerLoss { .. }
        | Fault::RedisPause
        | Fault::ScriptFlush
        | Fault::FlushAll => fault.kind().to_owned(),
    }
}

fn cut(text: &str) -> String {
    if text.chars().count() <= TEXT_MAX {
        return text.to_owned();
    }
    text.chars().take(TEXT_MAX).chain("..".chars()).collect()
}
