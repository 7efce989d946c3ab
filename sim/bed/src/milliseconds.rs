//! Times of a run, for people.

use std::fmt;

/// Microseconds, shown as milliseconds.
pub(crate) struct Ms(pub(crate) u64);

impl fmt::Display for Ms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}.{:03} ms", self.0 / 1_000, self.0 % 1_000))
    }
}
