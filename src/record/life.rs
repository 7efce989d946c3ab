//! The life of a record: an interval of Redis's time, from its first upsert to the largest deadline of those that overlap.
//!
//! Intervals are joined by union, never by stamps (L1): an upsert extends a life, and none shortens it, however late it
//! arrives. That a life is over is for Redis's clock to say (L2). docs/PROTOCOL.md has the rules and what forced them.

use serde::{Deserialize, Serialize};

use crate::stamp::{STAMP_TEXT_LEN, Stamp};

/// The latest moment that 12 hexadecimal digits can say: a record without a time to live has no end.
const NO_END_MS: u64 = (1 << 48) - 1;

/// Length of one moment as text.
const DIGITS: usize = 12;

/// From when until when a record lives, in milliseconds of Redis's clock. At the end itself it is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "(u64, u64)", into = "(u64, u64)")]
pub(crate) struct Life {
    begin_ms: u64,
    end_ms: u64,
}

impl From<(u64, u64)> for Life {
    fn from((begin_ms, end_ms): (u64, u64)) -> Self {
        Self { begin_ms: begin_ms.min(NO_END_MS), end_ms: end_ms.min(NO_END_MS) }
    }
}

impl From<Life> for (u64, u64) {
    fn from(Life { begin_ms, end_ms }: Life) -> Self {
        (begin_ms, end_ms)
    }
}

impl Life {
    /// The life that an upsert asks for at `now_ms`; without an end if there is no time to live.
    pub(crate) fn from_now(now_ms: u64, ttl_ms: Option<u64>) -> Self {
        let end_ms = ttl_ms.map_or(NO_END_MS, |ttl_ms| now_ms.saturating_add(ttl_ms));
        Self { begin_ms: now_ms.min(NO_END_MS), end_ms: end_ms.min(NO_END_MS) }
    }

    pub(crate) fn begin_ms(self) -> u64 {
        self.begin_ms
    }

    /// The end of time if it has no end.
    pub(crate) fn end_ms(self) -> u64 {
        if self.has_end() { self.end_ms } else { u64::MAX }
    }

    pub(crate) fn has_end(self) -> bool {
        self.end_ms < NO_END_MS
    }

    pub(crate) fn is_over_at(self, now_ms: u64) -> bool {
        self.end_ms() <= now_ms
    }

    /// Whether it was over when the other began: they are two lives of the record, also if they touch.
    pub(crate) fn is_before(self, other: Self) -> bool {
        self.is_over_at(other.begin_ms)
    }

    pub(crate) fn overlaps(self, other: Self) -> bool {
        !self.is_before(other) && !other.is_before(self)
    }

    /// Whether a union with `other` is no more than this.
    pub(crate) fn contains(self, other: Self) -> bool {
        self.union(other) == self
    }

    /// The smallest life that holds both.
    pub(crate) fn union(self, other: Self) -> Self {
        Self { begin_ms: self.begin_ms.min(other.begin_ms), end_ms: self.end_ms.max(other.end_ms) }
    }

    /// The same life by a clock that is ahead by so much.
    pub(crate) fn shifted(self, by_ms: i64) -> Self {
        let shift = |at_ms: u64| at_ms.saturating_add_signed(by_ms).min(NO_END_MS);
        Self { begin_ms: shift(self.begin_ms), end_ms: if self.has_end() { shift(self.end_ms) } else { NO_END_MS } }
    }

    pub(crate) fn begin_text(self) -> String {
        format!("{:012x}", self.begin_ms)
    }

    /// `ffffffffffff` if it has no end.
    pub(crate) fn end_text(self) -> String {
        format!("{:012x}", self.end_ms)
    }

    /// What the existence cell holds: its stamp, and this. Every write and every copy goes through here.
    pub(super) fn text_behind(self, stamp: Stamp) -> String {
        let mut text = String::with_capacity(STAMP_TEXT_LEN + 1 + 2 * DIGITS);
        text.push_str(&stamp.text());
        text.push('3');
        for moment in [self.begin_ms, self.end_ms] {
            text.extend((0..DIGITS).rev().map(|digit| {
                char::from(b"0123456789abcdef"[usize::try_from(moment >> (4 * digit) & 15).expect("four bits")])
            }));
        }
        text
    }

    /// Reads the forms before it as well, which had a deadline and no begin: `1` for none, `2` by Redis's clock, and, in
    /// local stores, `0` by the writer's estimate of it.
    pub(super) fn from_text(text: &str) -> Option<Self> {
        let moment = |digits: &str| (digits.len() == DIGITS).then(|| u64::from_str_radix(digits, 16).ok())?;
        match text.split_at_checked(1)? {
            ("1", "") => Some(Self { begin_ms: 0, end_ms: NO_END_MS }),
            ("0" | "2", deadline) => Some(Self { begin_ms: 0, end_ms: moment(deadline)? }),
            ("3", interval) => {
                let (begin, end) = interval.split_at_checked(DIGITS)?;
                Some(Self { begin_ms: moment(begin)?, end_ms: moment(end)? })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: &str = "019b76db1d3000042e75bacf456b42f8";

    fn life(begin_ms: u64, end_ms: u64) -> Life {
        Life { begin_ms, end_ms }
    }

    #[test]
    fn it_comes_back_from_its_text_and_the_forms_before_have_no_begin() {
        for life in [life(5, 90), Life::from_now(7, None)] {
            let text = life.text_behind(STAMP.parse().unwrap());
            assert_eq!(Life::from_text(text.strip_prefix(STAMP).unwrap()), Some(life), "{text}");
        }
        assert_eq!(Life::from_text("1"), Some(life(0, NO_END_MS)));
        assert_eq!(Life::from_text("20000000003e8"), Some(life(0, 1000)));
        assert_eq!(Life::from_text("00000000003e8"), Some(life(0, 1000)));
        for wrong in ["", "4", "11", "2123", "2zzzzzzzzzzzz", "3", "3000000000005", "30000000000050000000003e80"] {
            assert_eq!(Life::from_text(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn at_its_end_a_life_is_over_so_lives_that_touch_are_two() {
        assert!(life(1, 5).overlaps(life(4, 9)) && life(4, 9).overlaps(life(1, 5)));
        assert!(life(1, 5).is_before(life(5, 9)) && !life(5, 9).is_before(life(1, 5)));
        assert!(life(1, 5).is_over_at(5) && !life(1, 5).is_over_at(4));
        assert!(!Life::from_now(0, None).is_over_at(u64::MAX - 1));
        assert_eq!(life(3, 5).union(life(1, 4)), life(1, 5));
        assert!(life(1, 5).contains(life(1, 4)) && !life(1, 5).contains(life(0, 4)));
    }

    #[test]
    fn a_shift_moves_both_ends_but_not_the_end_of_time() {
        assert_eq!(life(10, 20).shifted(-15), life(0, 5));
        assert_eq!(Life::from_now(10, None).shifted(-5), Life::from_now(5, None));
    }
}
