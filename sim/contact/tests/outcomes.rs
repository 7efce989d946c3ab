//! What comes out of a few seeds, as snapshots to be read in review: a change of the client or of the bed that shifts
//! outcomes shows as a diff of a line or two. Verdicts and counts only; times, paths and hashes would change with
//! everything.
//!
//! After a change that is meant to shift them: `INSTA_UPDATE=always cargo test --test outcomes`, and read the diff.

use std::{fmt::Write as _, path::Path};

use seedbed_contact::{
    checker::Verdict,
    explore::judge_seed,
    outcomes::{ByName, Common},
    report::word,
    seed::Seed,
    workload::Workload,
};

/// Seeds of each workload.
const SEEDS: u64 = 5;

#[test]
fn serialization_comes_out_as_reviewed() {
    assert_outcomes(Workload::Serialization);
}

#[test]
fn fallback_comes_out_as_reviewed() {
    assert_outcomes(Workload::Fallback);
}

#[test]
fn consistency_comes_out_as_reviewed() {
    assert_outcomes(Workload::Consistency);
}

#[test]
fn isolation_comes_out_as_reviewed() {
    assert_outcomes(Workload::Isolation);
}

#[test]
fn contention_comes_out_as_reviewed() {
    assert_outcomes(Workload::Contention);
}

#[test]
fn prefixes_comes_out_as_reviewed() {
    assert_outcomes(Workload::Prefixes);
}

#[test]
fn outages_comes_out_as_reviewed() {
    assert_outcomes(Workload::Outages);
}

#[test]
fn churn_comes_out_as_reviewed() {
    assert_outcomes(Workload::Churn);
}

#[test]
fn expiry_comes_out_as_reviewed() {
    assert_outcomes(Workload::Expiry);
}

#[test]
fn listing_comes_out_as_reviewed() {
    assert_outcomes(Workload::Listing);
}

#[test]
fn large_comes_out_as_reviewed() {
    assert_outcomes(Workload::Large);
}

#[test]
fn cancelled_comes_out_as_reviewed() {
    assert_outcomes(Workload::Cancelled);
}

#[test]
fn calls_comes_out_as_reviewed() {
    assert_outcomes(Workload::Calls);
}

#[test]
fn mixed_comes_out_as_reviewed() {
    assert_outcomes(Workload::Mixed);
}

#[test]
fn moments_comes_out_as_reviewed() {
    assert_outcomes(Workload::Moments);
}

fn assert_outcomes(workload: Workload) {
    let text: String = (0..SEEDS).map(|seed| line(workload, Seed(seed))).collect();
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../snapshots"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(workload.name(), text));
}

fn line(workload: Workload, seed: Seed) -> String {
    let judged = judge_seed((workload, seed), Common::default());
    let mut line = format!("seed {seed} {}", word(&judged.worst()));
    match &judged.outcome {
        Ok(outcomes) => {
            for judgement in outcomes.judgements.iter().filter(|judgement| judgement.verdict != Verdict::Pass) {
                let _ = write!(line, ", {} {}", word(&judgement.verdict), judgement.guarantee);
            }
            for counts in [&outcomes.counts.operations, &outcomes.counts.faults] {
                let _ = write!(line, " | {}", list(counts));
            }
        }
        Err(panic) => {
            let _ = write!(line, ", {panic}");
        }
    }
    line + "\n"
}

fn list(counts: &ByName) -> String {
    let each: Vec<_> = counts.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    each.join("; ")
}
