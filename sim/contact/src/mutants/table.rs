//! What became of the planted bugs, as a table: for a terminal, and for docs/GUARANTEES.md.

use std::fmt::Write as _;

use super::{
    catches::Catch,
    patch::{MutantPatch, number},
};
use crate::{
    checker::Guarantee,
    outcomes::{Common, replay_command},
};

/// What became of a planted bug.
#[derive(Clone, Debug, PartialEq)]
pub struct TriedMutant {
    /// The bug.
    pub patch: MutantPatch,
    /// The first catch of each guarantee, in the order of the runs.
    pub catches: Vec<Catch>,
    /// Runs made.
    pub runs: u64,
    /// How long they took.
    pub seconds: f64,
    /// What ended them before their time, if anything did.
    pub trouble: Option<String>,
}

impl TriedMutant {
    /// The catch of the guarantee that is expected.
    fn caught(&self) -> Option<&Catch> {
        self.catches.iter().find(|catch| Some(catch.guarantee) == self.patch.expected())
    }

    /// What is wrong, if anything is.
    pub fn wrong(&self) -> Option<String> {
        let MutantPatch { name, guarantee, waits_for, .. } = &self.patch;
        let runs = self.runs;
        match (self.caught(), waits_for, self.catches.first()) {
            (Some(_), None, _) | (None, Some(_), _) => None,
            (Some(_), Some(_), _) => Some(format!("{name}: caught by {guarantee}: take out its line `waits for`")),
            (None, None, None) => Some(format!("{name}: not caught in {runs} runs, {guarantee} was to")),
            (None, None, Some(first)) => {
                Some(format!("{name}: not caught by {guarantee} in {runs} runs, but by {}", number(first.guarantee)))
            }
        }
    }
}

/// The bugs that only the checker of this guarantee caught: without it they would have gone unseen.
pub fn caught_alone(tried: &[TriedMutant], guarantee: Guarantee) -> Vec<&str> {
    let alone = |tried: &&TriedMutant| matches!(&tried.catches[..], [only] if only.guarantee == guarantee);
    tried.iter().filter(alone).map(|tried| tried.patch.name.as_str()).collect()
}

/// For a terminal.
pub fn text(tried: &[TriedMutant]) -> String {
    let width = tried.iter().map(|tried| tried.patch.name.len()).max().unwrap_or(0).max("bug".len());
    let mut text = format!(
        "{:width$}  {:8}  {:11}  {:>5}  {:>7}  {:23}  caught by others, too\n",
        "bug", "expected", "first catch", "runs", "seconds", "seed",
    );
    for tried in tried {
        let (name, guarantee) = (&tried.patch.name, &tried.patch.guarantee);
        let line = match tried.catches.split_first() {
            Some((first, others)) => format!(
                "{name:width$}  {guarantee:8}  {:11}  {:>5}  {:>7.1}  {:23}  {}",
                number(first.guarantee),
                first.run,
                first.seconds,
                seed(first),
                others.iter().map(other).collect::<Vec<_>>().join(", "),
            ),
            None => format!("{name:width$}  {guarantee:8}  {:11}  {:>5}  {:>7.1}", "none", tried.runs, tried.seconds),
        };
        let _ = writeln!(text, "{}", line.trim_end());
        if let Some(trouble) = &tried.trouble {
            let _ = writeln!(text, "{:width$}  {trouble}", "");
        }
    }
    text
}

/// What is to be said of the whole: which checkers are needed, what is not caught.
pub fn conclusion(tried: &[TriedMutant]) -> String {
    let mut text = "Without its checker, these bugs would not be caught in the runs that were made\n\n".to_owned();
    for guarantee in Guarantee::ALL {
        let alone = caught_alone(tried, guarantee);
        let alone = if alone.is_empty() { "none".to_owned() } else { alone.join(", ") };
        let _ = writeln!(text, "  {guarantee:<22}{alone}");
    }
    text.push('\n');
    let waiting = tried.iter().filter(|tried| tried.patch.waits_for.is_some() && tried.wrong().is_none());
    for MutantPatch { name, waits_for, .. } in waiting.clone().map(|tried| &tried.patch) {
        let _ = writeln!(text, "  WAITS   {name}: {}", waits_for.as_deref().unwrap_or_default());
    }
    let wrong: Vec<_> = tried.iter().filter_map(TriedMutant::wrong).collect();
    for wrong in &wrong {
        let _ = writeln!(text, "  FAILED  {wrong}");
    }
    let waiting = waiting.count();
    let (word, caught) = (if wrong.is_empty() { "PASSED" } else { "FAILED" }, tried.len() - waiting - wrong.len());
    let waits = if waiting == 0 { String::new() } else { format!(", {waiting} wait for a checker") };
    let _ = writeln!(text, "{word}: {caught} of {} bugs caught by the guarantee expected{waits}", tried.len());
    text
}

/// For docs/GUARANTEES.md.
pub fn markdown(tried: &[TriedMutant]) -> String {
    let mut text = "| bug | what it is, and what it stands for | expected | first catch | seed | others |\n\
                    | --- | --- | --- | --- | --- | --- |\n"
        .to_owned();
    for tried in tried {
        let MutantPatch { name, guarantee, bug, stands_for, waits_for } = &tried.patch;
        let first = tried.catches.first();
        let catch = match (first, waits_for) {
            (Some(first), _) => other(first),
            (None, Some(waits_for)) => format!("waits for {waits_for}"),
            (None, None) => format!("none in {} runs", tried.runs),
        };
        let others: Vec<_> = tried.catches.iter().skip(1).map(other).collect();
        let cells = [
            format!("`{name}`"),
            format!("{bug} Stands for {stands_for}"),
            guarantee.clone(),
            catch,
            first.map_or_else(String::new, seed),
            others.join(", "),
        ];
        let cells: Vec<_> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    }
    text.push_str("\n| checker | bugs that it alone caught |\n| --- | --- |\n");
    for guarantee in Guarantee::ALL {
        let alone: Vec<_> = caught_alone(tried, guarantee).iter().map(|name| format!("`{name}`")).collect();
        let _ = writeln!(text, "| {guarantee} | {} |", alone.join(", "));
    }
    text
}

/// How the first catches are seen again, in the copy with the bug.
pub fn replay_of(catch: &Catch) -> String {
    replay_command((catch.workload, catch.seed), Common::default())
}

fn seed(catch: &Catch) -> String {
    format!("{} of {}", catch.seed, catch.workload)
}

fn other(catch: &Catch) -> String {
    format!("{} {} ({:.1} s)", number(catch.guarantee), catch.run, catch.seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{seed::Seed, workload::Workload};

    fn tried(name: &str, expected: &str, caught_by: &[Guarantee]) -> TriedMutant {
        let catch = |(run, &guarantee)| Catch {
            guarantee,
            run,
            seconds: 0.5,
            workload: Workload::Fallback,
            seed: Seed(run),
            message: "lost".to_owned(),
        };
        let patch = MutantPatch {
            name: name.to_owned(),
            guarantee: expected.to_owned(),
            bug: "A bug.".to_owned(),
            stands_for: "an outage.".to_owned(),
            waits_for: None,
        };
        let catches = (3..).zip(caught_by).map(catch).collect();
        TriedMutant { patch, catches, runs: 2000, seconds: 40.0, trouble: None }
    }

    #[test]
    fn a_checker_is_needed_for_what_no_other_caught() {
        let all = [
            tried("both", "G5", &[Guarantee::Durability, Guarantee::Session]),
            tried("alone", "G5", &[Guarantee::Durability]),
            tried("none", "G6", &[]),
        ];
        assert_eq!(caught_alone(&all, Guarantee::Durability), ["alone"]);
        assert_eq!(caught_alone(&all, Guarantee::Session), [""; 0]);
        let said = conclusion(&all);
        assert!(
            said.contains("G5 durability         alone\n") && said.contains("G6 session            none\n"),
            "{said}"
        );
    }

    #[test]
    fn a_bug_that_is_not_caught_by_the_guarantee_expected_is_wrong() {
        let mut waiting = tried("stampede", "G9", &[]);
        waiting.patch.waits_for = Some("a bound.".to_owned());
        assert_eq!(waiting.wrong(), None);
        assert_eq!(tried("late", "G5", &[Guarantee::Session, Guarantee::Durability]).wrong(), None);
        for (tried, said) in [
            (tried("late", "G5", &[]), "not caught in 2000 runs"),
            (tried("late", "G5", &[Guarantee::Session]), "not caught by G5 in 2000 runs, but by G6"),
        ] {
            assert!(tried.wrong().is_some_and(|wrong| wrong.contains(said)), "{tried:?}");
            assert!(conclusion(&[tried]).contains("FAILED: 0 of 1 bugs"));
        }
        let said = conclusion(&[waiting.clone(), tried("late", "G5", &[Guarantee::Durability])]);
        assert!(
            said.ends_with("PASSED: 1 of 2 bugs caught by the guarantee expected, 1 wait for a checker\n"),
            "{said}"
        );
        waiting.catches = tried("stampede", "G9", &[Guarantee::Recovery]).catches;
        assert!(waiting.wrong().is_some_and(|wrong| wrong.contains("take out its line")));
    }

    #[test]
    fn a_row_says_what_caught_the_bug_first_and_what_else_did() {
        let all = [tried("late", "G5", &[Guarantee::Session, Guarantee::Durability])];
        assert_eq!(
            text(&all),
            "bug   expected  first catch   runs  seconds  seed                     caught by others, too\n\
             late  G5        G6               3      0.5  3 of fallback            G5 4 (0.5 s)\n"
        );
        let row = "| `late` | A bug. Stands for an outage. | G5 | G6 3 (0.5 s) | 3 of fallback | G5 4 (0.5 s) |\n";
        assert!(markdown(&all).contains(row), "{}", markdown(&all));
    }
}
