//! What is told about a record when it is merged: the life that is sent with its cells, and what Redis made of them.

use super::{Life, Record};
use crate::stamp::Stamp;

/// What the merge script did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Merged {
    /// All cells are in. With what the sender does not know: the life of the record, if it is another than the one sent.
    Applied(Record),
    /// Something of it is not in: a larger stamp or a later life stands, or its life was over. With the whole record. Only in
    /// mode *each*.
    Outdone(Record),
    /// In mode *all*: something with this stamp was in the way; nothing changed.
    Conflict(Stamp),
    /// In mode *all*: the life that was sent is over by Redis's clock; nothing changed.
    Over,
}

/// The life that cells are sent with, as far as Redis has told it and as far as its writers estimate it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SentLife {
    pub(crate) told: Option<Life>,
    pub(crate) estimated: Option<Estimated>,
}

/// A life by its writers' estimate of Redis's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Estimated {
    pub(crate) life: Life,
    /// The longest time to live of its writes, in milliseconds: from when Redis takes them in, it lasts no longer (L3). None
    /// for one without an end.
    pub(crate) ttl_ms: Option<u64>,
}

impl SentLife {
    /// The two together.
    pub(crate) fn union(self) -> Option<Life> {
        let lives = [self.told, self.estimated.map(|estimated| estimated.life)];
        lives.into_iter().flatten().reduce(Life::union)
    }

    /// Whether Redis cut the end off: the life that it told ends by so much earlier than the life that was asked for. Its clock is then behind
    /// the estimate by at least as much, since it takes any end within a time to live from now (L3).
    pub(crate) fn is_cut(self, told: Option<Life>, by_ms: u64) -> bool {
        let asked = self.estimated.map(|estimated| estimated.life).filter(|life| life.has_end());
        asked.zip(told).is_some_and(|(asked, told)| told.end_ms().saturating_add(by_ms) < asked.end_ms())
    }
}

impl Merged {
    /// The newest stamp that it tells.
    pub(crate) fn newest(&self) -> Option<Stamp> {
        match self {
            Self::Applied(record) | Self::Outdone(record) => record.newest(),
            Self::Conflict(stamp) => Some(*stamp),
            Self::Over => None,
        }
    }
}
