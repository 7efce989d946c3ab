//! Stamps of the far future, and a clock of Redis that is far from the estimate: believed once two replies have shown them.
//!
//! A flipped bit that no checksum on the way noticed can turn a stamp of today into one of the year 2583. An instance that
//! believed it would move its own clock there, write above it, and take every instance along; no later write could undo
//! that. So a reply whose newest stamp is more than an hour ahead of Redis's clock is asked for again. If the second reply
//! shows a stamp near the first, there is such a stamp in Redis (the clock of an instance is wrong), and it counts like any
//! other (R4). If it does not, the second reply is the answer. A checksum over what the script answers was rejected: reads
//! are HGETALLs, which no script makes, and a script for every read would cost Redis three times the work.
//!
//! Redis's clock is asked again in the same way: lives of records are reckoned from it, and one bit makes it 1991.

use std::sync::atomic::{AtomicU64, Ordering};

use redis::Value;

use super::CallError;

/// How far ahead of Redis's clock a stamp is doubted, and how near two of them are taken for the same clock's, in
/// milliseconds. So far from the estimate, what Redis's clock says is doubted too.
pub(crate) const FAR_MS: u64 = 60 * 60 * 1000;

/// Digits of a stamp that are its milliseconds, and all of them.
const MILLIS_LEN: usize = 12;
const STAMP_LEN: usize = 32;

/// Up to where stamps are believed at once.
#[derive(Debug, Default)]
pub(crate) struct Horizon {
    /// What Redis's clock said last, in milliseconds. Not the largest: a damaged answer of that counts until the next.
    clock_ms: AtomicU64,
    /// The largest time of a stamp that two replies have shown.
    confirmed_ms: AtomicU64,
}

impl Horizon {
    pub(super) fn set_clock(&self, clock_ms: u64) {
        self.clock_ms.store(clock_ms, Ordering::Relaxed);
    }

    /// The time of the largest stamp that these texts begin with, if it is to be doubted. None before Redis has told its
    /// clock.
    pub(super) fn doubted<'a>(&self, cells: impl Iterator<Item = &'a [u8]>) -> Option<u64> {
        let limit_ms = self.limit_ms()?;
        let limit = digits(limit_ms);
        // Digits compare as the numbers do, so only what is doubted is read.
        let beyond = cells.filter(|cell| cell.len() >= STAMP_LEN && cell[..MILLIS_LEN] > limit[..]);
        beyond.filter_map(|cell| millis(&cell[..MILLIS_LEN])).max()
    }

    /// Likewise, of a stamp that was read.
    pub(super) fn doubts(&self, millis: Option<u64>) -> Option<u64> {
        millis.filter(|millis| self.limit_ms().is_some_and(|limit_ms| *millis > limit_ms))
    }

    /// What the second of two replies says of a doubted stamp in the first: whether it is confirmed. The second reply may be
    /// used then, and if it has no doubted stamp.
    ///
    /// # Errors
    /// It has another one: what comes over this connection is damaged.
    pub(super) fn judge(&self, first_ms: u64, second_ms: Option<u64>) -> Result<bool, CallError> {
        match second_ms {
            None => Ok(false),
            Some(second_ms) if first_ms.abs_diff(second_ms) <= FAR_MS => {
                self.confirmed_ms.fetch_max(first_ms.max(second_ms), Ordering::Relaxed);
                Ok(true)
            }
            Some(_) => Err(CallError::Unknown(
                "replies of redis are damaged on their way: two differ in their stamps".to_owned(),
            )),
        }
    }

    fn limit_ms(&self) -> Option<u64> {
        let clock_ms = self.clock_ms.load(Ordering::Relaxed);
        (clock_ms > 0).then(|| clock_ms.max(self.confirmed_ms.load(Ordering::Relaxed)).saturating_add(FAR_MS))
    }
}

/// The values of a flat list of fields and values.
pub(super) fn cells(flat: &[Value]) -> impl Iterator<Item = &[u8]> {
    flat.iter().skip(1).step_by(2).filter_map(|value| match value {
        Value::BulkString(text) => Some(text.as_slice()),
        _ => None,
    })
}

fn digits(millis: u64) -> [u8; MILLIS_LEN] {
    let mut digits = [b'f'; MILLIS_LEN];
    if millis >> (4 * MILLIS_LEN) == 0 {
        for (index, digit) in digits.iter_mut().rev().enumerate() {
            *digit = b"0123456789abcdef"[(millis >> (4 * index) & 15) as usize];
        }
    }
    digits
}

fn millis(digits: &[u8]) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 0x019a_c5d0_1234;

    fn stamp(millis: u64) -> String {
        format!("{millis:012x}{}", "0".repeat(20))
    }

    fn doubted(horizon: &Horizon, millis: u64) -> Option<u64> {
        let cell = format!("{}\"a value\"", stamp(millis));
        horizon.doubted([b"ffff".as_slice(), cell.as_bytes()].into_iter())
    }

    #[test]
    fn a_stamp_that_one_reply_has_shown_is_doubted_and_one_that_two_have_shown_is_not() {
        let horizon = Horizon::default();
        assert_eq!(doubted(&horizon, 1 << 47), None, "redis has not told its clock");
        horizon.set_clock(NOW_MS);
        for near in [0, NOW_MS - FAR_MS, NOW_MS, NOW_MS + FAR_MS] {
            assert_eq!(doubted(&horizon, near), None);
        }
        for bit in 22..48 {
            let far = NOW_MS ^ (1 << bit);
            assert_eq!(doubted(&horizon, far), Some(far).filter(|far| *far > NOW_MS + FAR_MS), "bit {bit}");
        }
        let far = NOW_MS + (1 << 44);
        assert_eq!(horizon.judge(far, None), Ok(false), "the second reply is the answer");
        assert_eq!(doubted(&horizon, far), Some(far));
        assert!(horizon.judge(far, Some(far + (1 << 43))).is_err(), "two flips");
        assert_eq!(horizon.judge(far, Some(far + 5)), Ok(true));
        assert_eq!(doubted(&horizon, far + 5), None);
        horizon.set_clock((1 << 48) - 1);
        assert_eq!(doubted(&horizon, (1 << 48) - 1), None);
    }
}
