//! One run: from a scenario to a history. Here the world, the subject, the workload and the nemesis meet.
//!
//! Phases: set up; faults, beside the workload; heal, the rest of the workload without faults; quiesce, a bounded time
//! to come to rest, and the reason if not; final reads of every record on every instance. Then what Redis holds is noted,
//! every instance is closed in order, what its store holds is noted, and every store is opened once more.

use xxhash_rust::xxh3::Xxh3;

use crate::{
    contents,
    history::{History, Phase, What},
    holdings,
    instances::Instances,
    marks::{self, Reached},
    nemesis::{Nemesis, start_instance},
    recorder::Recorder,
    redis_host::{PORT, RedisHost},
    scenario::Scenario,
    subject::{Settings, Tuning},
    world::{
        World,
        clock::WALL_BASE_MS,
        isolated,
        moments::Moments,
        net::{Capture, SLOWEST_SEGMENT_US},
        panic_text,
    },
};

/// How long after the last fault the workload may still run, in simulated time: every call has a deadline, so this is
/// generous; what is not done then is a bug, and shows as calls that never returned.
const HEAL_US_MAX: u64 = 120_000_000;

/// How long the instances may take to come to rest after the last call (G9): the longest delay before a reconnect, an
/// attempt that runs into its timeout, the next delay, and the replay.
const QUIESCE_US_MAX: u64 = 30_000_000;

/// How long they have at least. An instance looks for lost data once in every [`contact_cache::Config::probe_interval`]
/// (a second), and until then believes to be at rest: final reads that came earlier would judge what nobody promised.
const QUIESCE_US_MIN: u64 = 3_000_000;

/// Between the instances that read everything, in simulated time. A large record is read over a connection of its own: opened by
/// ten instances within a few milliseconds, which no application asks for, those would pass for a thundering herd (G9).
const READERS_APART_US: u64 = 20_000;

/// How long after the last read what an instance writes behind is on its disk, and copies are within their limit: several
/// times [`contact_cache::Config::flush_interval`].
const WRITTEN_BEHIND_US: u64 = 500_000;

/// How long reading everything may take: an hour of simulated time, in which a client without deadlines may wait for the
/// kernel to give up each of its connections.
const READS_US_MAX: u64 = 3_600_000_000;

/// How often the runner looks whether the instances have come to rest.
const LOOK_US: u64 = 10_000;

/// What a run left behind.
#[derive(Clone, Debug)]
pub struct FinishedRun {
    /// What happened.
    pub history: History,
    /// A hash of the history's bytes and of all that crossed the network or reached a disk.
    pub hash: u64,
    /// How long it lasted, in simulated microseconds.
    pub simulated_us: u64,
    /// How often it reached each mark.
    pub marks: Reached,
}

/// A run that ended in a panic: a broken invariant of the subject or of the bed.
#[derive(Clone, Debug, thiserror::Error, serde::Serialize, serde::Deserialize)]
#[error("the run panicked: {message}")]
pub struct Panicked {
    message: String,
}

/// Runs a scenario, on a fresh thread: hash seeds of the standard library and madsim's state are per thread.
pub fn run(scenario: &Scenario) -> Result<FinishedRun, Panicked> {
    start(scenario, None)
}

/// The same run, which notes all that it sends in `capture`, up to a panic if it ends in one.
pub fn run_recorded(scenario: &Scenario, capture: &Capture) -> Result<FinishedRun, Panicked> {
    start(scenario, Some(capture.clone()))
}

fn start(scenario: &Scenario, capture: Option<Capture>) -> Result<FinishedRun, Panicked> {
    let scenario = scenario.clone();
    let name = format!("{} {}", scenario.workload, scenario.seed);
    let run = isolated(name, scenario.scheduler_seed, move |runtime| {
        let moments = Moments::default();
        let metrics = marks::MarkRecorder::watched(&moments);
        let mut run = metrics::with_local_recorder(&metrics, || runtime.block_on(play(&scenario, moments, capture)));
        run.marks = marks::reached(&metrics, &run.history);
        run
    });
    run.map_err(|panic| Panicked { message: panic_text(&*panic) })
}

async fn play(scenario: &Scenario, moments: Moments, capture: Option<Capture>) -> FinishedRun {
    let world = World::watched(scenario.seed, moments);
    if let Some(capture) = capture {
        world.net().record(&capture);
    }
    let clock = world.clone();
    let recorder = Recorder::new(move || clock.now_us());
    let redis = RedisHost::default();
    let instances = Instances::new(scenario, settings(scenario), &recorder);

    phase(&recorder, Phase::SetUp);
    redis.start(&world);
    for (instance, offset_ms) in (0..instances.count()).zip(&scenario.clock_offsets_ms) {
        world.set_offset_ms(instance, *offset_ms);
        start_instance(&world, &instances, instance);
    }
    world.within_us(QUIESCE_US_MAX, instances.all_open()).await;

    phase(&recorder, Phase::Faults);
    instances.open_gate();
    let nemesis = Nemesis { world: &world, redis: &redis, instances: &instances, recorder: &recorder };
    nemesis.play(&scenario.faults, world.now_us()).await;
    phase(&recorder, Phase::Heal);
    let last_us = scenario.operations.last().map_or(0, |planned| planned.at_us);
    world.within_us(last_us + HEAL_US_MAX, instances.all_done()).await;

    phase(&recorder, Phase::Quiesce);
    world.sleep_us(QUIESCE_US_MIN).await;
    until_at_rest(&world, &instances).await;
    let Tuning { record_ttl_ms, tombstone_ttl_ms, .. } = &scenario.tuning;
    let forgets = record_ttl_ms.is_some() || tombstone_ttl_ms.is_some();
    if forgets || scenario.faults.iter().any(|planned| planned.fault.loses_records()) {
        // R5: a record that Redis lost alone, a removal that it has forgotten in its time, or what expired there although its
        // life goes on with a write that came late, comes back when it is read by an instance that holds it, and no sooner.
        read_everything(&world, &instances, scenario).await;
        until_at_rest(&world, &instances).await;
    }
    instances.note_states();
    phase(&recorder, Phase::FinalReads);
    read_everything(&world, &instances, scenario).await;

    contents::note_redis(&world, &redis, &instances, &recorder);
    world.sleep_us(WRITTEN_BEHIND_US).await;
    (0..instances.count()).for_each(|instance| holdings::note(&world, &instances, &recorder, instance, false));
    for instance in 0..instances.count() {
        nemesis.stop_in_order(instance).await;
        contents::note_store(&world, &redis, &instances, &recorder, instance);
    }
    holdings::note_attempts(&world, &instances, &recorder);
    // What a crash left in a store that was closed since shows when that is opened again (G10).
    (0..instances.count()).for_each(|instance| nemesis.start(instance));
    world.within_us(QUIESCE_US_MAX, instances.all_open()).await;
    // Each tells its state once it is open (G9).
    world.sleep_us(LOOK_US).await;

    let deadline_us = u64::try_from(instances.settings(0).op_deadline().as_micros()).expect("seconds");
    let mut history = recorder.finish(scenario, deadline_us);
    history.header.round_trip_us = Some(2 * SLOWEST_SEGMENT_US);
    history.header.starts_at_ms = Some(WALL_BASE_MS);
    let hash = hash(&history, world.trace());
    let simulated_us = world.now_us();
    drop(instances);
    world.end().await;
    FinishedRun { history, hash, simulated_us, marks: Reached::default() }
}

fn settings(scenario: &Scenario) -> Vec<Settings> {
    let redis = format!("redis://redis:{PORT}");
    let settings = |prefix: &String| {
        let settings = Settings::new(&redis, prefix, "/var/lib/contact-cache");
        Settings { tuning: scenario.tuning.clone(), ..settings }
    };
    scenario.prefixes.iter().map(settings).collect()
}

fn phase(recorder: &Recorder, phase: Phase) {
    recorder.note(What::Phase { phase });
}

/// A client may wait for ever.
async fn read_everything(world: &World, instances: &Instances, scenario: &Scenario) {
    let pause = async || world.sleep_us(READERS_APART_US).await;
    if world.within_us(READS_US_MAX, instances.read_everything(scenario, pause)).await.is_none() {
        instances.note_calls();
    }
}

async fn until_at_rest(world: &World, instances: &Instances) {
    let end_us = world.now_us() + QUIESCE_US_MAX;
    while !instances.all_at_rest() && world.now_us() < end_us {
        world.sleep_us(LOOK_US).await;
    }
}

fn hash(history: &History, trace: u64) -> u64 {
    let mut hash = Xxh3::new();
    let mut line = Vec::new();
    for event in &history.events {
        line.clear();
        serde_json::to_writer(&mut line, event).expect("an event becomes JSON");
        hash.update(&line);
    }
    hash.update(&trace.to_le_bytes());
    hash.digest()
}

#[cfg(test)]
mod moments;
#[cfg(test)]
mod operator;
