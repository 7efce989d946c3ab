//! Redis's clock, as this instance estimates it between two answers that tell it.

use std::time::Duration;

use crate::env::Env;

/// The estimate of Redis's clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SharedClock {
    /// What Redis's clock said, in milliseconds; before it was ever asked, what the wall clock said at opening, corrected by the
    /// offset that the last start left behind.
    pub(crate) clock_ms: u64,
    /// When that was, by this instance's monotonic clock.
    pub(crate) at: Duration,
    /// And by its wall clock, in milliseconds.
    pub(crate) wall_ms: u64,
    /// Whether Redis said it.
    pub(crate) is_told: bool,
}

impl SharedClock {
    /// By the monotonic clock: what a write's life is reckoned from (L3).
    pub(crate) fn elapsed_ms(self, now: Duration) -> u64 {
        let elapsed = now.saturating_sub(self.at).as_millis();
        self.clock_ms.saturating_add(u64::try_from(elapsed).unwrap_or(u64::MAX))
    }

    /// By whichever of the two clocks went further (L6): a machine that was asleep must not show what has expired, and its
    /// monotonic clock stood still.
    pub(crate) fn latest_ms(self, now: Duration, wall_ms: u64) -> u64 {
        self.elapsed_ms(now).max(self.clock_ms.saturating_add(wall_ms.saturating_sub(self.wall_ms)))
    }
}

/// When Redis was asked for its clock, by both clocks of this instance. An answer that a stopped process reads late tells the
/// clock of long ago.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AskedAt {
    now: Duration,
    wall_ms: u64,
}

impl AskedAt {
    pub(crate) fn now(env: &impl Env) -> Self {
        Self { now: env.now(), wall_ms: env.wall_ms() }
    }

    /// Whether longer than that has gone by since, by either clock.
    pub(crate) fn is_longer_ago_than(self, limit: Duration, env: &impl Env) -> bool {
        let by_wall = Duration::from_millis(env.wall_ms().saturating_sub(self.wall_ms));
        env.now().saturating_sub(self.now).max(by_wall) > limit
    }
}
