//! The report of an exploration.

use std::{collections::BTreeMap, fmt::Write as _};

use super::{Summary, VerdictTally};
use crate::{
    checker::{Guarantee, Verdict},
    marks,
    outcomes::{ByName, replay_command},
    report::{
        account::{account_text, grouped},
        word,
    },
    seed::Seed,
    workload::{ALL, Workload},
};

/// Failing seeds that are shown of each workload; their number is always told.
const SHOWN: usize = 3;

/// The report as text. The same runs give the same text, whatever the machine.
pub fn text(summaries: &BTreeMap<Workload, Summary>) -> String {
    let mut text = String::new();
    let total = total(summaries);
    for (title, are_validations) in [("Validations", true), ("\nOther workloads", false)] {
        let of_title = |workload: &Workload| workload.is_validation() == are_validations;
        let rows: Vec<_> =
            ALL.into_iter().filter(of_title).filter_map(|workload| summaries.get_key_value(&workload)).collect();
        if !rows.is_empty() {
            let _ = writeln!(text, "{title}\n");
        }
        for (workload, summary) in rows {
            row(&mut text, *workload, summary);
        }
    }
    let _ = writeln!(text, "\nGuarantees, over all runs\n");
    for guarantee in Guarantee::ALL {
        if let Some(tally) = total.tallies.get(&guarantee) {
            let _ = writeln!(text, "  {:<8}{:<23}{}", tally_word(tally), guarantee.to_string(), tally_text(tally));
            if !tally.account.excused.is_empty() {
                let _ = writeln!(text, "  {:<31}{}", "", account_text(guarantee, &tally.account));
            }
            for (what, count) in &tally.account.notes {
                let _ = writeln!(text, "  {:>21}  {what}", grouped(*count));
            }
        }
    }
    without_excuse(&mut text, &total);
    let _ = writeln!(text, "\nOperations, by how they ended\n");
    table(&mut text, &total.counts.operations);
    let _ = writeln!(text, "\nFaults: injected, and with an effect that a client could see\n");
    for (kind, injected) in &total.counts.faults {
        let effective = total.counts.effective.get(kind).copied().unwrap_or_default();
        let _ = writeln!(text, "  {:>10}  {:>10}  {kind}", grouped(*injected), grouped(effective));
    }
    unreached(&mut text, &total);
    failures(&mut text, summaries);
    let verdict = total.worst();
    let _ = writeln!(
        text,
        "\n{}: {} runs{}, {} operations, {} faults, {} of simulated time",
        word(&verdict),
        grouped(total.seeds),
        if total.ends > 0 { format!(", {} of which ended their process", grouped(total.ends)) } else { String::new() },
        grouped(sum(&total.counts.operations)),
        grouped(sum(&total.counts.faults)),
        hours(total.counts.simulated_us)
    );
    text
}

/// Verdicts and accounts by workload and guarantee, on one line.
pub fn json(summaries: &BTreeMap<Workload, Summary>) -> String {
    let of_each: BTreeMap<_, _> = summaries.iter().map(|(workload, summary)| (workload, &summary.tallies)).collect();
    serde_json::to_string(&of_each).expect("plain data becomes JSON")
}

/// All workloads together.
pub fn total(summaries: &BTreeMap<Workload, Summary>) -> Summary {
    let mut total = Summary::default();
    for summary in summaries.values() {
        total.merge(summary);
    }
    total
}

fn row(text: &mut String, workload: Workload, summary: &Summary) {
    let _ = writeln!(
        text,
        "  {:<8}{:<15}{}\n  {:<23}{} seeds, {} operations, {} faults, {} of simulated time",
        word(&summary.worst()),
        workload.name(),
        workload.about(),
        "",
        grouped(summary.seeds),
        grouped(sum(&summary.counts.operations)),
        grouped(sum(&summary.counts.faults)),
        hours(summary.counts.simulated_us)
    );
}

/// In one line: the marks that no run reached.
fn unreached(text: &mut String, total: &Summary) {
    let missed = marks::missed(&total.counts.marks);
    let reached = marks::ALL.len() - missed.len();
    let _ = write!(text, "\nMarks: {reached} of {} reached", marks::ALL.len());
    if !missed.is_empty() {
        let _ = write!(text, "; never: {}", missed.join(", "));
    }
    text.push('\n');
}

/// How often each mark was reached, as text.
pub fn marks(summaries: &BTreeMap<Workload, Summary>) -> String {
    let total = total(summaries);
    let mut text = "Marks, by how often they were reached\n\n".to_owned();
    for mark in &marks::ALL {
        let count = total.counts.marks.get(mark.name).copied().unwrap_or_default();
        let _ = writeln!(text, "  {:>10}  {}", grouped(count), mark.name);
    }
    text
}

fn failures(text: &mut String, summaries: &BTreeMap<Workload, Summary>) {
    for (workload, summary) in summaries {
        if summary.failures == 0 {
            continue;
        }
        let (failures, seeds) = (grouped(summary.failures), grouped(summary.seeds));
        let command = |seed: Seed| replay_command((*workload, seed), summary.common);
        let ended = summary.ended.iter().map(|(seed, end)| format!("  ENDED seed {seed}: {end}\n  {}", command(*seed)));
        let mut shown: Vec<_> = ended.collect();
        // Violations first: a run of which nothing can be said should not hide one that is wrong.
        let mut failed: Vec<_> = summary.failed.iter().collect();
        failed.sort_by_key(|(seed, verdict)| (!matches!(verdict, Verdict::Violation { .. }), **seed));
        for (seed, verdict) in failed.into_iter().take(SHOWN) {
            let why = match verdict {
                Verdict::Pass => continue,
                Verdict::Unknown { why } => why,
                Verdict::Violation { message, .. } => message,
            };
            shown.push(format!("  {} seed {seed}: {why}\n  {}", word(verdict), command(*seed)));
        }
        let shown = shown.join("\n\n");
        let _ = writeln!(text, "\n{workload}: {failures} of {seeds} seeds did not pass\n{shown}");
    }
}

/// The guarantees of which all cases were judged, on one line: their shares say no more.
fn without_excuse(text: &mut String, total: &Summary) {
    let all = total.tallies.iter().filter(|(_, tally)| tally.account.judged > 0 && tally.account.excused.is_empty());
    let names = all.map(|(guarantee, tally)| {
        let number = guarantee.to_string();
        let number = number.split(' ').next().unwrap_or_default();
        format!("{number} ({} {})", grouped(tally.account.judged), guarantee.unit())
    });
    let names: Vec<_> = names.collect();
    if !names.is_empty() {
        let _ = writeln!(text, "\nAll cases were judged of {}.", names.join(", "));
    }
}

fn tally_word(tally: &VerdictTally) -> &'static str {
    match tally {
        VerdictTally { violation: 1.., .. } => "FAILED",
        VerdictTally { unknown: 1.., .. } => "UNKNOWN",
        VerdictTally { .. } => "PASSED",
    }
}

fn tally_text(tally: &VerdictTally) -> String {
    let mut text = format!("held in {} runs", grouped(tally.pass));
    if tally.violation > 0 {
        let _ = write!(text, ", broken in {}", grouped(tally.violation));
    }
    if tally.unknown > 0 {
        let _ = write!(text, ", could not be judged in {}", grouped(tally.unknown));
    }
    text
}

fn table(text: &mut String, counts: &ByName) {
    for (kind, count) in counts {
        let _ = writeln!(text, "  {:>10}  {kind}", grouped(*count));
    }
}

fn sum(counts: &ByName) -> u64 {
    counts.values().sum()
}

fn hours(us: u64) -> String {
    let minutes = us / 60_000_000;
    if minutes < 1 { format!("{} s", us / 1_000_000) } else { format!("{} h {:02} min", minutes / 60, minutes % 60) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_seed_is_shown_with_the_command_that_replays_it() {
        let violation = Verdict::Violation { message: "u1 was lost".to_owned(), ops: vec![3] };
        let summary =
            Summary { seeds: 2, failures: 1, failed: BTreeMap::from([(Seed(7), violation)]), ..Summary::default() };
        let text = text(&BTreeMap::from([(Workload::Fallback, summary)]));
        assert!(
            text.contains("FAILED seed 7: u1 was lost\n  cargo run --release -- replay 7 --workload fallback"),
            "{text}"
        );
        assert!(text.contains("\nFAILED: 2 runs"), "{text}");
    }

    #[test]
    fn a_guarantee_that_could_not_be_judged_is_not_called_passed() {
        let tallies =
            BTreeMap::from([(Guarantee::Session, VerdictTally { pass: 9, unknown: 1, ..VerdictTally::default() })]);
        let summary = Summary { seeds: 10, tallies, ..Summary::default() };
        let text = text(&BTreeMap::from([(Workload::Fallback, summary)]));
        assert!(text.contains("UNKNOWN G6 session             held in 9 runs, could not be judged in 1"), "{text}");
    }
}
