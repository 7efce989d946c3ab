//! What happened to one register, and what a judge of it finds.

use std::collections::BTreeMap;

use super::operation::Seen;

/// What happened to one register, which holds [`Seen::Absent`] at first.
pub(super) struct RegisterHistory {
    /// By `called`.
    pub(super) definite: Vec<RegisterSpan>,
    /// For each value, when optional writes of it became possible, ascending.
    pub(super) optional: BTreeMap<Seen, Vec<u64>>,
}

/// A definite operation. One of a moment has `called` equal to `returned`.
pub(super) type RegisterSpan<V = Seen> = seedbed_linearize::Span<V>;

pub(super) type RegisterAct<V = Seen> = seedbed_linearize::Act<V>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SearchOutcome {
    Explained,
    Unexplained,
    /// The search was given up.
    TooHard,
}
