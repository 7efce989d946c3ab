//! How much a verdict rests on: what a checker judged, and what it excused, by reason.
//!
//! A checker counts where it takes an excuse, in the pass that judges. What it counts is its own matter, see
//! [`Guarantee::unit`](super::Guarantee::unit). Each thing counts once: as judged, or under one reason.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

/// Why something was not held to a guarantee.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Excuse {
    /// Its life may have been over, as far as the clocks are known.
    Expiry,
    /// The store that held it was damaged.
    Damage,
    /// Redis had lost data.
    LostData,
    /// The faults of the run are more than the guarantee holds under.
    BeyondBudget,
    /// A process had crashed, and took along what it held in memory.
    Crash,
    /// The instance had not come to rest at the end.
    Unquiet,
    /// A value does not tell which write it is of.
    MissingTag,
    /// The history does not tell enough: no final read, no stamp, no state.
    NotTold,
    /// The search was given up.
    GivenUp,
    /// The disk was in trouble.
    Disk,
    /// A limit that was set was reached, or may have been.
    Limit,
    /// The process was paused.
    Pause,
    /// The process was stopped, or the caller gave the call up.
    Stopped,
    /// A call of a kind that may answer any error.
    AnyError,
    /// The call asked for Redis's word, or for a copy that is not too old, and said that there is none.
    Demand,
    /// Redis had forgotten a removal in its time, and was told again.
    ToldAgain,
    /// A fault touched the instance, or what it reaches Redis by, or had shortly before.
    Touched,
    /// Other writes of the record were in the way.
    Contended,
}

/// What was looked at under one guarantee, and what became of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// How many were judged.
    pub judged: u64,
    /// How many were not, by the reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub excused: BTreeMap<Excuse, u64>,
    /// Other things that are worth a count, and are no part of the share.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub notes: BTreeMap<Cow<'static, str>, u64>,
}

impl Account {
    /// Counts one: as excused for a reason, if there is one, else as judged.
    pub(super) fn count(&mut self, excuse: Option<Excuse>) {
        self.count_many(excuse, 1);
    }

    /// Counts as many, see [`Account::count`].
    pub(super) fn count_many(&mut self, excuse: Option<Excuse>, many: u64) {
        match excuse {
            _ if many == 0 => {}
            None => self.judged += many,
            Some(excuse) => *self.excused.entry(excuse).or_default() += many,
        }
    }

    /// Counts what is no part of the share.
    pub(super) fn note(&mut self, what: &'static str, many: u64) {
        if many > 0 {
            *self.notes.entry(Cow::Borrowed(what)).or_default() += many;
        }
    }

    /// Takes another account of the same guarantee in.
    pub fn add(&mut self, other: &Self) {
        self.judged += other.judged;
        for (excuse, many) in &other.excused {
            *self.excused.entry(*excuse).or_default() += many;
        }
        for (what, many) in &other.notes {
            *self.notes.entry(what.clone()).or_default() += many;
        }
    }

    /// How many were looked at.
    pub fn total(&self) -> u64 {
        self.judged + self.excused.values().sum::<u64>()
    }

    /// Which part was judged, in percent; all where there was nothing to look at.
    #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
    pub fn share(&self) -> f64 {
        if self.total() == 0 { 100.0 } else { self.judged as f64 / self.total() as f64 * 100.0 }
    }

    /// The reason that excused most, and how many.
    pub fn largest(&self) -> Option<(Excuse, u64)> {
        self.excused.iter().map(|(excuse, many)| (*excuse, *many)).max_by_key(|&(_, many)| many)
    }

    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.total() == 0 && self.notes.is_empty()
    }
}

impl fmt::Display for Excuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Expiry => "expiry",
            Self::Damage => "damage",
            Self::LostData => "lost data",
            Self::BeyondBudget => "beyond budget",
            Self::Crash => "crash",
            Self::Unquiet => "not at rest",
            Self::MissingTag => "missing tag",
            Self::NotTold => "not recorded",
            Self::GivenUp => "search given up",
            Self::Disk => "disk in trouble",
            Self::Limit => "limit",
            Self::Pause => "pause",
            Self::Stopped => "stopped",
            Self::AnyError => "may answer any error",
            Self::Demand => "asked for more",
            Self::ToldAgain => "told again",
            Self::Touched => "touched by a fault",
            Self::Contended => "contended",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_what_was_judged_of_all_that_was_looked_at() {
        let mut account = Account::default();
        assert!(account.is_empty() && account.share() >= 100.0 && account.largest().is_none());
        account.count_many(None, 9);
        account.count(Some(Excuse::Damage));
        account.note("apart", 7);
        let mut sum = account.clone();
        sum.add(&account);
        assert_eq!((sum.total(), sum.judged, sum.largest()), (20, 18, Some((Excuse::Damage, 2))));
        assert!((sum.share() - 90.0).abs() < 1e-9, "{}", sum.share());
        assert_eq!(sum.notes["apart"], 14);
    }
}
