//! How much the local store holds, and what it has met.

use super::held::Weight;

/// How much is held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Bytes of writes that Redis does not have.
    pub(crate) owed_bytes: u64,
    /// Bytes of everything else.
    pub(crate) copies_bytes: u64,
    /// Bytes of the log that are in use.
    pub(super) live_bytes: u64,
    /// Copies forgotten to keep within the limit, and copies not taken for the same reason, since opening.
    pub(crate) evicted: u64,
    pub(crate) not_admitted: u64,
    /// Records found damaged since opening.
    pub(crate) damaged: u64,
    /// Damaged logs set aside, at opening or since.
    pub(crate) quarantined: u64,
    /// Times that the log was rewritten.
    pub(crate) rewrites: u64,
    /// Writes to the log that failed and left it as it was.
    pub(crate) failed_flushes: u64,
}

impl Usage {
    pub(super) fn add(&mut self, weight: Weight) {
        self.owed_bytes += u64::from(weight.owed);
        self.copies_bytes += u64::from(weight.copied);
    }

    pub(super) fn subtract(&mut self, weight: Weight) {
        self.owed_bytes -= u64::from(weight.owed);
        self.copies_bytes -= u64::from(weight.copied);
    }
}
