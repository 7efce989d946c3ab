//! What happened to one register, and what a judge of it finds.

use std::collections::BTreeMap;

use super::operation::Seen;

/// What happened to one register, which holds [`Seen::Absent`] at first.
pub(super) struct Register {
    /// By `called`.
    pub(super) definite: Vec<Span>,
    /// For each value, when optional writes of it became possible, ascending.
    pub(super) optional: BTreeMap<Seen, Vec<u64>>,
}

/// A definite operation. One of a moment has `called` equal to `returned`.
pub(super) type Span<V = Seen> = seedbed_linearize::Span<V>;

pub(super) type Act<V = Seen> = seedbed_linearize::Act<V>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Explained,
    Unexplained,
    /// The search was given up.
    TooHard,
}
