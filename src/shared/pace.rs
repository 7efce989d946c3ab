//! How much may be on its way to Redis at the same time, and how long a record may take. Pure: what was observed in,
//! decisions out.
//!
//! Replies come in the order of requests, so the time from the first reply of a batch to its last is what its bytes took
//! on the link, and what Redis took for them, apart from the round trip. A call of the application that is sent behind a
//! batch waits as long. It should not notice.

use std::time::Duration;

/// Bytes above which a record is merged over a connection of its own, whatever the link. At 8 Mbit/s they take 66 ms, a
/// quarter of what a call waits for its reply.
pub(crate) const LARGE_BYTES: u64 = 64 << 10;

/// The least and the most bytes of a batch.
const WINDOW_MIN: u64 = 4 << 10;
const WINDOW_MAX: u64 = 1 << 20;

/// The slowest link that a record is first sent over as if it worked, in bytes a second: about 1 Mbit/s.
const RATE_ASSUMED: u64 = 128 << 10;

/// A link may be as much slower than it was the last time.
const SLACK: u64 = 4;

/// What was observed of the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    window: u64,
    /// Bytes a second that large records took.
    rate: Option<u64>,
}

impl Default for Pace {
    fn default() -> Self {
        Self { window: LARGE_BYTES, rate: None }
    }
}

impl Pace {
    /// Bytes of a batch on the shared connection. A record with more is merged over another.
    pub(crate) fn window(self) -> u64 {
        self.window
    }

    /// Bytes above which a record does not belong on the shared connection.
    pub(crate) fn large_bytes(self) -> u64 {
        self.window.min(LARGE_BYTES)
    }

    /// A batch of so many bytes was merged, its last reply so long after its first. `patience` is how long a call waits.
    pub(crate) fn merged(&mut self, bytes: u64, spread: Duration, patience: Duration) {
        if spread > patience / 4 {
            self.narrow();
        } else if spread < patience / 16 && bytes > self.window / 2 {
            self.window = (self.window * 2).min(WINDOW_MAX);
        }
    }

    /// Some of a batch was not merged in time, although Redis answers.
    pub(crate) fn narrow(&mut self) {
        self.window = (self.window / 2).max(WINDOW_MIN);
    }

    /// A record of so many bytes took so long, alone.
    pub(crate) fn merged_alone(&mut self, bytes: u64, took: Duration) {
        // A small one tells of the round trip.
        if bytes < WINDOW_MIN {
            return;
        }
        let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX).max(1);
        let rate = (bytes.saturating_mul(1000) / millis).max(1);
        self.rate = Some(self.rate.map_or(rate, |before| before.midpoint(rate)));
    }

    /// How long a record of so many bytes may take alone, if a reply to a small one is waited for so long.
    pub(crate) fn limit(self, bytes: u64, patience: Duration) -> Duration {
        let slowest = self.rate.map_or(RATE_ASSUMED, |rate| (rate / SLACK).clamp(1, RATE_ASSUMED));
        patience.saturating_add(Duration::from_millis(bytes.saturating_mul(1000) / slowest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_millis(250);

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn batches_shrink_on_a_narrow_link_and_grow_on_a_wide_one() {
        let mut pace = Pace::default();
        for _ in 0..3 {
            pace.merged(pace.window(), ms(200), PATIENCE);
        }
        assert_eq!((pace.window(), pace.large_bytes()), (8 << 10, 8 << 10));
        for _ in 0..20 {
            pace.narrow();
        }
        assert_eq!(pace.window(), WINDOW_MIN);
        for _ in 0..20 {
            pace.merged(pace.window(), ms(2), PATIENCE);
        }
        assert_eq!((pace.window(), pace.large_bytes()), (WINDOW_MAX, LARGE_BYTES));
    }

    #[test]
    fn small_batches_say_little_of_a_wide_link_and_a_middling_time_changes_nothing() {
        let mut pace = Pace::default();
        pace.merged(1000, ms(0), PATIENCE);
        pace.merged(LARGE_BYTES, ms(40), PATIENCE);
        assert_eq!(pace, Pace::default());
    }

    #[test]
    fn a_record_may_take_longer_the_larger_it_is_and_the_slower_the_link_was() {
        let mut pace = Pace::default();
        assert_eq!(pace.limit(0, PATIENCE), PATIENCE);
        // 400 kB over 8 Mbit/s take 400 ms.
        assert_eq!(pace.limit(400_000, PATIENCE), ms(250 + 3051));
        pace.merged_alone(400_000, ms(20));
        assert_eq!(pace.limit(400_000, PATIENCE), ms(250 + 3051), "a fast link may become a slow one");
        let mut slow = Pace::default();
        slow.merged_alone(100_000, ms(10_000));
        assert_eq!(slow.limit(100_000, PATIENCE), ms(250 + 40_000));
        slow.merged_alone(100, ms(1));
        assert_eq!(slow.limit(100_000, PATIENCE), ms(250 + 40_000), "a small record tells of the round trip");
        assert!(slow.limit(u64::MAX, PATIENCE) > PATIENCE);
    }
}
