//! The least share that each checker has to judge in each workload: the floors of `sim/contact/floors.json`.
//!
//! A checker that excuses more than before still passes every run. Only its share shows it.

use std::collections::BTreeMap;

use seedbed_linearize::lines::trap;
use serde::Deserialize;

use super::Summary;
use crate::{checker::Guarantee, report::account::rounded_down, workload::Workload};

/// The floors of this repository.
const RECORDED: &str = include_str!("../../floors.json");

/// A floor in percent for each guarantee of each workload.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub struct Floors(BTreeMap<Workload, BTreeMap<Guarantee, f64>>);

impl Floors {
    /// Those of `sim/contact/floors.json`.
    ///
    /// # Errors
    ///
    /// Says the line, as [`Floors::parse`] does.
    pub fn recorded() -> Result<Self, String> {
        Self::parse(RECORDED)
    }

    /// Reads `{"expiry": {"durability": 85.0, ...}, ...}`, of workloads and guarantees by their names.
    ///
    /// # Errors
    ///
    /// Says which line is wrong and how, or which floor is out of range: an unknown name, what is no number from 0 to 100.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong =
            |why: String| format!("sim/contact/floors.json: {why}; a floor is a share in percent, from 0 to 100");
        let floors: Self = serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
        // The last of two floors would stand without a word.
        if let Some((again, cure)) = serde_json::from_str(text).ok().and_then(trap) {
            return Err(wrong(format!("{again}: {cure}")));
        }
        for (workload, guarantees) in &floors.0 {
            if let Some((guarantee, floor)) = guarantees.iter().find(|(_, floor)| !(0.0..=100.0).contains(*floor)) {
                let name = name(*guarantee);
                // A workload may have the name of a guarantee: its line opens an object.
                let is_of = |name: &str, line: &str| line.contains(&format!("\"{name}\""));
                let mut lines = text.lines().enumerate();
                lines.find(|(_, line)| is_of(&workload.to_string(), line) && line.contains('{'));
                let line = lines.find(|(_, line)| is_of(&name, line));
                let line = line.map_or_else(String::new, |(index, _)| format!(" at line {}", index + 1));
                return Err(wrong(format!("{floor} of {workload} and {name} is out of range{line}")));
            }
        }
        Ok(floors)
    }

    /// What these runs fall short of, one line each: shares under their floors, and accounts that have none.
    pub fn missed(&self, summaries: &BTreeMap<Workload, Summary>) -> Vec<String> {
        let mut missed = Vec::new();
        for (workload, summary) in summaries {
            for (guarantee, tally) in &summary.tallies {
                let (account, name) = (&tally.account, name(*guarantee));
                let Some(&floor) = self.0.get(workload).and_then(|floors| floors.get(guarantee)) else {
                    missed
                        .push(format!("{workload}: {guarantee} has no floor: set {name:?} in sim/contact/floors.json"));
                    continue;
                };
                if account.total() == 0 && floor > 0.0 {
                    missed.push(format!(
                        "{workload}: {guarantee} looked at no {}, and its floor is {floor} %: a workload without any has the floor 0",
                        guarantee.unit()
                    ));
                    continue;
                }
                if account.share() >= floor {
                    continue;
                }
                let (judged, total) = (account.judged, account.total());
                let share = rounded_down(account.share());
                let largest = account
                    .largest()
                    .map_or_else(String::new, |(excuse, many)| format!("; the largest reason is {excuse}: {many}"));
                missed.push(format!(
                    "{workload}: {guarantee} judged {judged} of {total} {}, {share} %, and its floor is {floor} %{largest}",
                    guarantee.unit()
                ));
            }
        }
        missed
    }
}

/// As in `sim/contact/floors.json`.
fn name(guarantee: Guarantee) -> String {
    let name = serde_json::to_value(guarantee).unwrap_or_default();
    name.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        checker::{Account, Excuse},
        explore::VerdictTally,
    };

    fn durability(account: Account) -> BTreeMap<Workload, Summary> {
        let tallies = BTreeMap::from([(Guarantee::Durability, VerdictTally { account, ..VerdictTally::default() })]);
        BTreeMap::from([(Workload::Expiry, Summary { tallies, ..Summary::default() })])
    }

    #[test]
    fn a_checker_that_excuses_everything_falls_under_its_floor() {
        let floors = Floors::parse(r#"{"expiry": {"durability": 85.5}}"#).expect("they are right");
        let excused = BTreeMap::from([(Excuse::Damage, 3), (Excuse::Expiry, 17)]);
        let judged = Account { judged: 180, ..Account::default() };
        let most = Account { excused: excused.clone(), ..judged.clone() };
        let all = Account { excused, ..Account::default() };
        assert_eq!((floors.missed(&durability(judged)), floors.missed(&durability(most))), (Vec::new(), Vec::new()));
        let missed = floors.missed(&durability(all));
        let said = "expiry: G5 durability judged 0 of 20 acknowledged writes, 0.0 %, and its floor is 85.5 %; \
                    the largest reason is expiry: 17";
        assert_eq!(missed, [said]);
    }

    #[test]
    fn an_account_without_a_floor_is_missed_too() {
        let floors = Floors::parse("{}").expect("they are right");
        assert!(floors.missed(&durability(Account::default()))[0].contains("has no floor"));
    }

    #[test]
    fn an_empty_account_falls_under_every_floor_but_zero() {
        for (floor, is_missed) in [("85.5", true), ("0", false)] {
            let floors = format!("{{\"expiry\": {{\"durability\": {floor}}}}}");
            let floors = Floors::parse(&floors).expect("they are right");
            let missed = floors.missed(&durability(Account::default()));
            assert_eq!(
                missed.iter().any(|said| said.contains("looked at no acknowledged writes")),
                is_missed,
                "{missed:?}"
            );
        }
    }

    #[test]
    fn a_floor_that_stands_twice_is_refused() {
        let why = Floors::parse(r#"{"expiry": {"durability": 85, "durability": 5}}"#).expect_err("which one counts?");
        assert!(why.contains("the field \"durability\" twice"), "{why}");
    }

    #[test]
    fn a_floor_out_of_range_is_named_with_the_line_of_its_workload() {
        let floors = "{\"churn\": {\n\"isolation\": 85},\n\"isolation\": {\n\"isolation\": 185}}";
        let why = Floors::parse(floors).expect_err("185 is no share");
        assert!(why.contains("185 of isolation and isolation is out of range at line 4"), "{why}");
    }

    #[test]
    fn a_wrong_floor_is_named_with_its_line() {
        for (floors, said) in [
            ("{\"expiry\": {\n\"durabilty\": 85}}", "unknown variant `durabilty`"),
            ("{\"expiry\": {\n\"durability\": \"85\"}}", "line 2"),
            ("{\"expiry\": {\n\"durability\": 185}}", "185 of expiry and durability is out of range at line 2"),
            ("{\"expirey\": {\n}}", "line 1"),
        ] {
            let why = Floors::parse(floors).expect_err("it is wrong");
            assert!(why.contains(said) && why.contains("line") && why.contains("sim/contact/floors.json"), "{why}");
        }
    }

    #[test]
    fn the_recorded_floors_are_right() {
        Floors::recorded().expect("they are right");
    }
}
