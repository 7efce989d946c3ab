//! Is a register linearizable, where the write behind every read is known? The zone test of Gibbons and Korach ("Testing
//! shared memories", SIAM Journal on Computing 26(4), 1997): no search, O(n log n).
//!
//! A write and the reads of its value stand together in every order that explains the reads. Let `ended` be the first
//! of them to return and `began` the last of them to be called. One value must stand before another where its `ended`
//! returned before the other's `began` was called. A value whose own `ended` returned before its `began` was called
//! holds the register in between: its zone is *forward*. The others can happen at one moment, between `began` and
//! `ended`: their zones are *backward*. There is an order if and only if no read returned before its write was called,
//! no two forward zones overlap, and no backward zone lies inside a forward one: then no two values must each stand
//! before the other, and longer circles come down to two (f < s' ≤ f'' < s ≤ f' < s'' ≤ f has no solution).
//!
//! A write that may never have happened is no obstacle: if nobody read it, leave it out; if somebody did, it happened,
//! at any time after its call, so let it return at the end of time.

use std::collections::BTreeMap;

use crate::span::{Act, Span};

/// What the test found. Operations are indices into the spans that it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Zoned {
    /// There is an order.
    Linearizable,
    /// There is none.
    Violated(ZoneViolation),
    /// Two writes write one value, or one writes the initial one: the test says nothing.
    Ambiguous {
        /// The later of the two.
        write: usize,
    },
}

/// Why there is no order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ZoneViolation {
    /// Nobody wrote what was read.
    Unwritten {
        /// Who read it.
        read: usize,
    },
    /// The read had returned before its write was called.
    Early {
        /// The read.
        read: usize,
        /// Its write.
        write: usize,
    },
    /// Two values hold the register at one time.
    Overlap {
        /// One of them.
        one: Zone,
        /// The other one.
        other: Zone,
    },
    /// All that is known of one value happened while another held the register.
    Inside {
        /// The other.
        forward: Zone,
        /// The one.
        backward: Zone,
    },
}

/// What is known of one value. None stands for the initial write, which was before everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    /// Who wrote it.
    pub write: Option<usize>,
    /// The first to return.
    pub ended: Option<usize>,
    /// The last to be called.
    pub began: Option<usize>,
}

impl ZoneViolation {
    /// The operations that show it: they alone have no order either. Ascending.
    pub fn ops(&self) -> Vec<usize> {
        let mut ops: Vec<usize> = match self {
            Self::Unwritten { read } => vec![*read],
            Self::Early { read, write } => vec![*read, *write],
            Self::Overlap { one, other } | Self::Inside { forward: one, backward: other } => {
                let both = [one, other].into_iter();
                both.flat_map(|zone| [zone.write, zone.ended, zone.began]).flatten().collect()
            }
        };
        ops.sort_unstable();
        ops.dedup();
        ops
    }
}

/// Tests a register that holds `initial` at first. Every value must be written at most once, and `initial` never.
pub fn test<V: Ord>(initial: &V, spans: &[Span<V>]) -> Zoned {
    let mut clusters = BTreeMap::from([(initial, Cluster::initial())]);
    for (index, span) in spans.iter().enumerate() {
        if let Act::Write(value) = &span.act
            && clusters.insert(value, Cluster::of_write(index, span)).is_some()
        {
            return Zoned::Ambiguous { write: index };
        }
    }
    for (index, span) in spans.iter().enumerate() {
        let Act::Read(value) = &span.act else { continue };
        let Some(cluster) = clusters.get_mut(value) else {
            return Zoned::Violated(ZoneViolation::Unwritten { read: index });
        };
        if let Some(write) = cluster.zone.write.filter(|&write| span.returned < spans[write].called) {
            return Zoned::Violated(ZoneViolation::Early { read: index, write });
        }
        cluster.add(index, span);
    }
    let crossed = crossed(clusters.into_values().collect());
    crossed.map_or(Zoned::Linearizable, Zoned::Violated)
}

/// A zone and its moments; none is before everything.
struct Cluster {
    zone: Zone,
    ended_at: Option<u64>,
    began_at: Option<u64>,
}

impl Cluster {
    fn initial() -> Self {
        Self { zone: Zone { write: None, ended: None, began: None }, ended_at: None, began_at: None }
    }

    fn of_write<V>(index: usize, span: &Span<V>) -> Self {
        let zone = Zone { write: Some(index), ended: Some(index), began: Some(index) };
        Self { zone, ended_at: Some(span.returned), began_at: Some(span.called) }
    }

    fn add<V>(&mut self, index: usize, span: &Span<V>) {
        if Some(span.returned) < self.ended_at {
            (self.zone.ended, self.ended_at) = (Some(index), Some(span.returned));
        }
        if Some(span.called) > self.began_at {
            (self.zone.began, self.began_at) = (Some(index), Some(span.called));
        }
    }
}

/// Two values that must each stand before the other, if there are such.
fn crossed(clusters: Vec<Cluster>) -> Option<ZoneViolation> {
    let (mut forward, backward): (Vec<_>, Vec<_>) = clusters.into_iter().partition(|it| it.ended_at < it.began_at);
    forward.sort_by_key(|cluster| cluster.ended_at);
    for pair in forward.windows(2) {
        if pair[1].ended_at < pair[0].began_at {
            return Some(ZoneViolation::Overlap { one: pair[0].zone.clone(), other: pair[1].zone.clone() });
        }
    }
    // Now they are apart, so that the last one to begin before a backward zone is the only one that may enclose it.
    backward.into_iter().find_map(|inner| {
        let before = forward.partition_point(|outer| outer.ended_at < inner.began_at);
        let outer = &forward[before.checked_sub(1)?];
        let forward = || outer.zone.clone();
        (inner.ended_at < outer.began_at).then(|| ZoneViolation::Inside { forward: forward(), backward: inner.zone })
    })
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fmt::Write as _};

    use rand::{RngExt, seq::SliceRandom};
    use serde_json::json;

    use super::*;
    use crate::{
        draw::{Stream, stream},
        foreign::{self, Linearizable, ModelName},
    };

    fn write(called: u64, returned: u64, value: u64) -> Span<u64> {
        Span { called, returned, act: Act::Write(value) }
    }

    fn read(called: u64, returned: u64, value: u64) -> Span<u64> {
        Span { called, returned, act: Act::Read(value) }
    }

    fn violation(spans: &[Span<u64>]) -> ZoneViolation {
        match test(&0, spans) {
            Zoned::Violated(violation) => violation,
            other => panic!("not violated: {other:?}"),
        }
    }

    #[test]
    fn operations_in_turn_and_operations_that_overlap_are_linearizable() {
        assert_eq!(test::<u64>(&0, &[]), Zoned::Linearizable);
        let in_turn = [read(0, 1, 0), write(2, 3, 1), read(4, 5, 1), write(6, 7, 2), read(8, 9, 2)];
        assert_eq!(test(&0, &in_turn), Zoned::Linearizable);
        let at_once = [write(0, 9, 1), write(1, 8, 2), read(2, 3, 0), read(4, 5, 2), read(6, 7, 1)];
        assert_eq!(test(&0, &at_once), Zoned::Linearizable);
    }

    #[test]
    fn a_read_of_what_nobody_wrote_is_named() {
        assert_eq!(violation(&[write(0, 1, 1), read(2, 3, 7)]), ZoneViolation::Unwritten { read: 1 });
    }

    #[test]
    fn a_read_before_its_write_is_named() {
        assert_eq!(violation(&[read(0, 1, 1), write(2, 3, 1)]), ZoneViolation::Early { read: 0, write: 1 });
    }

    #[test]
    fn a_value_read_before_and_after_another_is_named_with_what_shows_it() {
        let back_and_forth = [write(0, 1, 1), write(2, 9, 2), read(3, 4, 2), read(5, 6, 1), read(10, 11, 2)];
        let found = violation(&back_and_forth);
        assert!(matches!(found, ZoneViolation::Overlap { .. }), "{found:?}");
        assert_eq!(found.ops(), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn a_stale_read_is_named_with_the_write_that_it_missed() {
        let stale = [write(0, 1, 1), read(2, 3, 1), write(4, 5, 2), read(6, 7, 1)];
        let found = violation(&stale);
        assert!(matches!(found, ZoneViolation::Inside { .. }), "{found:?}");
        assert_eq!(found.ops(), [0, 2, 3]);
        assert_eq!(violation(&[write(1, 2, 1), read(3, 4, 0)]).ops(), [0, 1]);
    }

    #[test]
    fn moments_that_touch_are_in_either_order() {
        assert_eq!(test(&0, &[write(0, 5, 1), read(5, 5, 0), read(5, 5, 1)]), Zoned::Linearizable);
        assert_eq!(violation(&[write(0, 5, 1), read(6, 6, 0)]).ops(), [0, 1]);
    }

    #[test]
    fn a_value_that_two_wrote_is_not_judged() {
        assert_eq!(test(&0, &[write(0, 1, 1), write(2, 3, 1)]), Zoned::Ambiguous { write: 1 });
        assert_eq!(test(&0, &[write(0, 1, 0)]), Zoned::Ambiguous { write: 0 });
    }

    /// An atomic register, each of whose operations happens at a moment between its call and its return. Values are
    /// numbers from 1. Some moments are those of one event; an operation overlaps at most some `overlap` others.
    fn atomic(stream: &mut Stream, ops: u64, overlap: u64) -> Vec<Span<u64>> {
        let mut slots: Vec<(u64, usize)> = (0..ops * 3).zip(0..).map(|(slot, place)| (slot / 3, place)).collect();
        for (slot, _) in &mut slots {
            *slot += stream.random_range(0..=overlap);
        }
        slots.shuffle(stream);
        slots.sort_by_key(|&(slot, _)| slot);
        let mut times = vec![0; slots.len()];
        for (time, (_, place)) in (0..).zip(slots) {
            times[place] = time;
        }
        let mut by_moment: BTreeMap<u64, Span<u64>> = BTreeMap::new();
        for (number, times) in (1..).zip(times.chunks_exact_mut(3)) {
            times.sort_unstable();
            let act = if stream.random_bool(0.5) { Act::Write(number) } else { Act::Read(0) };
            let of_a_moment = stream.random_bool(0.1);
            let (called, returned) = if of_a_moment { (times[1], times[1]) } else { (times[0], times[2]) };
            by_moment.insert(times[1], Span { called, returned, act });
        }
        let mut now = 0;
        let mut spans: Vec<_> = by_moment.into_values().collect();
        for span in &mut spans {
            match &mut span.act {
                Act::Write(value) => now = *value,
                Act::Read(value) => *value = now,
            }
        }
        spans
    }

    /// Has some reads see another value, mostly one that was written.
    fn corrupted(stream: &mut Stream, mut spans: Vec<Span<u64>>) -> Vec<Span<u64>> {
        let reads: Vec<_> = (0..spans.len()).filter(|&index| matches!(spans[index].act, Act::Read(_))).collect();
        for read in reads.into_iter().take(stream.random_range(1..3)) {
            spans[read].act = Act::Read(stream.random_range(0..=spans.len() as u64));
        }
        spans
    }

    fn brute_force(spans: &[Span<u64>], now: u64) -> bool {
        spans.is_empty()
            || (0..spans.len()).filter(|&next| spans.iter().all(|it| spans[next].called <= it.returned)).any(|next| {
                let mut rest = spans.to_vec();
                match rest.remove(next).act {
                    Act::Write(value) => brute_force(&rest, value),
                    Act::Read(value) => value == now && brute_force(&rest, now),
                }
            })
    }

    /// Whether the search finds an order: registers with compare-and-set are never judged by their zones.
    fn has_order(spans: &[Span<u64>]) -> bool {
        let mut text = "{\"initial\":0}\n".to_owned();
        for (process, Span { called, returned, act }) in spans.iter().enumerate() {
            let (f, value) = match act {
                Act::Write(value) => ("write", value),
                Act::Read(value) => ("read", value),
            };
            let line = json!({"process": process, "f": f, "value": value, "call": called, "return": returned});
            let _ = writeln!(text, "{line}");
        }
        let history = foreign::read("it", text.as_bytes(), ModelName::CasRegister).expect("a history");
        history.verdict() == Linearizable::Pass
    }

    #[test]
    fn small_histories_are_judged_as_brute_force_judges_them_and_evidence_stands_alone() {
        let mut violated = [0; 4];
        for seed in 0..6_000 {
            let stream = &mut stream(seed, "zones");
            let (ops, overlap) = (stream.random_range(1..8), stream.random_range(0..6));
            let mut spans = atomic(stream, ops, overlap);
            if seed % 3 > 0 {
                spans = corrupted(stream, spans);
            }
            spans.shuffle(stream);
            let found = test(&0, &spans);
            let expected = brute_force(&spans, 0);
            assert_eq!(found == Zoned::Linearizable, expected, "seed {seed}: {spans:?} {found:?}");
            let Zoned::Violated(violation) = found else { continue };
            violated[match violation {
                ZoneViolation::Unwritten { .. } => 0,
                ZoneViolation::Early { .. } => 1,
                ZoneViolation::Overlap { .. } => 2,
                ZoneViolation::Inside { .. } => 3,
            }] += 1;
            let shown: Vec<_> = violation.ops().into_iter().map(|op| spans[op]).collect();
            assert!(!brute_force(&shown, 0), "seed {seed}: {violation:?} of {spans:?} shows nothing");
        }
        assert!(violated.iter().all(|&times| times > 50), "the test has lost its point: {violated:?}");
    }

    #[test]
    fn long_histories_are_judged_as_the_search_judges_them() {
        let mut violated = 0;
        for seed in 0..1_500 {
            let stream = &mut stream(seed, "zones at length");
            let (ops, overlap) = (stream.random_range(2..150), stream.random_range(0..8));
            let mut spans = atomic(stream, ops, overlap);
            if seed % 2 > 0 {
                spans = corrupted(stream, spans);
            }
            let found = test(&0, &spans);
            if spans.iter().any(|span| matches!(span.act, Act::Read(_))) {
                assert_eq!(found == Zoned::Linearizable, has_order(&spans), "seed {seed}: {spans:?} {found:?}");
            }
            violated += u32::from(found != Zoned::Linearizable);
        }
        assert!((100..1_400).contains(&violated), "{violated} of 1500 were violated: the test has lost its point");
    }
}
