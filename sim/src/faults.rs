//! The faults that a run can suffer, as data. A plan lies beside the workload and knows nothing of it; the nemesis
//! plays it, the history records it.
//!
//! A plan is drawn by swarm: each seed switches most kinds off and draws the number of the rest, so that some runs meet
//! one kind often and undisturbed. The plan stays within what the guarantees promise to survive:
//!
//! - A copy of a `Shared` write is written behind, so an instance that crashes may lose its copies of the last moments,
//!   while Redis has them. Redis therefore never loses its data after an instance has crashed, and no instance crashes
//!   within [`LOSS_MARGIN_US`] after Redis lost its data: every acknowledged write keeps a durable copy (G5).
//! - One fault of Redis's process at a time, and one crash of an instance at a time: a process that is down cannot crash.

use rand::{RngExt, seq::IndexedRandom};
use serde::{Deserialize, Serialize};

use crate::seed::{Seed, Stream};

/// How long after a loss of Redis's data no instance crashes: several times the interval within which copies are
/// written behind.
pub const LOSS_MARGIN_US: u64 = 2_000_000;

/// One fault of a plan, with its times.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedFault {
    /// When it begins, in simulated microseconds after the start of the phase of faults.
    pub start_us: u64,
    /// When it ends, likewise; a fault of a moment ends when it begins.
    pub end_us: u64,
    /// What it is.
    pub fault: Fault,
}

/// A kind of fault and its parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub enum Fault {
    /// Segments between these instances and Redis are lost in the direction given (TCP sends them again after heal).
    Partition {
        /// The instances cut off.
        instances: Vec<u32>,
        /// Which way is cut.
        direction: Direction,
    },
    /// Every segment between these instances and Redis takes this much longer.
    SlowLink {
        /// The instances concerned.
        instances: Vec<u32>,
        /// Added to each segment's latency, one way, in microseconds.
        extra_us: u64,
    },
    /// The connections between these instances and Redis are reset.
    ResetConnections {
        /// The instances concerned.
        instances: Vec<u32>,
    },
    /// The process of Redis is killed, and started again at the end of the fault.
    RedisCrash {
        /// What the restarted Redis holds.
        data: Persistence,
    },
    /// The process of Redis is stopped (SIGSTOP) and goes on at the end of the fault; connections stay open.
    RedisPause,
    /// Redis runs and answers commands with an error.
    RedisRefuses {
        /// Which, and to which commands.
        with: Refusal,
    },
    /// SCRIPT FLUSH: every cached script is forgotten.
    ScriptFlush,
    /// FLUSHALL: an operator deletes everything.
    FlushAll,
    /// An instance closes its cache and ends in order, and starts again at the end of the fault.
    InstanceRestart {
        /// Which.
        instance: u32,
    },
    /// An instance stops, and starts again at the end of the fault with what its disk kept.
    InstanceCrash {
        /// Which.
        instance: u32,
        /// Whether its host loses power with it.
        power_loss: bool,
    },
}

/// Which way a partition cuts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Nothing gets through.
    Both,
    /// Requests are lost, replies get through.
    ToRedis,
    /// Requests get through, replies are lost.
    FromRedis,
}

/// Why Redis answers with errors, by the code that these begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// It reads its data set: nothing works.
    Loading,
    /// It has become a replica: writes are refused.
    ReadOnly,
    /// Its memory is full: writes are refused.
    OutOfMemory,
    /// It cannot save to its disk: writes are refused.
    Misconfigured,
    /// A script runs for too long: nothing works.
    Busy,
    /// A password was set: nothing works.
    NoAuth,
    /// It is a replica without its master, and serves no stale data: nothing works.
    MasterDown,
    /// The user has lost the right to use any command.
    NoPermission,
    /// It takes no more clients: connections that stand go on.
    MaxClients,
}

/// Every refusal.
pub const REFUSALS: [Refusal; 9] = [
    Refusal::Loading,
    Refusal::ReadOnly,
    Refusal::OutOfMemory,
    Refusal::Misconfigured,
    Refusal::Busy,
    Refusal::NoAuth,
    Refusal::MasterDown,
    Refusal::NoPermission,
    Refusal::MaxClients,
];

/// What Redis holds after a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Persistence {
    /// Everything (append-only file, synced at every write).
    Kept,
    /// Nothing (no persistence).
    Lost,
}

impl Fault {
    /// The kind, as it is named in reports.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Partition { direction: Direction::Both, .. } => "partition",
            Self::Partition { direction: Direction::ToRedis, .. } => "partition of requests",
            Self::Partition { direction: Direction::FromRedis, .. } => "partition of replies",
            Self::SlowLink { .. } => "slow link",
            Self::ResetConnections { .. } => "connection reset",
            Self::RedisCrash { data: Persistence::Kept } => "Redis crash, data kept",
            Self::RedisCrash { data: Persistence::Lost } => "Redis crash, data lost",
            Self::RedisPause => "Redis pause",
            Self::RedisRefuses { .. } => "Redis refuses",
            Self::ScriptFlush => "script flush",
            Self::FlushAll => "FLUSHALL",
            Self::InstanceRestart { .. } => "instance restart",
            Self::InstanceCrash { power_loss: false, .. } => "instance kill",
            Self::InstanceCrash { power_loss: true, .. } => "instance power loss",
        }
    }
}

impl Fault {
    /// The instances that it names.
    pub fn instances(&self) -> &[u32] {
        match self {
            Self::Partition { instances, .. }
            | Self::SlowLink { instances, .. }
            | Self::ResetConnections { instances } => instances,
            Self::InstanceRestart { instance } | Self::InstanceCrash { instance, .. } => std::slice::from_ref(instance),
            Self::RedisCrash { .. }
            | Self::RedisPause
            | Self::RedisRefuses { .. }
            | Self::ScriptFlush
            | Self::FlushAll => &[],
        }
    }

    /// Whether Redis's data is gone with it.
    pub fn loses_data(&self) -> bool {
        match self {
            Self::RedisCrash { data: Persistence::Lost } | Self::FlushAll => true,
            Self::RedisCrash { data: Persistence::Kept }
            | Self::Partition { .. }
            | Self::SlowLink { .. }
            | Self::ResetConnections { .. }
            | Self::RedisPause
            | Self::RedisRefuses { .. }
            | Self::ScriptFlush
            | Self::InstanceRestart { .. }
            | Self::InstanceCrash { .. } => false,
        }
    }

    /// Of a moment, rather than with a beginning and an end.
    fn is_momentary(&self) -> bool {
        matches!(self, Self::ResetConnections { .. } | Self::ScriptFlush | Self::FlushAll)
    }

    /// What can suffer only one fault at a time.
    fn victim(&self) -> Option<Victim> {
        match self {
            Self::RedisCrash { .. }
            | Self::RedisPause
            | Self::RedisRefuses { .. }
            | Self::ScriptFlush
            | Self::FlushAll => Some(Victim::Redis),
            Self::InstanceRestart { instance } | Self::InstanceCrash { instance, .. } => {
                Some(Victim::Instance(*instance))
            }
            Self::Partition { .. } | Self::SlowLink { .. } | Self::ResetConnections { .. } => None,
        }
    }
}

#[derive(PartialEq, Eq)]
enum Victim {
    Redis,
    Instance(u32),
}

/// The kinds, as they are named in reports.
pub const KIND_NAMES: [&str; 14] = [
    "partition",
    "partition of requests",
    "partition of replies",
    "slow link",
    "connection reset",
    "Redis crash, data kept",
    "Redis crash, data lost",
    "Redis pause",
    "Redis refuses",
    "script flush",
    "FLUSHALL",
    "instance restart",
    "instance kill",
    "instance power loss",
];

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

/// Takes out what the header of this file rules out.
fn within_budget(plan: Vec<PlannedFault>) -> Vec<PlannedFault> {
    let last_loss_us = plan.iter().filter(|planned| planned.fault.loses_data()).map(|planned| planned.end_us).max();
    let first_safe_us = last_loss_us.map_or(0, |loss| loss + LOSS_MARGIN_US);
    let mut kept: Vec<PlannedFault> = Vec::new();
    for planned in plan {
        let too_early = matches!(planned.fault, Fault::InstanceCrash { .. }) && planned.start_us < first_safe_us;
        let overlaps = planned.fault.victim().is_some_and(|victim| {
            kept.iter().any(|other| other.fault.victim().as_ref() == Some(&victim) && other.end_us >= planned.start_us)
        });
        if !too_early && !overlaps {
            kept.push(planned);
        }
    }
    kept
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

    #[test]
    fn no_instance_crashes_before_or_soon_after_redis_loses_its_data() {
        for plan in plans() {
            let losses = plan.iter().filter(|planned| planned.fault.loses_data());
            let last_loss_us = losses.map(|planned| planned.end_us).max().unwrap_or(0);
            let crashes = plan.iter().filter(|planned| matches!(planned.fault, Fault::InstanceCrash { .. }));
            let first_crash_us = crashes.map(|planned| planned.start_us).min().unwrap_or(u64::MAX);
            assert!(last_loss_us == 0 || first_crash_us >= last_loss_us + LOSS_MARGIN_US, "{plan:?}");
        }
    }

    #[test]
    fn a_process_that_is_down_suffers_nothing_else() {
        for plan in plans() {
            for (index, planned) in plan.iter().enumerate() {
                for later in &plan[index + 1..] {
                    let same = planned.fault.victim().is_some() && planned.fault.victim() == later.fault.victim();
                    assert!(!same || later.start_us > planned.end_us, "{planned:?} {later:?}");
                }
            }
        }
    }
}
