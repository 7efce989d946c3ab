//! One direction between two hosts: how long a segment takes, and whether it gets through at all.

use rand::{Rng, RngExt};

use crate::{
    seed::{Seed, Stream},
    world::Host,
};

/// The least latency of a link, drawn once: a data centre's.
const BASE_US: std::ops::RangeInclusive<u64> = 80..=200;
/// Jitter of a segment: up to this much more, uniformly.
const JITTER_US: u64 = 50;
/// One segment in this many is held up.
const TAIL_EVERY: u64 = 256;
/// A segment that is held up takes up to this much longer.
const TAIL_US: u64 = 4_000;

/// A direction between two hosts.
pub(super) struct Link {
    pub(super) from: Host,
    pub(super) to: Host,
    /// Whether every segment is lost.
    pub(super) cut: bool,
    /// Raised at every cut. A segment sent in an earlier epoch than it arrives in was under way when a cut began.
    pub(super) epoch: u64,
    /// Added to every segment's latency.
    pub(super) extra_us: u64,
    /// Segments that a fault has lost or slowed.
    pub(super) troubled: u64,
    base_us: u64,
    stream: Stream,
}

impl Link {
    pub(super) fn new(seed: Seed, from: Host, to: Host) -> Self {
        let mut stream = seed.stream(&format!("link {from}>{to}"));
        let base_us = stream.random_range(BASE_US);
        Self { from, to, cut: false, epoch: 0, extra_us: 0, troubled: 0, base_us, stream }
    }

    /// The latency of the next segment.
    pub(super) fn latency_us(&mut self) -> u64 {
        self.troubled += u64::from(self.extra_us > 0);
        let bits = self.stream.next_u64();
        let jitter_us = bits % JITTER_US;
        let tail_us = if (bits >> 16).is_multiple_of(TAIL_EVERY) { (bits >> 32) % TAIL_US } else { 0 };
        self.least_latency_us() + jitter_us + tail_us
    }

    /// The latency of what is not worth a draw: acknowledgements.
    pub(super) fn least_latency_us(&self) -> u64 {
        self.base_us + self.extra_us
    }

    /// Whether a segment sent now is lost.
    pub(super) fn loses(&mut self) -> bool {
        self.troubled += u64::from(self.cut);
        self.cut
    }

    pub(super) fn set_cut(&mut self, cut: bool) {
        if cut && !self.cut {
            self.epoch += 1;
        }
        self.cut = cut;
    }
}
