//! An interval of Redis's time: how long a record lives (L1).

/// Discrete time. One unit stands for a good part of a time to live.
pub type Time = i8;

/// From `begin` until `end`. At `end` itself it is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Interval {
    /// The first moment.
    pub begin: Time,
    /// The first moment after it.
    pub end: Time,
}

impl Interval {
    /// What an upsert at `now` asks for.
    pub fn from_now(now: Time, ttl: Time) -> Self {
        Self { begin: now, end: now + ttl }
    }

    /// Whether it is over at `now`.
    pub fn is_over_at(self, now: Time) -> bool {
        self.end <= now
    }

    /// Whether it was over when the other began: they are two lives. Those that touch are two: at its end a life is over.
    pub fn is_before(self, other: Self) -> bool {
        self.end <= other.begin
    }

    /// Whether the two are one life.
    pub fn overlaps(self, other: Self) -> bool {
        !self.is_before(other) && !other.is_before(self)
    }

    /// Whether the other lies within it.
    pub fn contains(self, other: Self) -> bool {
        self.begin <= other.begin && other.end <= self.end
    }

    /// The smallest interval that holds both.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self { begin: self.begin.min(other.begin), end: self.end.max(other.end) }
    }

    /// The same interval by a clock that is ahead by so much.
    #[must_use]
    pub fn shifted(self, by: Time) -> Self {
        Self { begin: self.begin + by, end: self.end + by }
    }
}

/// The union of the intervals that there are.
pub fn union(one: Option<Interval>, other: Option<Interval>) -> Option<Interval> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.union(other)),
        (one, other) => one.or(other),
    }
}
