//! An operation on a register, between two moments.

use crate::placed::Timed;

/// An operation. One of a moment has `called` equal to `returned`.
#[derive(Clone, Copy, Debug)]
pub struct Span<V> {
    /// When it was called.
    pub called: u64,
    /// When it returned; the end of time for one that never did.
    pub returned: u64,
    /// What it did.
    pub act: Act<V>,
}

/// What an operation on a register did.
#[derive(Clone, Copy, Debug)]
pub enum Act<V> {
    /// It wrote this.
    Write(V),
    /// It read this.
    Read(V),
}

impl<V> Timed for Span<V> {
    fn called(&self) -> u64 {
        self.called
    }

    fn returned(&self) -> u64 {
        self.returned
    }
}
