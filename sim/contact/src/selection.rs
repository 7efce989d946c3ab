//! Which guarantees are checked and which kinds of faults are drawn: all, or those that a user names.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{
    checker::{Guarantee, Judgement},
    faults::{KIND_NAMES, PlannedFault},
};

/// A choice of guarantees and of kinds of faults. The default is all of both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// Bits of [`Guarantee::ALL`]; all if zero.
    guarantees: u16,
    /// Bits of [`KIND_NAMES`]; all if zero.
    faults: u128,
}

/// Names of guarantees, as a user gives them: `G5,durability`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Guarantees(u16);

/// Names of kinds of faults, as a user gives them: `partition,Redis crash, data kept`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kinds(u128);

impl Selection {
    /// All where a list is not given.
    pub fn new(guarantees: Option<Guarantees>, faults: Option<Kinds>) -> Self {
        Self { guarantees: guarantees.unwrap_or_default().0, faults: faults.unwrap_or_default().0 }
    }

    /// Whether it leaves anything out.
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }

    /// Keeps the faults of its kinds.
    pub fn keep_faults(self, faults: &mut Vec<PlannedFault>) {
        if self.faults != 0 {
            faults.retain(|planned| bit_of(planned.fault.kind()).is_some_and(|bit| self.faults & bit != 0));
        }
    }

    /// Keeps the verdicts on its guarantees.
    pub fn keep_judgements(self, judgements: &mut Vec<Judgement>) {
        if self.guarantees != 0 {
            judgements.retain(|judgement| self.guarantees & bit(judgement.guarantee) != 0);
        }
    }

    /// As arguments of the command line.
    pub fn arguments(self) -> Vec<String> {
        let guarantees = Guarantee::ALL.into_iter().filter(|guarantee| self.guarantees & bit(*guarantee) != 0);
        let guarantees: Vec<_> = guarantees.map(number).collect();
        let faults = KIND_NAMES.into_iter().filter(|kind| bit_of(kind).is_some_and(|bit| self.faults & bit != 0));
        let faults: Vec<_> = faults.map(ToOwned::to_owned).collect();
        let mut arguments = Vec::new();
        for (option, names) in [("--guarantees", guarantees), ("--faults", faults)] {
            if !names.is_empty() {
                arguments.extend([option.to_owned(), names.join(",")]);
            }
        }
        arguments
    }
}

impl FromStr for Guarantees {
    type Err = String;

    fn from_str(names: &str) -> Result<Self, String> {
        let mut chosen = 0;
        for name in names.split(',').map(str::trim) {
            let is_it = |guarantee: &Guarantee| {
                let title = guarantee.to_string();
                let (number, word) = title.split_once(' ').unwrap_or((&title, ""));
                [number, word, &title].iter().any(|known| known.eq_ignore_ascii_case(name))
            };
            let found = Guarantee::ALL.into_iter().find(is_it);
            let known = || Guarantee::ALL.map(|guarantee| guarantee.to_string()).join(", ");
            chosen |= bit(found.ok_or_else(|| format!("no guarantee is called {name:?}: there are {}", known()))?);
        }
        Ok(Self(chosen))
    }
}

impl FromStr for Kinds {
    type Err = String;

    /// Some names have a comma of their own.
    fn from_str(names: &str) -> Result<Self, String> {
        let (mut chosen, mut open) = (0, String::new());
        for part in names.split(',') {
            if !open.is_empty() {
                open.push(',');
            }
            open.push_str(part);
            if let Some(bit) = bit_of(open.trim()) {
                chosen |= bit;
                open.clear();
            }
        }
        if open.trim().is_empty() && chosen != 0 {
            return Ok(Self(chosen));
        }
        Err(format!("no kind of faults is called {:?}: `list` has them all", open.trim()))
    }
}

fn bit(guarantee: Guarantee) -> u16 {
    let place = Guarantee::ALL.iter().position(|its| *its == guarantee).expect("one of all");
    1 << place
}

fn bit_of(kind: &str) -> Option<u128> {
    let place = KIND_NAMES.iter().position(|name| name.eq_ignore_ascii_case(kind))?;
    Some(1 << place)
}

fn number(guarantee: Guarantee) -> String {
    guarantee.to_string().split(' ').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{outcomes::Common, seed::Seed, workload::Workload};

    fn chosen(guarantees: &str, faults: &str) -> Selection {
        Selection::new(guarantees.parse().ok(), faults.parse().ok())
    }

    #[test]
    fn names_come_back_as_arguments() {
        let selection = chosen("g5, Session,G13 availability", "partition,redis crash, data kept,FLUSHALL");
        let arguments = selection.arguments();
        let faults = ["--faults", "partition,Redis crash, data kept,FLUSHALL"];
        assert_eq!(arguments, ["--guarantees", "G5,G6,G13", faults[0], faults[1]]);
        assert_eq!(chosen(&arguments[1], &arguments[3]), selection);
        assert_eq!(Selection::default().arguments(), Vec::<String>::new());
    }

    #[test]
    fn an_unknown_name_is_an_error_that_names_it() {
        assert!("G5,G14".parse::<Guarantees>().unwrap_err().contains("\"G14\": there are G1 fidelity"));
        for names in ["partition,Redis crash", "", "partitions"] {
            let error = names.parse::<Kinds>().expect_err(names);
            assert!(error.contains("`list` has them all"), "{error}");
        }
    }

    #[test]
    fn other_kinds_are_left_out_of_a_scenario_and_the_rest_stays() {
        let task = (Workload::Mixed, Seed(3));
        let whole = Common::default().scenario(task);
        let kind = whole.faults[0].fault.kind();
        let common = Common { selection: Selection::new(None, kind.parse().ok()), ..Common::default() };
        let some = common.scenario(task);
        assert!(!some.faults.is_empty() && some.faults.len() < whole.faults.len());
        assert!(some.faults.iter().all(|planned| planned.fault.kind() == kind));
        assert_eq!(some.operations, whole.operations);
    }
}
