//! One run: from a scenario to a history. Here the world, the subject, the workload and the nemesis meet.
//!
//! Phases: set up; faults, beside the workload; heal, the rest of the workload without faults; quiesce, a bounded time
//! to come to rest, and the reason if not; final reads of every record on every instance.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use contact_cache::config::RedisUrl;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::Notify,
};
use xxhash_rust::xxh3::Xxh3;

use crate::{
    faults::Persistence,
    history::{Call, History, Phase, Stop, What},
    nemesis::Nemesis,
    recorder::Recorder,
    redis::{ClientId, Engine, Flow},
    scenario::{PlannedCall, Scenario},
    subject::{ContactCacheSubject, Settings, Status, Subject},
    world::{Host, SimEnv, SimStream, World},
};

/// The port of the simulated Redis.
const REDIS_PORT: u16 = 6379;

/// How long after the last fault the workload may still run, in simulated time: every call has a deadline, so this is
/// generous; what is not done then is a bug, and shows as calls that never returned.
const HEAL_US_MAX: u64 = 120_000_000;

/// How long the instances may take to come to rest after the last call (G9): the longest delay before a reconnect, an
/// attempt that runs into its timeout, the next delay, and the replay.
const QUIESCE_US_MAX: u64 = 30_000_000;

/// How often the runner looks whether a phase is over.
const LOOK_US: u64 = 10_000;

/// What a run left behind.
#[derive(Clone, Debug)]
pub struct Run {
    /// What happened.
    pub history: History,
    /// A hash of the history's bytes and of all that crossed the network or reached a disk.
    pub hash: u64,
    /// How long it lasted, in simulated microseconds.
    pub simulated_us: u64,
}

/// A run that ended in a panic: a broken invariant of the subject or of the bed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the run panicked: {message}")]
pub struct Panicked {
    message: String,
}

/// Runs a scenario, on a fresh thread: hash seeds of the standard library and madsim's state are per thread.
pub fn run(scenario: &Scenario) -> Result<Run, Panicked> {
    let scenario = scenario.clone();
    let run = std::thread::Builder::new().name(format!("{} {}", scenario.workload, scenario.seed)).spawn(move || {
        let runtime =
            madsim::runtime::Runtime::with_seed_and_config(scenario.scheduler_seed, madsim::Config::default());
        runtime.block_on(play(&scenario))
    });
    run.expect("the system has room for a thread").join().map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let message = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        Panicked { message: message.unwrap_or_else(|| "without a message".to_owned()) }
    })
}

async fn play(scenario: &Scenario) -> Run {
    let world = World::new(scenario.seed);
    let clock = world.clone();
    let recorder = Recorder::new(move || clock.now_us());
    let redis = RedisHost::default();
    let instances = Instances::new(scenario, &recorder);

    phase(&recorder, Phase::SetUp);
    redis.start(&world);
    for instance in 0..instances.count() {
        instances.start(&world, instance);
    }
    wait_until(&world, QUIESCE_US_MAX, || instances.all_open()).await;

    phase(&recorder, Phase::Faults);
    instances.open_gate(world.now_us());
    let nemesis = Nemesis { world: &world, redis: &redis, instances: &instances, recorder: &recorder };
    nemesis.play(&scenario.faults, world.now_us()).await;
    phase(&recorder, Phase::Heal);
    let last_us = scenario.operations.last().map_or(0, |planned| planned.at_us);
    wait_until(&world, last_us + HEAL_US_MAX, || instances.all_done()).await;

    phase(&recorder, Phase::Quiesce);
    wait_until(&world, QUIESCE_US_MAX, || instances.all_at_rest()).await;
    instances.note_states();
    phase(&recorder, Phase::FinalReads);
    instances.read_everything(scenario).await;

    let deadline_us = u64::try_from(instances.settings(0).op_deadline().as_micros()).expect("seconds");
    let history =
        recorder.finish(scenario.workload.name(), scenario.seed.0, scenario.prefixes.clone(), deadline_us);
    let hash = hash(&history, world.trace());
    let simulated_us = world.now_us();
    drop(instances);
    world.end().await;
    Run { history, hash, simulated_us }
}

fn phase(recorder: &Recorder, phase: Phase) {
    recorder.note(What::Phase { phase });
}

async fn wait_until(world: &World, limit_us: u64, mut over: impl FnMut() -> bool) {
    let end_us = world.now_us() + limit_us;
    while !over() && world.now_us() < end_us {
        world.sleep_us(LOOK_US).await;
    }
}

fn hash(history: &History, trace: u64) -> u64 {
    let mut hash = Xxh3::new();
    let mut line = String::new();
    for event in &history.events {
        line.clear();
        // A digit less in a time or a number is another run.
        let _ = writeln!(line, "{}", serde_json::to_string(event).expect("an event becomes JSON"));
        hash.update(line.as_bytes());
    }
    hash.update(&trace.to_le_bytes());
    hash.digest()
}

/// The simulated Redis: a process on a host of its own, and the data that outlives it or not.
#[derive(Clone, Default)]
pub struct RedisHost {
    engine: Arc<Mutex<Engine>>,
}

impl RedisHost {
    /// Starts the process.
    pub fn start(&self, world: &World) {
        let redis = self.clone();
        // The task ends with its process.
        drop(world.start(Host::Redis, |env| redis.serve(env)));
    }

    /// Kills the process; what the next one holds is decided now.
    pub fn crash(&self, world: &World, data: Persistence) {
        world.kill(Host::Redis, Stop::Killed);
        self.with_engine(|engine| {
            *engine = match data {
                Persistence::Kept => engine.restart_keeping_data(),
                Persistence::Lost => engine.restart_losing_data(),
            };
        });
    }

    /// Does something inside the server, as an operator would.
    pub fn with_engine<T>(&self, work: impl FnOnce(&mut Engine) -> T) -> T {
        work(&mut self.engine.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn serve(self, env: SimEnv) {
        use contact_cache::env::Env as _;
        let listener = env.network().listen(REDIS_PORT).expect("nothing else listens on this host");
        for number in 0.. {
            let Ok(stream) = listener.accept().await else { return };
            let client = ClientId(number);
            self.with_engine(|engine| engine.connect(client));
            let redis = self.clone();
            let server = env.clone();
            env.spawn(async move {
                redis.converse(&server, client, stream).await;
                redis.with_engine(|engine| engine.disconnect(client));
            });
        }
    }

    /// However a connection ends, it is the client's to notice.
    async fn converse(&self, env: &SimEnv, client: ClientId, mut stream: SimStream) {
        use contact_cache::env::Env as _;
        let (mut input, mut output) = (vec![0; 16 * 1024], Vec::new());
        while let Ok(length @ 1..) = stream.read(&mut input).await {
            output.clear();
            let flow = self.with_engine(|engine| engine.feed(client, &input[..length], env.wall_ms(), &mut output));
            if stream.write_all(&output).await.is_err() || flow == Flow::Close {
                return;
            }
        }
    }
}

/// The instances of the subject, and the work that is left for each.
#[derive(Clone)]
pub struct Instances {
    shared: Arc<Shared>,
}

struct Shared {
    recorder: Recorder,
    workers: u32,
    settings: Vec<Settings>,
    queues: Vec<Vec<PlannedCall>>,
    state: Mutex<State>,
    gate: Notify,
}

#[derive(Default)]
struct State {
    /// When the phase of faults began; no worker starts before.
    start_us: Option<u64>,
    instances: Vec<Instance>,
}

#[derive(Clone, Default)]
struct Instance {
    subject: Option<Arc<dyn Subject>>,
    /// Position in its queue.
    next: usize,
    running: usize,
    failed_to_open: Option<String>,
}

impl Instances {
    fn new(scenario: &Scenario, recorder: &Recorder) -> Self {
        let redis: RedisUrl = format!("redis://redis:{REDIS_PORT}").parse().expect("a constant");
        let directory = PathBuf::from("/var/lib/contact-cache");
        let settings = |prefix: &String| Settings {
            redis: redis.clone(),
            prefix: prefix.clone(),
            directory: directory.clone(),
        };
        let mut queues = vec![Vec::new(); scenario.prefixes.len()];
        for planned in &scenario.operations {
            queues[planned.instance as usize].push(planned.clone());
        }
        let instances = vec![Instance::default(); scenario.prefixes.len()];
        let shared = Shared {
            recorder: recorder.clone(),
            workers: scenario.workers,
            settings: scenario.prefixes.iter().map(settings).collect(),
            queues,
            state: Mutex::new(State { start_us: None, instances }),
            gate: Notify::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    fn count(&self) -> u32 {
        u32::try_from(self.shared.settings.len()).expect("a handful of instances")
    }

    fn settings(&self, instance: u32) -> &Settings {
        &self.shared.settings[instance as usize]
    }

    /// Starts the process of an instance: it opens its cache and goes on with its work.
    pub fn start(&self, world: &World, instance: u32) {
        let this = self.clone();
        let clock = world.clone();
        drop(world.start(instance, move |env| async move { this.live(clock, env, instance).await }));
    }

    /// Stops the process of an instance. What it was doing never returns.
    pub fn stop(&self, world: &World, instance: u32, how: Stop) {
        self.with(instance, |state| {
            state.subject = None;
            state.running = 0;
        });
        world.kill(instance, how);
    }

    async fn live(self, world: World, env: SimEnv, instance: u32) {
        use contact_cache::env::Env as _;
        let subject = match ContactCacheSubject::open(env.clone(), self.settings(instance)).await {
            Ok(subject) => Arc::new(subject),
            Err(error) => {
                self.with(instance, |state| state.failed_to_open = Some(error.to_string()));
                return;
            }
        };
        self.shared.recorder.note(What::Started { instance });
        self.with(instance, |state| state.subject = Some(subject.clone()));
        for _ in 0..self.shared.workers {
            env.spawn(self.clone().work(world.clone(), subject.clone(), instance));
        }
    }

    async fn work(self, world: World, subject: Arc<dyn Subject>, instance: u32) {
        let start_us = self.gate_opened().await;
        loop {
            let next = self.with(instance, |state| {
                state.next += 1;
                state.running += 1;
                self.shared.queues[instance as usize].get(state.next - 1)
            });
            let Some(planned) = next else {
                self.with(instance, |state| state.running -= 1);
                return;
            };
            world.sleep_us((start_us + planned.at_us).saturating_sub(world.now_us())).await;
            self.call(instance, &*subject, &planned.call).await;
            self.with(instance, |state| state.running -= 1);
        }
    }

    async fn call(&self, instance: u32, subject: &dyn Subject, call: &Call) {
        let op = self.shared.recorder.invoke(instance, call);
        let outcome = subject.call(call).await;
        self.shared.recorder.complete(instance, op, outcome);
        self.shared.recorder.state(instance, subject.status().state);
    }

    async fn gate_opened(&self) -> u64 {
        loop {
            let mut opened = std::pin::pin!(self.shared.gate.notified());
            opened.as_mut().enable();
            if let Some(start_us) = self.lock().start_us {
                return start_us;
            }
            opened.await;
        }
    }

    fn open_gate(&self, now_us: u64) {
        self.lock().start_us = Some(now_us);
        self.shared.gate.notify_waiters();
    }

    fn all_open(&self) -> bool {
        self.lock().instances.iter().all(|instance| instance.subject.is_some())
    }

    fn all_done(&self) -> bool {
        let state = self.lock();
        state.instances.iter().zip(&self.shared.queues).all(|(instance, queue)| {
            instance.running == 0 && instance.next >= queue.len()
        })
    }

    fn all_at_rest(&self) -> bool {
        let state = self.lock();
        state.instances.iter().all(|instance| status(instance).is_some_and(|status| status.is_at_rest()))
    }

    /// Notes how each instance is, and which is not at rest.
    fn note_states(&self) {
        let instances = self.lock().instances.clone();
        for (number, instance) in (0..).zip(&instances) {
            let reason = match status(instance) {
                Some(status) => {
                    self.shared.recorder.state(number, status.state.clone());
                    if status.is_at_rest() {
                        continue;
                    }
                    format!("{} with {} records pending", status.state, status.pending)
                }
                None => match &instance.failed_to_open {
                    Some(error) => format!("failed to open its cache: {error}"),
                    None => "still opening its cache".to_owned(),
                },
            };
            self.shared.recorder.note(What::Unquiet { instance: number, reason });
        }
    }

    async fn read_everything(&self, scenario: &Scenario) {
        let uids = uids_by_prefix(scenario);
        for (number, instance) in (0..).zip(self.lock().instances.clone()) {
            let Some(subject) = instance.subject else { continue };
            let prefix = &scenario.prefixes[number as usize];
            for uid in uids.get(prefix).into_iter().flatten() {
                self.call(number, &*subject, &Call::Get { uid: uid.clone() }).await;
            }
        }
    }

    fn with<T>(&self, instance: u32, work: impl FnOnce(&mut Instance) -> T) -> T {
        work(&mut self.lock().instances[instance as usize])
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn status(instance: &Instance) -> Option<Status> {
    instance.subject.as_ref().map(|subject| subject.status())
}

/// Every uid that anything is asked of, under each prefix.
pub(crate) fn uids_by_prefix(scenario: &Scenario) -> BTreeMap<String, BTreeSet<String>> {
    let mut uids = BTreeMap::<_, BTreeSet<_>>::new();
    for planned in &scenario.operations {
        let (Call::Upsert { uid, .. } | Call::Get { uid } | Call::Remove { uid }) = &planned.call else { continue };
        uids.entry(scenario.prefixes[planned.instance as usize].clone()).or_default().insert(uid.clone());
    }
    uids
}
