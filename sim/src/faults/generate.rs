//! How a fault plan grows from a seed: by swarm. Each seed switches most kinds off and draws the number of the rest, so that
//! some runs meet one kind often and undisturbed.

use rand::{RngExt, seq::IndexedRandom};

use super::{Direction, Fault, Persistence, PlannedFault, REFUSALS, budget::within_budget};
use crate::seed::{Seed, Stream};

/// Every kind, for drawing.
const KINDS: [fn(&mut Stream, u32) -> Fault; 10] = [
    |draw, instances| Fault::Partition {
        instances: some(draw, instances),
        direction: *[Direction::Both, Direction::ToRedis, Direction::FromRedis].choose(draw).expect("three"),
    },
    |draw, instances| Fault::SlowLink {
        instances: some(draw, instances),
        // Half of them so that one round trip is quicker than a client's patience of 250 ms, and two are not, or so
        // that some replies come just in time and some just too late.
        extra_us: if draw.random() {
            draw.random_range(65_000..126_000)
        } else {
            *[1_000, 20_000, 100_000, 200_000, 600_000].choose(draw).expect("five")
        },
    },
    |draw, instances| Fault::ResetConnections { instances: some(draw, instances) },
    |draw, _| Fault::RedisCrash { data: if draw.random() { Persistence::Kept } else { Persistence::Lost } },
    |_, _| Fault::RedisPause,
    |_, _| Fault::ScriptFlush,
    |_, _| Fault::FlushAll,
    |draw, instances| Fault::InstanceCrash { instance: draw.random_range(0..instances), power_loss: draw.random() },
    |draw, _| Fault::RedisRefuses { with: *REFUSALS.choose(draw).expect("some") },
    |draw, instances| Fault::InstanceRestart { instance: draw.random_range(0..instances) },
];

/// The plan that grows from a seed, for a phase of faults of this length.
pub fn generate(seed: Seed, instances: u32, length_us: u64) -> Vec<PlannedFault> {
    let mut draw = seed.stream("faults");
    let mut plan: Vec<PlannedFault> = Vec::new();
    for kind in KINDS {
        // About three kinds a run, and now and then none at all.
        if !draw.random_bool(0.4) {
            continue;
        }
        for _ in 0..draw.random_range(1..=4) {
            let fault = kind(&mut draw, instances);
            let start_us = draw.random_range(0..length_us * 9 / 10);
            let lasts_us = if fault.is_momentary() { 0 } else { duration_us(&mut draw, length_us) };
            plan.push(PlannedFault { start_us, end_us: (start_us + lasts_us).min(length_us), fault });
        }
    }
    // Half of the momentary ones come soon after another fault begins or ends, when most is under way.
    let edges: Vec<_> = plan.iter().flat_map(|planned| [planned.start_us, planned.end_us]).collect();
    for planned in plan.iter_mut().filter(|planned| planned.fault.is_momentary()) {
        if draw.random() {
            let at_us = edges.choose(&mut draw).expect("its own, at least") + draw.random_range(0..300_000);
            (planned.start_us, planned.end_us) = (at_us.min(length_us), at_us.min(length_us));
        }
    }
    plan.sort_by_key(|planned| planned.start_us);
    within_budget(plan)
}

/// How wrong the instances' wall clocks are: in half of the seeds not at all, else each by up to a quarter of an hour.
pub fn clock_offsets_ms(seed: Seed, instances: u32) -> Vec<i64> {
    let mut draw = seed.stream("clocks");
    let wrong = draw.random();
    (0..instances).map(|_| if wrong { draw.random_range(-900_000..=900_000) } else { 0 }).collect()
}

/// From a blink to most of the phase: the logarithm is uniform, as no length is more typical than another.
fn duration_us(draw: &mut Stream, length_us: u64) -> u64 {
    #[expect(clippy::cast_precision_loss, reason = "a phase is minutes long: far below 2^52 microseconds")]
    let (shortest, longest) = (10_000_f64, length_us as f64);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 10^4 and length_us")]
    let drawn = (shortest * (longest / shortest).powf(draw.random::<f64>())) as u64;
    drawn
}

fn some(draw: &mut Stream, instances: u32) -> Vec<u32> {
    let mut some: Vec<_> = (0..instances).filter(|_| draw.random_bool(0.5)).collect();
    if some.is_empty() {
        some.push(draw.random_range(0..instances));
    }
    some
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    fn plans() -> impl Iterator<Item = Vec<PlannedFault>> {
        (0..2000).map(|seed| generate(Seed(seed), 4, 20_000_000))
    }

    #[test]
    fn every_kind_is_drawn_and_some_runs_have_no_fault() {
        let mut kinds = BTreeMap::<_, u32>::new();
        for planned in plans().flatten() {
            *kinds.entry(planned.fault.kind()).or_default() += 1;
        }
        assert_eq!(kinds.keys().copied().collect::<BTreeSet<_>>(), BTreeSet::from(KIND_NAMES));
        assert!(kinds.values().all(|count| *count > 50), "{kinds:?}");
        assert!(plans().any(|plan| plan.is_empty()));
    }
}
