//! The members of a sorted set, in the order of their scores.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use super::number;

/// The score of a member: a number, which can be infinite. There is one zero.
#[derive(Clone, Copy, Debug)]
pub struct Score(f64);

impl Score {
    /// A score of this value; `None` if that is NaN.
    pub fn new(value: f64) -> Option<Self> {
        // A small sorted set of Redis forgets the sign of zero.
        (!value.is_nan()).then_some(Self(if value == 0.0 { 0.0 } else { value }))
    }

    /// Its value, which is not NaN.
    pub fn value(self) -> f64 {
        self.0
    }
}

impl Ord for Score {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for Score {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Score {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Score {}

impl fmt::Display for Score {
    /// As Redis writes it (`%.17g`).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&number::format_g17(self.0))
    }
}

/// A sorted set: members by score, and by their bytes where scores are equal.
#[derive(Clone, Debug, Default)]
pub(super) struct SortedSet {
    scores: BTreeMap<Vec<u8>, Score>,
    order: BTreeSet<(Score, Vec<u8>)>,
}

impl SortedSet {
    pub(super) fn of(scores: &BTreeMap<Vec<u8>, Score>) -> Self {
        let order = scores.iter().map(|(member, score)| (*score, member.clone())).collect();
        Self { scores: scores.clone(), order }
    }

    /// The score of each member.
    pub(super) fn scores(&self) -> &BTreeMap<Vec<u8>, Score> {
        &self.scores
    }

    pub(super) fn len(&self) -> usize {
        self.scores.len()
    }

    pub(super) fn score(&self, member: &[u8]) -> Option<Score> {
        self.scores.get(member).copied()
    }

    /// Gives a member this score, new or not.
    pub(super) fn set(&mut self, member: &[u8], score: Score) {
        self.remove(member);
        self.scores.insert(member.to_vec(), score);
        self.order.insert((score, member.to_vec()));
    }

    pub(super) fn remove(&mut self, member: &[u8]) -> bool {
        let held = self.scores.remove_entry(member);
        held.is_some_and(|(member, score)| self.order.remove(&(score, member)))
    }

    /// The member of the lowest score or of the highest one, which is taken out.
    pub(super) fn pop(&mut self, is_highest: bool) -> Option<(Score, Vec<u8>)> {
        let popped = if is_highest { self.order.pop_last() } else { self.order.pop_first() };
        popped.inspect(|(_, member)| {
            self.scores.remove(member);
        })
    }

    /// How many members come before this one.
    pub(super) fn rank(&self, member: &[u8]) -> Option<usize> {
        let score = self.score(member)?;
        Some(self.order.range(..(score, member.to_vec())).count())
    }

    /// Scores and members, from the lowest to the highest.
    pub(super) fn in_order(&self) -> impl DoubleEndedIterator<Item = &(Score, Vec<u8>)> {
        self.order.iter()
    }
}
