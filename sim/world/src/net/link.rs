//! One direction between two hosts: how long a segment takes, and whether it gets through at all.

use rand::{Rng, RngExt};

use crate::{
    Host,
    seed::{Seed, Stream},
};

/// The least latency of a link, drawn once: a data centre's.
const BASE_US: std::ops::RangeInclusive<u64> = 80..=200;
/// Jitter of a segment, up to.
const JITTER_US: u64 = 50;
/// How much longer a segment takes that is held up, up to.
const TAIL_US: u64 = 4_000;
/// The longest that a segment takes on a link that no fault has touched, but for its place in a queue.
pub const SLOWEST_SEGMENT_US: u64 = *BASE_US.end() + JITTER_US + TAIL_US;
/// What goes round the bytes of a segment: headers of Ethernet, IPv4 and TCP with timestamps. Only bandwidth counts it.
const HEADER_BYTES: u64 = 66;

/// How long segments take, apart from queueing: a base, jitter, and a tail. All in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latency {
    /// The least.
    pub base_us: u64,
    /// Jitter of a segment: up to this much more, uniformly.
    pub jitter_us: u64,
    /// One segment in this many is held up; 0 for none.
    pub tail_every: u64,
    /// A segment that is held up takes up to this much longer, uniformly.
    pub tail_us: u64,
}

/// A direction between two hosts.
pub(super) struct NetLink {
    pub(super) from: Host,
    pub(super) to: Host,
    /// Raised at every cut. A segment sent in an earlier epoch than it arrives in was under way when a cut began.
    pub(super) epoch: u64,
    /// Added to every segment's latency.
    pub(super) extra_us: u64,
    /// As it was at first.
    own_latency: Latency,
    latency: Latency,
    /// Bytes a second that it carries; no limit if not given.
    bandwidth: Option<u64>,
    /// Of a thousand segments, so many are lost.
    pub(super) loss_per_mille: u32,
    /// Segments that a fault has lost or slowed.
    pub(super) troubled: u64,
    cut: bool,
    /// Whether a host at either end sleeps, which loses everything as a cut does.
    asleep: bool,
    /// When the last byte of what was sent so far has left, in nanoseconds.
    busy_until_ns: u64,
    latencies: Stream,
    /// Of its own, so that a run's latencies are the same with and without loss.
    losses: Stream,
}

impl NetLink {
    pub(super) fn new(seed: Seed, from: Host, to: Host) -> Self {
        let mut latencies = seed.stream(&format!("link {from}>{to}"));
        let base_us = latencies.random_range(BASE_US);
        let own_latency = Latency { base_us, jitter_us: JITTER_US, tail_every: 256, tail_us: TAIL_US };
        Self {
            from,
            to,
            epoch: 0,
            extra_us: 0,
            own_latency,
            latency: own_latency,
            bandwidth: None,
            loss_per_mille: 0,
            troubled: 0,
            cut: false,
            asleep: false,
            busy_until_ns: 0,
            latencies,
            losses: seed.stream(&format!("loss {from}>{to}")),
        }
    }

    /// Spreads latencies so, or as at first.
    pub(super) fn set_latency(&mut self, latency: Option<Latency>) {
        self.latency = latency.unwrap_or(self.own_latency);
    }

    /// Carries so many bytes a second from now on. What was queued holds up nothing that is sent later.
    pub(super) fn set_bandwidth(&mut self, bytes_per_s: Option<u64>) {
        self.bandwidth = bytes_per_s;
        self.busy_until_ns = 0;
    }

    /// When a segment of this many bytes arrives that is sent now; never, if it is lost.
    pub(super) fn carry(&mut self, now_us: u64, bytes: u64) -> Option<u64> {
        if self.is_cut() {
            self.troubled += 1;
            return None;
        }
        let leaves_us = self.leaves_us(now_us, bytes);
        let lost = self.loses();
        self.troubled += u64::from(self.is_slowed() || lost || leaves_us > now_us);
        (!lost).then(|| leaves_us + self.latency_us())
    }

    /// The same for what is not worth a draw of its latency and takes no bandwidth: acknowledgements, keepalives.
    pub(super) fn carry_ack(&mut self, now_us: u64) -> Option<u64> {
        if self.is_cut() || self.loses() {
            return None;
        }
        Some(now_us.max(self.busy_until_ns.div_ceil(1_000)) + self.latency.base_us + self.extra_us)
    }

    /// Begins or ends a cut; says whether one began.
    pub(super) fn set_cut(&mut self, cut: bool) -> bool {
        let was_cut = self.is_cut();
        self.cut = cut;
        self.begins_cut(was_cut)
    }

    /// A host at either end sleeps from now on, or none does; says whether a cut began with it.
    pub(super) fn set_asleep(&mut self, asleep: bool) -> bool {
        let was_cut = self.is_cut();
        self.asleep = asleep;
        self.begins_cut(was_cut)
    }

    fn begins_cut(&mut self, was_cut: bool) -> bool {
        let begins = self.is_cut() && !was_cut;
        self.epoch += u64::from(begins);
        begins
    }

    fn is_cut(&self) -> bool {
        self.cut || self.asleep
    }

    /// When the last of these bytes is on the wire, behind all that was sent before.
    fn leaves_us(&mut self, now_us: u64, bytes: u64) -> u64 {
        let Some(bandwidth) = self.bandwidth else {
            return now_us;
        };
        let takes_ns = (bytes + HEADER_BYTES) * 1_000_000_000 / bandwidth.max(1);
        self.busy_until_ns = self.busy_until_ns.max(now_us * 1_000) + takes_ns;
        self.busy_until_ns.div_ceil(1_000)
    }

    /// A link that loses everything, and has lost what was under way before it took another's place.
    pub(super) fn leading_nowhere(seed: Seed, from: Host, to: Host) -> Self {
        Self { cut: true, epoch: u64::MAX, ..Self::new(seed, from, to) }
    }

    /// The latency of the next segment.
    fn latency_us(&mut self) -> u64 {
        let Latency { base_us, jitter_us, tail_every, tail_us } = self.latency;
        let bits = self.latencies.next_u64();
        let jitter_us = bits.checked_rem(jitter_us).unwrap_or(0);
        let held_up = tail_every > 0 && (bits >> 16).is_multiple_of(tail_every);
        let tail_us = if held_up { (bits >> 32).checked_rem(tail_us).unwrap_or(0) } else { 0 };
        base_us + self.extra_us + jitter_us + tail_us
    }

    fn is_slowed(&self) -> bool {
        self.extra_us > 0 || self.latency != self.own_latency
    }

    fn loses(&mut self) -> bool {
        self.loss_per_mille > 0 && self.losses.random_range(0..1_000) < self.loss_per_mille
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::HUB;

    fn link() -> NetLink {
        NetLink::new(Seed(1), HUB, Host::Instance(1))
    }

    #[test]
    fn latencies_are_spread_as_asked() {
        let mut link = link();
        link.latency = Latency { base_us: 10_000, jitter_us: 4_000, tail_every: 10, tail_us: 500_000 };
        let mut drawn: Vec<_> = (0..10_000).filter_map(|_| link.carry(0, 1)).collect();
        drawn.sort_unstable();
        let (least, median, most) = (drawn[0], drawn[5_000], drawn[9_999]);
        assert!((10_000..10_010).contains(&least), "{least}");
        assert!((12_000..12_500).contains(&median), "{median}");
        assert!((450_000..514_000).contains(&most), "{most}");
        let held_up = drawn.iter().filter(|us| **us >= 14_000).count();
        assert!((850..1_100).contains(&held_up), "{held_up}");
    }

    #[test]
    fn a_slow_link_queues_what_it_has_to_carry() {
        let mut link = link();
        link.latency = Latency { base_us: 100, jitter_us: 0, tail_every: 0, tail_us: 0 };
        link.set_bandwidth(Some(100_000));
        // 934 bytes and their headers take 10 ms; the second waits for the first, the third for nobody.
        assert_eq!(link.carry(0, 934), Some(10_100));
        assert_eq!(link.carry(5_000, 934), Some(20_100));
        assert_eq!(link.carry_ack(5_000), Some(20_100));
        assert_eq!(link.carry(50_000, 934), Some(60_100));
        // Once it is wide again, nothing waits for what was queued.
        link.set_bandwidth(None);
        assert_eq!([link.carry(50_000, 934), link.carry_ack(50_000)], [Some(50_100), Some(50_100)]);
    }

    #[test]
    fn losses_take_no_draw_from_latencies() {
        let (mut lossy, mut whole) = (link(), link());
        lossy.loss_per_mille = 300;
        let sent: Vec<_> = (0..1_000).map(|_| lossy.carry(0, 1)).collect();
        let lost = sent.iter().filter(|arrival| arrival.is_none()).count();
        assert!((250..350).contains(&lost), "{lost}");
        let arrivals: Vec<_> = sent.into_iter().flatten().collect();
        assert!(arrivals.iter().all(|arrival| Some(*arrival) == whole.carry(0, 1)));
    }
}
