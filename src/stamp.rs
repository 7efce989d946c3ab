//! Stamps: the total order in which writes win, and the hybrid logical clock that issues them.
//!
//! A stamp is 48 bits of milliseconds, 16 bits of counter and 64 bits of instance id. Written as 32 lowercase
//! hexadecimal digits it compares as text in any locale, which is what the merge script in Redis needs: Lua 5.1 compares
//! strings by the server's collation, and its numbers lose integers above 2^53.
//!
//! The clock is hybrid: every stamp that an instance sees advances it, so a write made after seeing another always has
//! the larger stamp, however wrong the wall clocks are (Kulkarni et al., "Logical Physical Clocks", 2014).

use std::{fmt, ops::Deref, str::FromStr};

use crate::contact::Timestamp;

/// Length of a stamp as text.
pub(crate) const STAMP_TEXT_LEN: usize = 32;

/// How far above the clock the persisted ceiling is set, so that it is raised every few seconds and not at every write.
const CEILING_AHEAD_MS: u64 = 10_000;

/// The latest time of its own clock that an instance believes: half of what a stamp can say, the year 6429. A wall clock
/// at the end of time would leave no stamps for anybody, for ever.
const WALL_MS_MAX: u64 = 1 << 47;

/// The position of a write in the order of all writes. The larger stamp wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp(u128);

impl Stamp {
    fn new(head: StampHead, instance: u64) -> Self {
        Self(u128::from(head.0) << 64 | u128::from(instance))
    }

    /// The stamp of a record taken over from another cache, by when that last updated it: below every stamp that a clock
    /// issues ([`HybridClock::issue`] never gives head zero), so that an import wins over nothing but older imports.
    pub(crate) fn imported(last_updated_at: Timestamp) -> Self {
        Self(u128::from(last_updated_at.millis()))
    }

    /// Milliseconds since the Unix epoch, by the clock that issued it; zero for what was imported.
    pub fn millis(self) -> u64 {
        self.head().millis()
    }

    pub(crate) fn head(self) -> StampHead {
        StampHead(u64::try_from(self.0 >> 64).unwrap_or(u64::MAX))
    }

    /// Its text. A record has one in every cell, so this and parsing are without detours.
    pub(crate) fn text(self) -> StampText {
        let mut text = [0; STAMP_TEXT_LEN];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0.to_be_bytes()) {
            pair[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
            pair[1] = b"0123456789abcdef"[usize::from(byte & 15)];
        }
        StampText(text)
    }
}

/// The text of a stamp, on the stack.
pub(crate) struct StampText([u8; STAMP_TEXT_LEN]);

impl Deref for StampText {
    type Target = str;

    fn deref(&self) -> &str {
        std::str::from_utf8(&self.0).expect("digits")
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

/// A text that is no stamp.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a stamp of {STAMP_TEXT_LEN} lowercase hexadecimal digits")]
pub struct ParseStampError {
    text: String,
}

impl FromStr for Stamp {
    type Err = ParseStampError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || ParseStampError { text: text.to_owned() };
        let digits: &[u8; STAMP_TEXT_LEN] = text.as_bytes().try_into().map_err(|_| wrong())?;
        let mut bytes = [0; STAMP_TEXT_LEN / 2];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = digit(pair[0]).zip(digit(pair[1])).map(|(high, low)| high << 4 | low).ok_or_else(wrong)?;
        }
        Ok(Self(u128::from_be_bytes(bytes)))
    }
}

/// Upper case is refused: two texts of one stamp would compare unequal in the merge script.
fn digit(text: u8) -> Option<u8> {
    match text {
        b'0'..=b'9' => Some(text - b'0'),
        b'a'..=b'f' => Some(text - b'a' + 10),
        _ => None,
    }
}

/// Milliseconds and counter: a stamp without its instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct StampHead(pub(crate) u64);

impl StampHead {
    pub(crate) fn from_millis(millis: u64) -> Self {
        Self(millis.min((1 << 48) - 1) << 16)
    }

    pub(crate) fn millis(self) -> u64 {
        self.0 >> 16
    }
}

/// Why no stamp can be issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoStamp {
    /// The persisted ceiling must be raised to this first (R4).
    RaiseCeiling(StampHead),
    /// A stamp at the end of time was seen; nothing can be above it.
    Exhausted,
}

/// The clock of one opened cache.
#[derive(Debug)]
pub(crate) struct HybridClock {
    instance: u64,
    latest: StampHead,
    /// Durable: no stamp at or above it is issued, nor one seen answered, before a higher one is (R4).
    ceiling: StampHead,
    /// Whether a stamp was issued or seen since the ceiling was raised: an idle instance leaves its disk alone.
    used: bool,
}

impl HybridClock {
    /// A clock that starts at the ceiling that the last start left behind, under a fresh instance id. Either alone is
    /// not enough: an instance that forgets what it issued would give two values one stamp, or write below what it read.
    pub(crate) fn restored(instance: u64, ceiling: StampHead) -> Self {
        Self { instance, latest: ceiling, ceiling, used: true }
    }

    /// The id of this opening.
    pub(crate) fn instance(&self) -> u64 {
        self.instance
    }

    /// A stamp above all issued and seen.
    pub(crate) fn issue(&mut self, wall_ms: u64) -> Result<Stamp, NoStamp> {
        let after_latest = self.latest.0.checked_add(1).ok_or(NoStamp::Exhausted)?;
        let head = StampHead::from_millis(wall_ms.min(WALL_MS_MAX)).max(StampHead(after_latest));
        if head.0 == u64::MAX {
            return Err(NoStamp::Exhausted);
        }
        if head >= self.ceiling {
            return Err(NoStamp::RaiseCeiling(ceiling_above(head)));
        }
        (self.latest, self.used) = (head, true);
        Ok(Stamp::new(head, self.instance))
    }

    /// Whether a stamp seen would push the clock.
    pub(crate) fn is_behind(&self, seen: Stamp) -> bool {
        self.latest < seen.head()
    }

    /// Advances the clock beyond a stamp seen. If that passes the ceiling, the answer that shows the stamp must wait
    /// until the ceiling returned is durable.
    pub(crate) fn observe(&mut self, seen: Stamp) -> Option<StampHead> {
        (self.latest, self.used) = (self.latest.max(seen.head()), true);
        (self.latest >= self.ceiling && self.ceiling.0 != u64::MAX).then(|| ceiling_above(self.latest))
    }

    /// The ceiling to persist before it is needed, so that no call has to wait for it.
    pub(crate) fn ceiling_due(&self, wall_ms: u64) -> Option<StampHead> {
        let now = self.latest.max(StampHead::from_millis(wall_ms.min(WALL_MS_MAX)));
        let near = now.millis() + CEILING_AHEAD_MS / 2 >= self.ceiling.millis();
        (self.used && near).then(|| ceiling_above(now))
    }

    /// Takes a ceiling that is now durable.
    pub(crate) fn raised(&mut self, ceiling: StampHead) {
        (self.ceiling, self.used) = (self.ceiling.max(ceiling), false);
    }
}

fn ceiling_above(head: StampHead) -> StampHead {
    // Saturates at the end of time, where `from_millis` alone would round down to below `head`.
    let ceiling = StampHead::from_millis(head.millis().saturating_add(CEILING_AHEAD_MS));
    if ceiling > head { ceiling } else { StampHead(u64::MAX) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock() -> HybridClock {
        let mut clock = HybridClock::restored(7, StampHead::default());
        clock.raised(StampHead::from_millis(1_000_000));
        clock
    }

    #[test]
    fn text_form_round_trips_and_compares_like_the_stamp() {
        let mut clock = clock();
        let earlier = clock.issue(5).unwrap();
        let later = clock.issue(5).unwrap();
        assert_eq!(earlier.to_string().parse(), Ok(earlier));
        assert!(earlier < later && earlier.to_string() < later.to_string());
        assert!("ABCDEF00000000000000000000000000".parse::<Stamp>().is_err(), "upper case has two texts for one stamp");
        assert!("+0000000000000000000000000000000".parse::<Stamp>().is_err());
        assert!("00".parse::<Stamp>().is_err());
    }

    #[test]
    fn a_write_after_seeing_a_fast_clock_is_above_it() {
        let mut fast = clock();
        let mut slow = clock();
        let seen = fast.issue(900_000).unwrap();
        slow.observe(seen);
        assert!(slow.issue(10).unwrap() > seen);
    }

    #[test]
    fn stamps_go_on_when_the_wall_clock_steps_back() {
        let mut clock = clock();
        let before = clock.issue(500).unwrap();
        assert!(clock.issue(100).unwrap() > before);
    }

    #[test]
    fn what_is_imported_is_below_what_any_clock_issues_and_in_the_order_of_its_updates() {
        let [older, newer] = [5, u64::MAX].map(|millis| Stamp::imported(Timestamp::from_millis(millis)));
        let first = clock().issue(0).unwrap();
        assert!(older < newer && newer < first && newer.to_string() < first.to_string());
    }

    #[test]
    fn r4_no_stamp_at_the_ceiling_before_a_higher_one_is_durable() {
        let mut clock = HybridClock::restored(7, StampHead::from_millis(100));
        let Err(NoStamp::RaiseCeiling(higher)) = clock.issue(50) else { panic!("issued a stamp at the ceiling") };
        clock.raised(higher);
        assert!(clock.issue(50).unwrap().head() > StampHead::from_millis(100), "a restart begins at the ceiling");
    }

    #[test]
    fn r4_a_stamp_seen_beyond_the_ceiling_asks_for_a_higher_one() {
        let mut fast = HybridClock::restored(1, StampHead::default());
        fast.raised(StampHead::from_millis(5_000_000));
        let seen = fast.issue(4_000_000).unwrap();
        let mut clock = clock();
        let higher = clock.observe(seen).unwrap();
        assert!(higher > seen.head());
        clock.raised(higher);
        assert_eq!(clock.observe(seen), None);
    }

    #[test]
    fn an_idle_clock_asks_for_no_higher_ceiling() {
        let mut clock = clock();
        assert_eq!(clock.ceiling_due(2_000_000), None);
        clock.issue(999_000).unwrap();
        assert!(clock.ceiling_due(999_000).unwrap() > StampHead::from_millis(1_000_000));
    }

    #[test]
    fn a_wall_clock_at_the_end_of_time_leaves_stamps_for_the_others() {
        let mut broken = HybridClock::restored(7, StampHead::default());
        let Err(NoStamp::RaiseCeiling(ceiling)) = broken.issue(u64::MAX) else { panic!("issued above the ceiling") };
        broken.raised(ceiling);
        let stamp = broken.issue(u64::MAX).unwrap();
        assert_eq!(stamp.millis(), WALL_MS_MAX, "as many years are left as have gone by");
        let mut other = clock();
        let higher = other.observe(stamp).unwrap();
        other.raised(higher);
        assert!(other.issue(5).unwrap() > stamp);
    }

    #[test]
    fn the_end_of_time_is_an_error_and_not_a_wrap() {
        let mut clock = clock();
        let last = "ffffffffffffffffffffffffffffffff".parse().unwrap();
        let ceiling = clock.observe(last).unwrap();
        clock.raised(ceiling);
        assert_eq!(clock.issue(0), Err(NoStamp::Exhausted));
    }
}
