//! G4: in the end all instances hold the same, and nothing is pending.
//!
//! Every instance reads every uid of its prefix in the phase of final reads. Each must answer from Redis alone, and all
//! the same, timestamps included, but that a record may expire between two of them. What was not read leaves the guarantee
//! unknown.

use super::{
    Verdict,
    expiry::Knowledge,
    operations::{Operation, Operations, Record, numbers},
};
use crate::history::{Call, Outcome, Phase, Source, What};

pub(super) fn check(run: &Operations<'_>) -> Verdict {
    if let Some(message) = run.unquiet() {
        return Verdict::Violation { message, ops: Vec::new() };
    }
    let is_final = |what: &What| matches!(what, What::Phase { phase: Phase::FinalReads });
    if !run.history.events.iter().any(|event| is_final(&event.what)) {
        return Verdict::Unknown { why: "the history has no phase of final reads".to_owned() };
    }
    let mut finals = vec![Vec::new(); run.records.len()];
    for op in run.all.iter().filter(|op| op.is_final && matches!(op.call, Call::Get { .. })) {
        if let Some(record) = op.record {
            finals[record].push(op);
        }
    }
    if finals.iter().all(Vec::is_empty) {
        return Verdict::Unknown { why: "the history has no final reads".to_owned() };
    }
    let each = run.records.iter().zip(&finals);
    each.fold(Verdict::Pass, |verdict, (record, reads)| verdict.merge(record_converged(run, record, reads)))
}

fn record_converged(run: &Operations<'_>, record: &Record<'_>, reads: &[&Operation<'_>]) -> Verdict {
    // Redis may forget a removal at any time, and the next reader tells it again.
    let told_again = |read: &Operation<'_>| {
        let forgets = run.history.header.tuning.tombstone_ttl_ms.is_some();
        forgets && read.source() == Some(Source::Merged) && read.record_read().is_none()
    };
    for read in reads {
        if read.source() != Some(Source::Shared) && !told_again(read) {
            let message = format!("{record}: final {read} did not answer from Redis alone{}", error(read));
            return Verdict::Violation { message, ops: vec![read.number] };
        }
    }
    for (before, read) in reads.iter().zip(&reads[1..]) {
        let expired = || read.record_read().is_none() && run.may_expire(record, None, read, Knowledge::Redis);
        if read.record_read() != before.record_read() && !expired() {
            return Verdict::Violation { message: difference(record, before, read), ops: numbers(&[before, read]) };
        }
    }
    let owners = (0_u32..).zip(&run.history.header.prefixes).filter(|(_, prefix)| *prefix == record.prefix);
    match owners.map(|(instance, _)| instance).find(|&instance| reads.iter().all(|read| read.instance != instance)) {
        Some(instance) => Verdict::Unknown { why: format!("instance {instance} never read {record} in the end") },
        None => Verdict::Pass,
    }
}

fn error(read: &Operation<'_>) -> String {
    match read.outcome() {
        Some(Outcome::Fail { error } | Outcome::Info { error }) => format!(": {error}"),
        Some(Outcome::Ok { .. }) | None => String::new(),
    }
}

fn difference(record: &Record<'_>, one: &Operation<'_>, other: &Operation<'_>) -> String {
    let cell = (0..record.cells.len()).find(|&cell| one.shown[cell] != other.shown[cell]);
    let place = cell.map_or_else(|| record.to_string(), |cell| record.name(cell));
    let shown = |op: &Operation<'_>| op.record_read().map_or_else(|| "no record".to_owned(), ToString::to_string);
    format!("{place}: the final reads differ: {one} shows {}, {other} shows {}", shown(one), shown(other))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        checker::{
            Guarantee::Convergence,
            fixture::{Story, record},
        },
        history::Placement,
    };

    fn told() -> (Story, u64) {
        let mut story = Story::new(&["p", "p", "q"]);
        let write = story.upsert(0, "u", &["name"], Placement::Local);
        story.phase(Phase::FinalReads);
        story.get(0, "u", Source::Shared, &[("name", write)]);
        (story, write)
    }

    #[test]
    fn equal_answers_of_all_instances_of_the_prefix_pass() {
        let (mut story, write) = told();
        story.get(1, "u", Source::Shared, &[("name", write)]);
        story.get_none(2, "v", Source::Shared);
        story.passes(Convergence);
    }

    #[test]
    fn a_different_value_is_a_violation() {
        let (mut story, _) = told();
        story.get_none(1, "u", Source::Shared);
        story.violates(Convergence, "the final reads differ", &[2, 3]);
    }

    #[test]
    fn a_different_timestamp_is_a_violation() {
        let (mut story, write) = told();
        let mut other = record("p", "u", &[("name", write)]);
        other["last_updated_at"] = "2026-02-01T08:30:00.001Z".into();
        let read = story.get_begins(1, "u");
        story.got_record(read, Source::Shared, other);
        story.violates(Convergence, "08:30:00.001Z", &[2, 3]);
    }

    #[test]
    fn an_answer_that_still_needs_local_data_is_a_violation() {
        let (mut story, write) = told();
        let read = story.get(1, "u", Source::Merged, &[("name", write)]);
        story.violates(Convergence, "did not answer from Redis alone", &[read]);
    }

    #[test]
    fn a_removal_that_redis_has_forgotten_may_be_told_again_where_it_forgets_soon() {
        for forgets in [false, true] {
            let mut story = Story::new(&["p"]);
            if forgets {
                story.forgets_removals_after_ms(120_000);
            }
            let write = story.upsert(0, "u", &["name"], Placement::Shared);
            story.remove(0, "u", Placement::Shared);
            story.phase(Phase::FinalReads);
            let read = story.get_none(0, "u", Source::Merged);
            if forgets {
                story.passes(Convergence);
                let read = story.get(0, "u", Source::Merged, &[("name", write)]);
                story.violates(Convergence, "did not answer from Redis alone", &[read]);
            } else {
                story.violates(Convergence, "did not answer from Redis alone", &[read]);
            }
        }
    }

    #[test]
    fn a_final_read_that_fails_is_a_violation() {
        let (mut story, _) = told();
        let read = story.get_begins(1, "u");
        story.fail(read, "no disk");
        story.violates(Convergence, "no disk", &[read]);
    }

    #[test]
    fn an_instance_that_does_not_come_to_rest_is_a_violation() {
        let mut story = Story::new(&["p"]);
        story.unquiet(0);
        story.violates(Convergence, "instance 0 did not come to rest: 3 writes pending", &[]);
    }

    #[test]
    fn without_all_final_reads_nothing_is_known() {
        let mut story = Story::new(&["p", "p"]);
        story.upsert(0, "u", &["name"], Placement::Shared);
        story.leaves_unknown(Convergence, "no phase of final reads");
        story.phase(Phase::FinalReads);
        story.leaves_unknown(Convergence, "no final reads");
        story.get(0, "u", Source::Shared, &[("name", 1)]);
        story.leaves_unknown(Convergence, "instance 1 never read");
    }
}
