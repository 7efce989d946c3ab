//! One run: a scenario is played in a world of its own, and its history is judged.
//!
//! Phases: servers start and instances open; calls are made beside faults; everything heals, and what was begun may end; instances
//! come to rest; the last calls are made; instances close. Every wait is bounded, so that a run always ends.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fmt::Write as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use madsim::task::AbortHandle;
use seedbed_env::Env as _;
use seedbed_world::{Host, SimEnv, Stop, World, isolated, panic_text, seed::Seed};
use serde::{Deserialize, Serialize};

use crate::{
    bed::Bed,
    checkers::{COMES_BACK, Judged, NO_PANIC, REDIS_SUFFICES, RUN_ENDS, Verdict},
    faults::{Processes, Stage},
    history::{Event, History, Log, Phase, What},
    redis_host::RedisHost,
    scenario::ScenarioOf,
    system::{Instance, OpOf, Outcome, Planned, RetOf, System as _, Workload},
};

/// The longest wait for instances to open, to answer or to come to rest, in simulated microseconds. TCP alone may take two
/// minutes to find out that a connection works again.
const WAIT_US_MAX: u64 = 300_000_000;
/// How often a wait looks.
const LOOK_US: u64 = 1_000;
/// How long an instance waits before it is opened again after an error.
const OPEN_AGAIN: Duration = Duration::from_millis(100);
/// How long an instance may take to close.
const CLOSE_US_MAX: u64 = 30_000_000;

/// A run that was played and judged.
pub struct Run<W: Workload> {
    /// What happened.
    pub history: History<W>,
    /// What each checker found, by the name of its guarantee.
    pub verdicts: Vec<(String, Judged)>,
    /// The digest of all that crossed the network or reached a disk, with its times.
    pub trace: u64,
    pub(crate) counts: RunCounts,
}

/// How much happened in a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunCounts {
    /// Calls that were made.
    pub(crate) calls: u64,
    /// By kind of fault: how often it came, and how often it had an effect.
    pub(crate) faults: BTreeMap<String, (u64, u64)>,
    /// The coverage points that it met.
    pub(crate) points: Vec<String>,
}

impl RunCounts {
    pub(crate) fn of<W: Workload>(bed: &Bed<W>, history: &History<W>) -> Self {
        let (mut counts, mut kinds) = (Self { points: bed.met(history), ..Self::default() }, BTreeMap::new());
        for event in &history.events {
            match &event.what {
                What::Called { .. } => counts.calls += 1,
                What::FaultBegan { fault, planned, .. } => {
                    counts.faults.entry(planned.kind.clone()).or_default().0 += 1;
                    kinds.insert(*fault, &planned.kind);
                }
                What::FaultEnded { fault, effects } if *effects > 0 => {
                    if let Some(kind) = kinds.get(fault) {
                        counts.faults.entry((*kind).clone()).or_default().1 += 1;
                    }
                }
                _ => {}
            }
        }
        counts
    }
}

impl<W: Workload> Run<W> {
    /// The first guarantee that did not hold: its name, what it did not hold for, and what happened.
    pub fn violation(&self) -> Option<(&str, &str, &str)> {
        self.verdicts.iter().find_map(|(name, judged)| match &judged.verdict {
            Verdict::Violated { object, what } => Some((name.as_str(), object.as_str(), what.as_str())),
            Verdict::Held | Verdict::Unknown { .. } => None,
        })
    }

    /// The first guarantee of which it cannot be said whether it held, and why.
    pub fn unknown(&self) -> Option<(&str, &str)> {
        self.verdicts.iter().find_map(|(name, judged)| match &judged.verdict {
            Verdict::Unknown { why } => Some((name.as_str(), why.as_str())),
            Verdict::Held | Verdict::Violated { .. } => None,
        })
    }

    /// The history and the verdicts, for people. Where the process ended without a history, the plan takes its place.
    pub(crate) fn text_of(&self, scenario: &ScenarioOf<W>) -> String {
        if self.history.events.is_empty() {
            return format!("The process ended without a history. What was planned:\n{scenario}{}", self.text());
        }
        self.text()
    }

    /// The history and the verdicts, for people.
    pub fn text(&self) -> String {
        let mut text = self.history.to_string();
        for (name, judged) in &self.verdicts {
            let _ = match &judged.verdict {
                Verdict::Held => writeln!(text, "held      {name}: {} judged", judged.judged),
                Verdict::Violated { what, .. } => writeln!(text, "VIOLATED  {name}: {}", what.trim_end()),
                Verdict::Unknown { why } => writeln!(text, "UNKNOWN   {name}: {why}"),
            };
        }
        text
    }
}

impl<W: Workload> Bed<W> {
    /// Plays and judges the run of a seed.
    pub fn run(&self, seed: Seed) -> Run<W> {
        self.play(&self.scenario(seed))
    }

    /// Plays and judges a scenario. The same scenario is the same run, byte for byte.
    ///
    /// # Panics
    /// If the scenario cannot be played on this bed; see [`Bed::check_scenario`]. A panic of the system is a violation instead.
    pub fn play(&self, scenario: &ScenarioOf<W>) -> Run<W> {
        if let Err(wrong) = self.check_scenario(scenario) {
            panic!("the scenario cannot be played: {wrong}");
        }
        let pen = Pen::default();
        let (bed, scenario, its_pen) = (self.clone(), scenario.clone(), pen.clone());
        let (name, scheduler_seed) = (format!("seed {}", scenario.seed), scenario.scheduler_seed);
        let played = isolated(name, scheduler_seed, |runtime| runtime.block_on(play(bed, scenario, its_pen)));
        let history = Log { events: std::mem::take(&mut *pen.events()) };
        let counts = RunCounts::of(self, &history);
        let (trace, no_panic, others) = match played {
            Ok(trace) => (trace, Judged::held(1), self.verdicts(&history)),
            // The history has no end, so the other guarantees cannot be judged by it.
            Err(panic) => (0, Judged::violated("", panic_text(&*panic)), Vec::new()),
        };
        let always = [(RUN_ENDS, Judged::held(1)), (NO_PANIC, no_panic)].map(|(name, its)| (name.to_owned(), its));
        Run { history, verdicts: always.into_iter().chain(others).collect(), trace, counts }
    }

    /// The verdicts on the history of a run that did not panic.
    pub(crate) fn verdicts(&self, history: &History<W>) -> Vec<(String, Judged)> {
        let suffices = redis_suffices(history);
        if suffices.verdict != Verdict::Held {
            // A real server would have answered otherwise, and the system would have gone on otherwise.
            return vec![(REDIS_SUFFICES.to_owned(), suffices)];
        }
        let of_redis = self.has_redis.then(|| (REDIS_SUFFICES.to_owned(), suffices));
        let given = self.checkers.iter().map(|checker| (checker.name().to_owned(), checker.check(history)));
        of_redis.into_iter().chain([(COMES_BACK.to_owned(), comes_back(history))]).chain(given).collect()
    }
}

/// Whether the simulated Redis had every command that it was asked for.
fn redis_suffices<Op, Ret>(history: &Log<Op, Ret>) -> Judged {
    let missing = history.events.iter().find_map(|event| match &event.what {
        What::MissingCommands { names } => Some(names.join(", ")),
        _ => None,
    });
    let Some(missing) = missing else { return Judged::held(1) };
    let why = format!(
        "the simulated Redis has no {missing}, which redis-server 7.0.15 has; it answered that the command is unknown, so nothing \
         that followed can be judged: use other commands, or try the client on a real server"
    );
    Judged { verdict: Verdict::Unknown { why }, judged: 0, excused: BTreeMap::new() }
}

/// Whether after everything has healed the instances were open, came to rest, answered and closed.
fn comes_back<Op: std::fmt::Debug, Ret>(history: &Log<Op, Ret>) -> Judged {
    let mut open = BTreeMap::new();
    for event in &history.events {
        let (instance, what) = match &event.what {
            What::Opened { instance, .. } => (*instance, None),
            What::OpenFailed { instance, error } => (*instance, Some(format!("it could not be opened: {error}"))),
            What::NotAtRest { instance, why } => (*instance, Some(format!("it did not come to rest: {why}"))),
            What::Stopped { instance, error: Some(error), .. } => (*instance, Some(format!("closing failed: {error}"))),
            _ => continue,
        };
        open.insert(instance, what);
    }
    if let Some((instance, Some(what))) = open.iter().find(|(_, what)| what.is_some()) {
        return Judged::violated(format!("instance {instance}"), format!("instance {instance}: {what}"));
    }
    let (mut judged, mut cut_off) = (0, 0);
    for call in history.calls() {
        if call.returned.is_some() {
            judged += 1;
        } else if history.is_cut_off(&call) {
            cut_off += 1;
        } else {
            let what = format!("call {} of instance {} never returned: {:?}", call.number, call.instance, call.op);
            return Judged::violated(format!("call {}", call.number), what);
        }
    }
    Judged::held(judged).excusing("process ended before", cut_off)
}

/// Writes the history. Clones write the same one.
struct Pen<Op, Ret>(Arc<Mutex<Vec<Event<Op, Ret>>>>);

impl<Op, Ret> Clone for Pen<Op, Ret> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<Op, Ret> Default for Pen<Op, Ret> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<Op, Ret> Pen<Op, Ret> {
    fn note(&self, world: &World, what: What<Op, Ret>) {
        self.events().push(Event { at_us: world.now_us(), what });
    }

    fn events(&self) -> MutexGuard<'_, Vec<Event<Op, Ret>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An instance that is open.
type OpenSystem<W> = Arc<Mutex<Option<Arc<<W as Workload>::System>>>>;

/// The processes of a run.
struct RunInstances<W: Workload> {
    world: World,
    bed: Bed<W>,
    scenario: ScenarioOf<W>,
    pen: Pen<OpOf<W>, RetOf<W>>,
    slots: Vec<OpenSystem<W>>,
    /// Calls that are under way, by instance.
    running: Vec<Arc<Mutex<u32>>>,
    made: RefCell<u32>,
    /// Tasks that wait for a process to reach the operation at which it ends.
    ambushes: RefCell<BTreeMap<Host, AbortHandle>>,
}

/// Plays a scenario. Answers the digest of the run.
async fn play<W: Workload>(bed: Bed<W>, scenario: ScenarioOf<W>, pen: Pen<OpOf<W>, RetOf<W>>) -> u64 {
    let world = World::new(Seed(scenario.seed));
    let redis = bed.has_redis.then(RedisHost::default);
    let count = scenario.plan.instances;
    let instances = RunInstances {
        slots: (0..count).map(|_| OpenSystem::<W>::default()).collect(),
        running: (0..count).map(|_| Arc::default()).collect(),
        made: RefCell::new(0),
        ambushes: RefCell::default(),
        world: world.clone(),
        bed,
        scenario,
        pen,
    };
    instances.note(What::Phase(Phase::SetUp));
    let mut all: Vec<Host> = (0..count).map(Host::Instance).collect();
    all.extend(instances.bed.servers.iter().map(|server| server.host));
    if let Some(redis) = &redis {
        redis.start(&world);
        all.push(redis.host());
    }
    for host in &all {
        instances.start_if_ours(*host);
    }
    instances.wait(|| instances.are_open()).await;
    instances.note(What::Phase(Phase::Faults));
    let stage = Stage { world: &world, redis: redis.as_ref(), all: &all, processes: &instances };
    instances.play_both(&stage).await;
    instances.note(What::Phase(Phase::Heal));
    instances.wait(|| instances.are_open() && instances.have_answered()).await;
    instances.note_closed();
    instances.rest().await;
    instances.note(What::Phase(Phase::Last));
    let last_us = world.now_us();
    for call in &instances.scenario.plan.last {
        let left_us = (last_us + call.at_us).saturating_sub(world.now_us());
        if left_us > 0 {
            world.sleep_us(left_us).await;
        }
        instances.call(call);
        instances.wait(|| instances.have_answered()).await;
    }
    instances.note(What::Phase(Phase::End));
    instances.close().await;
    if let Some(redis) = &redis {
        let missing: Vec<_> = redis.with_engine(|engine| engine.missing_commands().map(str::to_uppercase).collect());
        if !missing.is_empty() {
            instances.note(What::MissingCommands { names: missing });
        }
    }
    let trace = world.trace();
    world.end().await;
    trace
}

/// Something that is due: a call of the plan, or an edge of a fault. Of what is due at one time, ends come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum DueStep {
    End(usize),
    Begin(usize),
    Call(usize),
}

impl<W: Workload> RunInstances<W> {
    fn note(&self, what: What<OpOf<W>, RetOf<W>>) {
        self.pen.note(&self.world, what);
    }

    /// Makes the calls of the plan, and plays its faults.
    async fn play_both(&self, stage: &Stage<'_>) {
        let (calls, faults) = (&self.scenario.plan.calls, &self.scenario.faults);
        let mut due: Vec<_> =
            calls.iter().enumerate().map(|(index, call)| (call.at_us, DueStep::Call(index))).collect();
        for (index, fault) in faults.iter().enumerate() {
            due.push((fault.start_us, DueStep::Begin(index)));
            due.push((fault.end_us, DueStep::End(index)));
        }
        // A fault of a moment has to begin before it ends.
        due.sort_by_key(|(at_us, due)| match due {
            DueStep::End(index) if faults[*index].start_us == *at_us => (*at_us, DueStep::Call(usize::MAX)),
            due => (*at_us, *due),
        });
        let base_us = self.world.now_us();
        let mut before = vec![0; faults.len()];
        for (at_us, due) in due {
            let left_us = (base_us + at_us).saturating_sub(self.world.now_us());
            if left_us > 0 {
                self.world.sleep_us(left_us).await;
            }
            match due {
                DueStep::Call(index) => self.call(&calls[index]),
                DueStep::Begin(index) => before[index] = self.begin(index, stage),
                DueStep::End(index) => self.end(index, before[index], stage),
            }
        }
    }

    /// Begins a fault. Answers what it had changed before.
    fn begin(&self, index: usize, stage: &Stage<'_>) -> u64 {
        let planned = &self.scenario.faults[index];
        let kind = self.bed.faults.kind(&planned.kind).expect("the scenario was checked");
        let held_up = match kind.victims(&planned.parameters) {
            Ok(victims) if kind.stops_processes() => victims.iter().filter_map(|name| name.parse().ok()).collect(),
            _ => Vec::new(),
        };
        let before = kind.effects(&planned.parameters, stage, false);
        self.note(What::FaultBegan { fault: number(index), planned: planned.clone(), held_up });
        kind.begin(&planned.parameters, stage);
        before
    }

    fn end(&self, index: usize, before: u64, stage: &Stage<'_>) {
        let planned = &self.scenario.faults[index];
        let kind = self.bed.faults.kind(&planned.kind).expect("the scenario was checked");
        let effects = kind.effects(&planned.parameters, stage, true).saturating_sub(before);
        self.note(What::FaultEnded { fault: number(index), effects });
        kind.end(&planned.parameters, stage);
    }

    /// Makes a call, in the process of its instance.
    fn call(&self, planned: &Planned<OpOf<W>>) {
        let (instance, op) = (planned.instance, planned.op.clone());
        let index = instance as usize;
        let system = lock(&self.slots[index]).clone();
        let Some(system) = system else { return self.note(What::Skipped { instance, op }) };
        let call = self.made.replace_with(|made| *made + 1);
        self.note(What::Called { call, instance, op: op.clone() });
        let (pen, world, running) = (self.pen.clone(), self.world.clone(), self.running[index].clone());
        *lock(&running) += 1;
        let env = self.world.env(instance);
        let its_env = env.clone();
        env.spawn(async move {
            let outcome: Outcome<RetOf<W>> = system.call(&op).await;
            // A process that has just reached the operation at which it ends tells nobody.
            if !its_env.is_alive() {
                return;
            }
            pen.note(&world, What::Returned { call, outcome });
            *lock(&running) -= 1;
        });
    }

    /// What ends the process on a host.
    fn ending(&self, host: Host, how: Stop) -> impl FnOnce() + Send + 'static {
        let (world, pen) = (self.world.clone(), self.pen.clone());
        let ours = match host {
            Host::Instance(number) => {
                let index = number as usize;
                Some((number, self.slots[index].clone(), self.running[index].clone()))
            }
            Host::Server { .. } => None,
        };
        move || {
            world.kill(host, how);
            if let Some((instance, slot, running)) = ours {
                *lock(&slot) = None;
                *lock(&running) = 0;
                pen.note(&world, What::Stopped { instance, how, error: None });
            }
        }
    }

    /// Starts the process of an instance, or of a server of the bed. The process of Redis is Redis's.
    fn start_if_ours(&self, host: Host) {
        if let Host::Instance(number) = host {
            return self.start_instance(number);
        }
        if let Some(server) = self.bed.servers.iter().find(|server| server.host == host) {
            // It ends with its process.
            drop(self.world.start(host, |env| (server.serve)(env)));
        }
    }

    fn start_instance(&self, number: u32) {
        let env = self.world.boot(number);
        let (of, start, tuning) = (self.scenario.plan.instances, env.start(), self.scenario.plan.tuning.clone());
        let at = Instance { number, of, start, tuning };
        let (workload, pen, world) = (self.bed.workload.clone(), self.pen.clone(), self.world.clone());
        let slot = self.slots[number as usize].clone();
        let its_env = env.clone();
        env.spawn(async move { open(&*workload, its_env, &at, &slot, |what| pen.note(&world, what)).await });
    }

    fn are_open(&self) -> bool {
        self.slots.iter().all(|slot| lock(slot).is_some())
    }

    /// Notes the instances that are still not open.
    fn note_closed(&self) {
        for (instance, slot) in (0_u32..).zip(&self.slots) {
            if lock(slot).is_none() {
                let error = format!("it is still not open {} s after everything has healed", WAIT_US_MAX / 1_000_000);
                self.note(What::OpenFailed { instance, error });
            }
        }
    }

    fn have_answered(&self) -> bool {
        self.running.iter().all(|running| *lock(running) == 0)
    }

    /// Waits until something is so, for as long as a run waits for anything.
    async fn wait(&self, is_so: impl Fn() -> bool) {
        let until_us = self.world.now_us() + WAIT_US_MAX;
        while !is_so() && self.world.now_us() < until_us {
            self.world.sleep_us(LOOK_US).await;
        }
    }

    /// Waits until every instance that is open has nothing left to do, and notes those that do not come to rest.
    async fn rest(&self) {
        let left = || {
            let left = (0_u32..).zip(&self.slots).filter_map(|(instance, slot)| {
                let why = lock(slot).as_ref()?.at_rest().err()?;
                Some((instance, why))
            });
            left.collect::<Vec<_>>()
        };
        self.wait(|| left().is_empty()).await;
        for (instance, why) in left() {
            self.note(What::NotAtRest { instance, why });
        }
    }

    /// Closes every instance in order, and ends its process.
    async fn close(&self) {
        for (instance, slot) in (0_u32..).zip(&self.slots) {
            let Some(system) = lock(slot).take() else { continue };
            let closed = Arc::new(Mutex::new(None));
            let noted = closed.clone();
            self.world.env(instance).spawn(async move {
                let outcome = system.close().await;
                *lock(&noted) = Some(outcome);
            });
            let until_us = self.world.now_us() + CLOSE_US_MAX;
            while lock(&closed).is_none() && self.world.now_us() < until_us {
                self.world.sleep_us(LOOK_US).await;
            }
            let outcome = lock(&closed).take();
            let late = || format!("it was not closed after {} s", CLOSE_US_MAX / 1_000_000);
            let error = outcome.map_or_else(|| Some(late()), Result::err);
            self.world.kill(instance, Stop::Closed);
            self.note(What::Stopped { instance, how: Stop::Closed, error });
        }
    }
}

impl<W: Workload> Processes for RunInstances<W> {
    fn stop(&self, host: Host, how: Stop) {
        self.ending(host, how)();
    }

    fn start(&self, host: Host) {
        self.start_if_ours(host);
    }

    fn stop_at_disk_op(&self, host: Host, ops: u64, how: Stop) {
        let (reached, ending) = (self.world.crash_after_disk_ops(host, ops), self.ending(host, how));
        let waits = madsim::task::spawn(async move {
            reached.await;
            ending();
        });
        self.ambushes.borrow_mut().insert(host, waits.abort_handle());
    }

    fn end_ambush(&self, host: Host, how: Stop) {
        if let Some(waits) = self.ambushes.borrow_mut().remove(&host) {
            waits.abort();
        }
        self.world.cancel_crash(host);
        // It reached the operation at this very moment.
        if self.world.is_running(host) && !self.world.env(host).is_alive() {
            self.stop(host, how);
        }
    }
}

/// Opens the system in its process, again and again until it is open.
async fn open<W: Workload>(
    workload: &W,
    env: SimEnv,
    at: &Instance<W::Tuning>,
    slot: &OpenSystem<W>,
    note: impl Fn(What<OpOf<W>, RetOf<W>>),
) {
    let instance = at.number;
    let mut last = None;
    loop {
        let opened = workload.open(env.clone(), at).await;
        if !env.is_alive() {
            return;
        }
        match opened {
            Ok(system) => {
                *lock(slot) = Some(Arc::new(system));
                return note(What::Opened { instance, start: at.start });
            }
            // The same error is noted once.
            Err(error) if last.as_ref() != Some(&error) => {
                last = Some(error.clone());
                note(What::OpenFailed { instance, error });
            }
            Err(_) => {}
        }
        env.sleep(OPEN_AGAIN).await;
    }
}

fn lock<T>(cell: &Mutex<T>) -> MutexGuard<'_, T> {
    cell.lock().unwrap_or_else(PoisonError::into_inner)
}

fn number(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}
