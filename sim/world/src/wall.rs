//! Wall clocks: one a host, wrong by an offset that steps and drifts change. Monotonic time is the run's own and is never
//! touched by them.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::clock::WALL_BASE_MS;

/// The wall clock of a host, as it stays across the lives of its processes.
#[derive(Default)]
pub(super) struct WallClock(Mutex<WallError>);

/// How wrong it is.
#[derive(Default)]
struct WallError {
    offset_us: i64,
    drift_ppm: i64,
    /// Since when it drifts like that.
    since_us: u64,
    /// How often it was read.
    readings: u64,
}

impl WallClock {
    /// What it shows, in milliseconds since the Unix epoch.
    pub(super) fn read(&self, now_us: u64) -> u64 {
        let mut wrong = self.lock();
        wrong.readings += 1;
        let right_us = WALL_BASE_MS * 1_000 + now_us;
        right_us.saturating_add_signed(wrong.at(now_us)) / 1_000
    }

    /// How often it was read.
    pub(super) fn readings(&self) -> u64 {
        self.lock().readings
    }

    /// Sets how wrong it is, whatever it was before.
    pub(super) fn set_offset_ms(&self, offset_ms: i64) {
        let mut wrong = self.lock();
        *wrong = WallError { offset_us: offset_ms * 1_000, readings: wrong.readings, ..WallError::default() };
    }

    /// Steps forth, or back.
    pub(super) fn step_ms(&self, by_ms: i64) {
        self.lock().offset_us += by_ms * 1_000;
    }

    /// Gains so many microseconds in each second from now on.
    pub(super) fn set_drift_ppm(&self, drift_ppm: i64, now_us: u64) {
        let mut wrong = self.lock();
        (wrong.offset_us, wrong.drift_ppm, wrong.since_us) = (wrong.at(now_us), drift_ppm, now_us);
    }

    fn lock(&self) -> MutexGuard<'_, WallError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl WallError {
    fn at(&self, now_us: u64) -> i64 {
        let drifted_us = i64::try_from(now_us.saturating_sub(self.since_us)).unwrap_or(i64::MAX / 1_000_000);
        self.offset_us + drifted_us * self.drift_ppm / 1_000_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_drifts_gains_steadily_and_keeps_what_it_gained() {
        let clock = WallClock::default();
        clock.set_offset_ms(-5_000);
        clock.set_drift_ppm(100_000, 1_000_000);
        assert_eq!(clock.read(11_000_000), WALL_BASE_MS + 11_000 - 5_000 + 1_000);
        clock.set_drift_ppm(0, 11_000_000);
        assert_eq!(clock.read(20_000_000), WALL_BASE_MS + 20_000 - 4_000);
        assert_eq!(clock.readings(), 2);
    }

    #[test]
    fn a_clock_steps_back_as_well_as_forth() {
        let clock = WallClock::default();
        clock.step_ms(-90_000);
        assert_eq!(clock.read(1_000_000), WALL_BASE_MS + 1_000 - 90_000);
        clock.step_ms(100_000);
        assert_eq!(clock.read(1_000_000), WALL_BASE_MS + 1_000 + 10_000);
    }
}
