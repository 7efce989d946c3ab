//! How a fault plan grows from a seed: by swarm. Each seed switches most kinds off and draws the number of the rest, so that
//! some runs meet one kind often and undisturbed.

use rand::{RngExt, seq::IndexedRandom};

use super::{
    BadWrite, CutDirection, DENIALS, DiskTrouble, Emphasis, Fault, NameAnswer, NetTrouble, OtherData, Persistence,
    PlannedFault, REFUSALS, Refusal, ServerLimit, budget, emphasis,
    frame::{PlanFrame, moment_us},
    stores,
};
use crate::seed::{Seed, Stream};

/// How a fault of a kind is drawn, for so many instances.
type DrawFault = fn(&mut Stream, u32) -> Fault;

/// The kinds that were first, for drawing.
const KINDS: [DrawFault; 10] = [
    |draw, instances| Fault::Partition {
        instances: some(draw, instances),
        direction: *[CutDirection::Both, CutDirection::ToRedis, CutDirection::FromRedis].choose(draw).expect("three"),
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

/// The kinds that came later. They draw from a stream of their own, so that plans of before are parts of those of today.
const LATER_KINDS: [DrawFault; 14] = [
    |draw, instances| Fault::CrashAtDisk {
        instance: draw.random_range(0..instances),
        // From the first operation of a commit to the middle of a rewrite.
        ops: *[0, 0, 1, 1, 2, 3, 5, 40].choose(draw).expect("eight"),
        power_loss: draw.random(),
    },
    |draw, _| Fault::RollingRestart { down_us: draw.random_range(1_000..300_000) },
    |draw, instances| Fault::InstancePause { instance: draw.random_range(0..instances) },
    |draw, instances| Fault::LockHeld { instance: draw.random_range(0..instances) },
    |draw, instances| Fault::CancelledCalls {
        instance: draw.random_range(0..instances),
        polls_max: draw.random_range(1..8),
    },
    bad_disk,
    bad_disk,
    |draw, instances| Fault::BitRot { instance: draw.random_range(0..instances), running: draw.random() },
    |draw, instances| Fault::BadWrites {
        instance: draw.random_range(0..instances),
        how: if draw.random() { BadWrite::Lost } else { BadWrite::Misdirected },
        writes: draw.random_range(1..3),
    },
    |draw, instances| Fault::ClockStep { instance: draw.random_range(0..instances), by_ms: step_ms(draw) },
    |draw, instances| Fault::ClockDrift {
        instance: draw.random_range(0..instances),
        ppm: draw.random_range(-100_000..=100_000),
    },
    |draw, _| Fault::RedisClockStep { by_ms: step_ms(draw) },
    |draw, _| Fault::Eviction { keys: draw.random_range(1..4), draw: draw.random() },
    |draw, _| Fault::RedisRollback { age_us: draw.random_range(100_000..5_000_000) },
];

/// The kinds of the network, from a stream of their own too.
const NETWORK_KINDS: [fn(&mut Stream, u32) -> Fault; 5] = [
    |draw, instances| Fault::BadNetwork {
        instances: some(draw, instances),
        trouble: match draw.random_range(0..5) {
            0 => NetTrouble::Loss { per_mille: *[5, 50, 200, 500].choose(draw).expect("four") },
            // A bulk of records takes seconds, or a call longer than a client's patience.
            1 => NetTrouble::Narrow { bytes_per_s: *[1_000, 10_000, 100_000].choose(draw).expect("three") },
            2 => NetTrouble::Jitter { jitter_us: *[5_000, 50_000, 300_000].choose(draw).expect("three") },
            3 => NetTrouble::ResetWithin { bytes: draw.random_range(0..1_000), of_requests: draw.random() },
            _ => NetTrouble::Short { per_mille: *[20, 300, 1_000].choose(draw).expect("three") },
        },
    },
    |draw, instances| Fault::BadNames {
        instances: some(draw, instances),
        delay_us: *[0, 20_000, 200_000, 5_000_000].choose(draw).expect("four"),
        answer: *[NameAnswer::Nothing, NameAnswer::Refusing, NameAnswer::Silent, NameAnswer::RefusingFirst]
            .choose(draw)
            .expect("four"),
    },
    |draw, instances| Fault::BadNames {
        instances: some(draw, instances),
        delay_us: *[20_000, 200_000, 5_000_000].choose(draw).expect("three"),
        answer: NameAnswer::Right,
    },
    |draw, _| Fault::RedisPowerLoss { data: if draw.random() { Persistence::Kept } else { Persistence::Lost } },
    |draw, _| Fault::RedisFailover {
        lag_us: if draw.random() { 0 } else { draw.random_range(1_000..2_000_000) },
        silent: draw.random(),
    },
];

/// Names whose first address is of no use, from a stream of their own.
const ADDRESS_KINDS: [DrawFault; 1] = [|draw, instances| Fault::BadNames {
    instances: some(draw, instances),
    delay_us: *[0, 20_000, 200_000].choose(draw).expect("three"),
    answer: if draw.random() { NameAnswer::SilentFirst } else { NameAnswer::MuteFirst },
}];

/// Machines that sleep, from a stream of their own: in any run, and more often where records have a time to live.
const SUSPEND_KINDS: [DrawFault; 1] =
    [|draw, instances| Fault::InstanceSuspend { instance: draw.random_range(0..instances) }];

/// Bits that flip on the way, from a stream of their own.
const FLIP_KINDS: [DrawFault; 1] = [|draw, instances| Fault::BadNetwork {
    instances: some(draw, instances),
    trouble: NetTrouble::Flips {
        of_requests: draw.random(),
        segments: *[1, 2, 5].choose(draw).expect("three"),
        draw: draw.random(),
    },
}];

/// Errors for one instance alone, from a stream of their own: all commands of its user are refused, or one of its connections leads
/// to a server in another state, as behind a proxy.
const ONE_KINDS: [DrawFault; 2] = [
    |draw, instances| Fault::RedisRefusesOne {
        instance: draw.random_range(0..instances),
        with: *[Refusal::NoAuth, Refusal::NoPermission].choose(draw).expect("two"),
        user: true,
    },
    |draw, instances| Fault::RedisRefusesOne {
        instance: draw.random_range(0..instances),
        with: **REFUSALS.iter().filter(is_of_one).collect::<Vec<_>>().choose(draw).expect("seven"),
        user: false,
    },
];

#[expect(clippy::trivially_copy_pass_by_ref, reason = "a filter asks for a reference")]
fn is_of_one(refusal: &&Refusal) -> bool {
    !matches!(refusal, Refusal::Busy | Refusal::MaxClients)
}

/// What an operator of Redis does to it while it runs, for runs with the emphasis on moments.
const SERVER_KINDS: [DrawFault; 7] = [
    |draw, _| Fault::ForeignKeys {
        spellings: draw.random_range(1..5),
        strings: draw.random_range(0..5),
        // More than a page of SCAN, in some runs.
        crowd: *[0, 10, 1_500].choose(draw).expect("three"),
    },
    |draw, _| Fault::RedisDenies { denied: *DENIALS.choose(draw).expect("six") },
    // From below any record to above most.
    |draw, _| Fault::RedisLimits {
        to: ServerLimit::BulkBytes { bytes: *[20, 40, 60, 2_000].choose(draw).expect("four") },
    },
    |draw, _| Fault::RedisLimits {
        to: ServerLimit::QueryBytes { bytes: *[30, 200, 1_500, 20_000].choose(draw).expect("four") },
    },
    |draw, _| Fault::RedisLimits { to: ServerLimit::Idle { seconds: draw.random_range(1..=3) } },
    |draw, instances| Fault::RedisLimits {
        to: ServerLimit::Clients { clients: draw.random_range(0..=u64::from(instances)) },
    },
    |draw, _| Fault::RedisBusyScript { silent_us: *[0, 100_000, 1_000_000, 5_000_000].choose(draw).expect("four") },
];

fn bad_disk(draw: &mut Stream, instances: u32) -> Fault {
    let instance = draw.random_range(0..instances);
    // A few errors, or nothing else until it ends.
    let times = *[1, 3, u32::MAX].choose(draw).expect("three");
    let trouble = match draw.random_range(0..7) {
        0 => DiskTrouble::Full,
        1 => DiskTrouble::ReadErrors { times },
        2 => DiskTrouble::WriteErrors { times },
        3 => DiskTrouble::SyncErrors { times },
        4 => DiskTrouble::ReadOnly,
        5 => DiskTrouble::SlowSync { extra_us: draw.random_range(5_000..600_000) },
        _ => DiskTrouble::Stalled,
    };
    Fault::BadDisk { instance, trouble }
}

/// From a correction to a wrong time zone's quarter of an hour, in either direction.
fn step_ms(draw: &mut Stream) -> i64 {
    let by_ms = *[20, 700, 5_000, 60_000, 900_000].choose(draw).expect("five");
    if draw.random() { by_ms } else { -by_ms }
}

/// The plan that grows from a seed.
pub fn generate(seed: Seed, frame: &PlanFrame) -> Vec<PlannedFault> {
    let PlanFrame { instances, length_us, .. } = *frame;
    let mut plan = Vec::new();
    // What strikes at a moment is not to be lost among what strikes at any time.
    let chance = if frame.emphasis == Emphasis::Moments { 0.1 } else { 0.4 };
    add(&mut plan, &mut seed.stream("faults"), (&KINDS, chance), (instances, length_us));
    // Two kinds a run, and none in half of the runs: what was tried before goes on being tried by itself.
    let mut later = seed.stream("faults of disks, clocks and processes");
    if later.random() {
        add(&mut plan, &mut later, (&LATER_KINDS, 0.15), (instances, length_us));
    }
    let mut network = seed.stream("faults of the network");
    if network.random() {
        add(&mut plan, &mut network, (&NETWORK_KINDS, 0.3), (instances, length_us));
    }
    add(&mut plan, &mut seed.stream("faults of several addresses"), (&ADDRESS_KINDS, 0.1), (instances, length_us));
    let chance = if frame.expires { 0.5 } else { 0.07 };
    add(&mut plan, &mut seed.stream("faults of machines that sleep"), (&SUSPEND_KINDS, chance), (instances, length_us));
    if frame.emphasis == Emphasis::Moments {
        add(&mut plan, &mut seed.stream("faults of an operator"), (&SERVER_KINDS, 0.1), (instances, length_us));
    }
    add(&mut plan, &mut seed.stream("faults of bits on the way"), (&FLIP_KINDS, 0.04), (instances, length_us));
    add(&mut plan, &mut seed.stream("errors for one instance"), (&ONE_KINDS, 0.02), (instances, length_us));
    swap(&mut plan, &mut seed.stream("another server"), length_us);
    stores::add(&mut plan, &mut seed.stream("faults of directories"), frame);
    emphasis::add(&mut plan, &mut seed.stream("faults of the workload"), frame);
    emphasis::company(&mut plan, &mut seed.stream("faults in company"), frame);
    plan.sort_by_key(|planned| planned.start_us);
    if !frame.beyond_budget {
        plan = budget::within(plan);
        if frame.forgets_copies {
            plan = budget::kept_by_redis(plan);
        }
    }
    if let Some(tombstone_ttl_us) = frame.tombstone_ttl_us {
        plan = budget::remembered(plan, tombstone_ttl_us);
    }
    let mut plan = budget::one_at_a_time(plan);
    let [copies, shared] = ["copies of running stores", "stores of two hosts"].map(|name| seed.stream(name));
    let is_wrong = |planned: &PlannedFault| matches!(planned.fault, Fault::ClockStep { .. } | Fault::ClockDrift { .. });
    let clocks_agree = clock_offsets_ms(seed, frame).iter().all(|ms| *ms == 0) && !plan.iter().any(is_wrong);
    stores::add_for_two(&mut plan, [&mut { copies }, &mut { shared }], frame, clocks_agree);
    plan
}

/// Another server behind the name of Redis, in one of eight plans that lose data anyhow. It comes after the first loss, since more
/// checks apply to reads before that.
fn swap(plan: &mut Vec<PlannedFault>, draw: &mut Stream, length_us: u64) {
    let first_us = plan.iter().filter(|planned| planned.fault.loses_data()).map(|planned| planned.end_us).min();
    let Some(first_us) = first_us.filter(|first_us| draw.random_bool(0.125) && *first_us < length_us) else { return };
    let holds = *[OtherData::Nothing, OtherData::Markers, OtherData::Clone].choose(draw).expect("three");
    let start_us = draw.random_range(first_us..length_us);
    let end_us = (start_us + duration_us(draw, length_us)).min(length_us);
    plan.push(PlannedFault { start_us, end_us, at: None, fault: Fault::RedisSwap { holds } });
}

/// Draws each kind with this chance, and then a few faults of it.
fn add(
    plan: &mut Vec<PlannedFault>,
    draw: &mut Stream,
    (kinds, chance): (&[DrawFault], f64),
    (instances, length_us): (u32, u64),
) {
    let begins = plan.len();
    for kind in kinds {
        if !draw.random_bool(chance) {
            continue;
        }
        for _ in 0..draw.random_range(1..=4) {
            let fault = kind(draw, instances);
            let start_us = draw.random_range(0..length_us * 9 / 10);
            let lasts_us = match fault {
                Fault::CrashAtDisk { .. } => moment_us(draw, length_us),
                _ if fault.is_momentary() => 0,
                _ => duration_us(draw, length_us),
            };
            plan.push(PlannedFault { start_us, end_us: (start_us + lasts_us).min(length_us), at: None, fault });
        }
    }
    // Half of the momentary ones come soon after another fault begins or ends, when most is under way.
    let edges: Vec<_> = plan.iter().flat_map(|planned| [planned.start_us, planned.end_us]).collect();
    for planned in plan[begins..].iter_mut().filter(|planned| planned.fault.is_momentary()) {
        if draw.random() {
            let at_us = edges.choose(draw).expect("its own, at least") + draw.random_range(0..300_000);
            (planned.start_us, planned.end_us) = (at_us.min(length_us), at_us.min(length_us));
        }
    }
}

/// How far ahead a clock can be: by hours; beyond 2262, where nanoseconds since 1970 pass 63 bits; beyond 6429, where a stamp has as
/// many years left as have gone by; beyond 9999, where years have five digits.
const FAR_CLOCKS_MS: [i64; 6] = [10_800_000, 10_800_000, 10_800_000, 237 * YEAR_MS, 4_500 * YEAR_MS, 8_000 * YEAR_MS];
const YEAR_MS: i64 = 365 * 24 * 3_600_000;

/// How wrong the instances' wall clocks are: in half of the seeds not at all, else each by up to a quarter of an hour. Not
/// at all where removals are soon forgotten. Of plans with any emphasis, in one of eight a clock is far ahead.
pub fn clock_offsets_ms(seed: Seed, frame: &PlanFrame) -> Vec<i64> {
    let mut draw = seed.stream("clocks");
    let wrong = draw.random::<bool>() && frame.tombstone_ttl_us.is_none();
    let draw_ms = |_| if wrong { draw.random_range(-900_000..=900_000) } else { 0 };
    let mut offsets_ms: Vec<_> = (0..frame.instances).map(draw_ms).collect();
    let mut far = seed.stream("a far clock");
    if frame.emphasis == Emphasis::Any && far.random_bool(0.125) {
        offsets_ms[0] += *FAR_CLOCKS_MS.choose(&mut far).expect("six");
    }
    offsets_ms
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

    use super::{super::KIND_NAMES, *};

    fn plans() -> impl Iterator<Item = Vec<PlannedFault>> {
        let frame = PlanFrame { instances: 4, length_us: 20_000_000, ..PlanFrame::default() };
        let moments = PlanFrame { emphasis: Emphasis::Moments, ..frame };
        (0..4000).flat_map(move |seed| [generate(Seed(seed), &frame), generate(Seed(seed), &moments)])
    }

    #[test]
    fn every_kind_is_drawn_and_some_runs_have_no_fault() {
        let mut kinds = BTreeMap::<_, u32>::new();
        for planned in plans().flatten() {
            *kinds.entry(planned.fault.kind()).or_default() += 1;
        }
        assert_eq!(kinds.keys().copied().collect::<BTreeSet<_>>(), BTreeSet::from(KIND_NAMES));
        assert!(kinds.values().all(|count| *count > 30), "{kinds:?}");
        assert!(plans().any(|plan| plan.is_empty()));
    }
}
