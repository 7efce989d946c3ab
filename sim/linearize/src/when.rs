//! Between which moments something happens.

/// Between which moments something happens, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct When {
    /// Not before this one.
    pub earliest: u64,
    /// Not after this one.
    pub latest: u64,
}

impl When {
    /// At any moment.
    pub const EVER: Self = Self { earliest: 0, latest: u64::MAX };

    /// The same so much later.
    #[must_use]
    pub fn later(self, by: u64) -> Self {
        Self { earliest: self.earliest.saturating_add(by), latest: self.latest.saturating_add(by) }
    }

    /// Whether it may happen before the other, or with it.
    pub fn may_be_before(self, other: Self) -> bool {
        self.earliest <= other.latest
    }

    /// Whether it may happen after the other, or with it.
    pub fn may_be_after(self, other: Self) -> bool {
        self.latest >= other.earliest
    }
}
