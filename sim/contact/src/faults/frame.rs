//! What the faults of a run have to fit: its instances, its length, and what its workload is there to meet.

use rand::RngExt;

use crate::seed::Stream;

/// What a plan has more of than others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Emphasis {
    /// Nothing.
    #[default]
    None,
    /// Redis is away for a good part of the phase, and instances restart meanwhile.
    Outages,
    /// Instances come and go.
    Churn,
    /// Callers give up, and Redis is slow.
    Impatience,
    /// Any of these.
    Any,
    /// Faults strike at moments of the protocol.
    Moments,
}

/// What a plan is made for.
#[derive(Clone, Copy, Debug, Default)]
pub struct PlanFrame {
    /// So many instances.
    pub instances: u32,
    /// The length of the phase of faults, in simulated microseconds.
    pub length_us: u64,
    /// What there is more of than in other plans.
    pub emphasis: Emphasis,
    /// How long the instances remember removals, where that is not so long that no fault comes near it.
    pub tombstone_ttl_us: Option<u64>,
    /// Whether the instances forget copies of what Redis holds, to keep within a limit.
    pub forgets_copies: bool,
    /// Whether records have a time to live.
    pub expires: bool,
    /// Beyond what every guarantee survives.
    pub beyond_budget: bool,
}

/// How long a fault lies in wait for an operation of the disk: long enough that some come.
pub(super) fn moment_us(draw: &mut Stream, length_us: u64) -> u64 {
    draw.random_range(length_us / 20..length_us / 2)
}
