//! The instances of the subject, and the work that is left for each: the same in a simulated world and on real servers.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::Poll,
    time::Duration,
};

use contact_cache::env::Env;
use tokio::sync::Notify;

use crate::{
    history::{Call, Holding, RecordName, Resource, Stop, StoreReport, StoredEntry, StoredKey, What},
    recorder::Recorder,
    redis::Dumped,
    scenario::{PlannedCall, Scenario},
    subject::{Limits, Pending, Settings, Status, Subject, SubjectKind},
    world::held::Count,
};

/// All instances of a run. Clones are the same.
#[derive(Clone)]
pub struct Instances {
    shared: Arc<Shared>,
}

struct Shared {
    recorder: Recorder,
    subject: SubjectKind,
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
    /// How often it has ended: a worker of an earlier life counts no more, though its process may live on for a moment.
    life: u64,
    running: usize,
    /// Calls under way.
    calls: u64,
    /// Callers drop their calls after at most so many polls.
    polls_max: Option<u64>,
    /// Calls that were dropped so, ever.
    cancelled: u64,
    failed_to_open: Option<String>,
    /// Each worker of its process holds it; and how many there were.
    workers: (Weak<()>, u64),
    /// The most bytes that were pending after any of its calls since it was started.
    pending_bytes_most: u64,
    /// What it last said of its store.
    reported: Option<StoreReport>,
}

/// How long whoever runs an instance waits before it is started again after its cache could not be opened.
const OPEN_AGAIN: Duration = Duration::from_millis(300);

impl Instances {
    /// None of them lives yet. `settings` has those of each.
    pub fn new(scenario: &Scenario, settings: Vec<Settings>, recorder: &Recorder) -> Self {
        let mut queues = vec![Vec::new(); scenario.prefixes.len()];
        for planned in &scenario.operations {
            queues[planned.instance as usize].push(planned.clone());
        }
        let instances = vec![Instance::default(); scenario.prefixes.len()];
        let shared = Shared {
            recorder: recorder.clone(),
            subject: scenario.subject,
            workers: scenario.workers,
            settings,
            queues,
            state: Mutex::new(State { start_us: None, instances }),
            gate: Notify::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// How many there are.
    pub fn count(&self) -> u32 {
        u32::try_from(self.shared.settings.len()).expect("a handful of instances")
    }

    /// The settings of one.
    pub fn settings(&self, instance: u32) -> &Settings {
        &self.shared.settings[instance as usize]
    }

    /// The file that holds the local store of one.
    pub fn store(&self, instance: u32) -> PathBuf {
        self.shared.subject.store(self.settings(instance))
    }

    /// The records behind a key of Redis.
    pub fn records_of_key(&self, key: &[u8]) -> Vec<RecordName> {
        self.shared.subject.records_of_key(key, &self.prefixes())
    }

    /// A key of Redis with what the bed makes of it, at this time of Redis's clock.
    pub fn stored_key(&self, key: Vec<u8>, dumped: Dumped, now_ms: u64) -> StoredKey {
        self.shared.subject.stored_key(key, dumped, &self.prefixes(), now_ms)
    }

    /// What the file of an instance's local store holds, at this time of Redis's clock.
    pub fn stored_entries(&self, instance: u32, file: &[u8], now_ms: u64) -> Vec<StoredEntry> {
        self.shared.subject.stored_entries(file, self.settings(instance), now_ms)
    }

    /// Each prefix of the run, once.
    fn prefixes(&self) -> Vec<&str> {
        let prefixes: BTreeSet<_> = self.shared.settings.iter().map(|settings| settings.prefix.as_str()).collect();
        prefixes.into_iter().collect()
    }

    /// The life of an instance's process: it opens its cache, however often that takes, and goes on with its work. What it
    /// does when it is no longer `alive` is no part of the history.
    pub async fn live<E: Env>(self, env: E, instance: u32, alive: impl Fn() -> bool + Clone + Send + Sync + 'static) {
        let subject = loop {
            match self.shared.subject.open(env.clone(), self.settings(instance)).await {
                Ok(subject) => break subject,
                Err(error) if alive() => {
                    self.shared.recorder.note(What::OpenFailed { instance, error: error.clone() });
                    self.with(instance, |state| state.failed_to_open = Some(error));
                    env.sleep(OPEN_AGAIN).await;
                }
                Err(_) => return,
            }
        };
        if !alive() {
            return;
        }
        let report = subject.status().store;
        if let Some(report) = report.clone() {
            self.shared.recorder.note(What::StoreReport { instance, report });
        }
        self.shared.recorder.note(What::Started { instance });
        let life = self.with(instance, |state| {
            state.subject = Some(subject.clone());
            state.failed_to_open = None;
            state.reported = report;
            state.life
        });
        let token = Arc::new(());
        self.with(instance, |state| state.workers = (Arc::downgrade(&token), u64::from(self.shared.workers)));
        for _ in 0..self.shared.workers {
            let work = self.clone().work(env.clone(), subject.clone(), (instance, life), alive.clone());
            let token = token.clone();
            env.spawn(async move {
                work.await;
                drop(token);
            });
        }
    }

    /// An instance ends in order: it takes no more calls, those under way return, and its cache is closed. If that fails,
    /// or its cache has not opened yet, it ends as a killed one does.
    pub async fn close(&self, instance: u32) -> Stop {
        let Some(subject) = self.with(instance, |state| state.subject.clone()) else {
            self.stopped(instance, Stop::Killed);
            return Stop::Killed;
        };
        self.report(instance);
        self.with(instance, |state| state.subject = None);
        let how = if subject.close().await.is_ok() { Stop::Closed } else { Stop::Killed };
        self.stopped(instance, how);
        how
    }

    /// Notes what an instance says of its store, if it is another thing than before.
    fn report(&self, instance: u32) {
        let Some(report) = self.with(instance, |state| status(state)).and_then(|status| status.store) else { return };
        if self.with(instance, |state| state.reported.replace(report.clone())).as_ref() != Some(&report) {
            self.shared.recorder.note(What::StoreReport { instance, report });
        }
    }

    /// The process of an instance is gone. What it was doing never returns.
    pub fn stopped(&self, instance: u32, how: Stop) {
        self.report(instance);
        self.with(instance, |state| {
            state.subject = None;
            state.life += 1;
            (state.running, state.calls, state.pending_bytes_most) = (0, 0, 0);
        });
        self.shared.recorder.note(What::Stopped { instance, how });
    }

    async fn work<E: Env>(
        self,
        env: E,
        subject: Arc<dyn Subject>,
        (instance, life): (u32, u64),
        alive: impl Fn() -> bool + Sync,
    ) {
        let start_us = self.gate_opened().await;
        loop {
            let next = self.with(instance, |state| {
                if state.life != life {
                    return None;
                }
                state.next += 1;
                state.running += 1;
                self.shared.queues[instance as usize].get(state.next - 1)
            });
            let ends = |state: &mut Instance| state.running -= usize::from(state.life == life);
            let Some(planned) = next else {
                self.with(instance, ends);
                return;
            };
            let left_us = (start_us + planned.at_us).saturating_sub(self.shared.recorder.now_us());
            env.sleep(Duration::from_micros(left_us)).await;
            // An instance that is being closed takes no calls.
            if self.with(instance, |state| state.subject.is_some()) {
                self.call(instance, &*subject, &planned.call, &alive).await;
            }
            self.with(instance, ends);
        }
    }

    async fn call(&self, instance: u32, subject: &dyn Subject, call: &Arc<Call>, alive: &(dyn Fn() -> bool + Sync)) {
        let op = self.shared.recorder.invoke(instance, call);
        let polls_max = self.with(instance, |state| {
            state.calls += 1;
            state.polls_max
        });
        let outcome = match polls_max {
            None => Some(subject.call(call).await),
            Some(polls_max) => at_most(subject.call(call), 1 + op % polls_max).await,
        };
        if !alive() {
            return;
        }
        let was_cancelled = outcome.is_none();
        match outcome {
            Some(outcome) => self.shared.recorder.complete(instance, op, outcome),
            None => self.shared.recorder.note(What::Cancelled { instance, op }),
        }
        self.with(instance, |state| {
            state.calls = state.calls.saturating_sub(1);
            state.cancelled += u64::from(was_cancelled);
        });
        let status = subject.status();
        let pending = status.pending_bytes.map_or(0, |(bytes, _)| bytes);
        self.with(instance, |state| state.pending_bytes_most = state.pending_bytes_most.max(pending));
        self.shared.recorder.state(instance, status.state);
    }

    /// From now on callers of the instance drop their calls after at most so many polls, or have patience.
    pub fn set_patience(&self, instance: u32, polls_max: Option<u64>) {
        self.with(instance, |state| state.polls_max = polls_max);
    }

    /// How many calls of it were dropped by their callers so far.
    pub fn cancelled(&self, instance: u32) -> u64 {
        self.with(instance, |state| state.cancelled)
    }

    /// How many calls of it are under way.
    pub fn calls(&self, instance: u32) -> u64 {
        self.with(instance, |state| state.calls)
    }

    /// How many calls of it should have begun by now and have not returned.
    pub fn due(&self, instance: u32) -> u64 {
        let now_us = self.shared.recorder.now_us();
        let state = self.lock();
        let (start_us, queue) = (state.start_us.unwrap_or(now_us), &self.shared.queues[instance as usize]);
        let Instance { next, running, .. } = state.instances[instance as usize];
        // Workers take calls in the order of the queue and have at most the last few in hand.
        let in_hand = queue.get(next.saturating_sub(running)..next.min(queue.len())).unwrap_or_default();
        in_hand.iter().filter(|planned| start_us + planned.at_us <= now_us).count() as u64
    }

    /// The bed's own tasks in its process.
    pub fn workers(&self, instance: u32) -> Count {
        self.with(instance, |state| Count { now: state.workers.0.strong_count() as u64, most: state.workers.1 })
    }

    /// What an instance promises never to pass.
    pub fn limits(&self) -> Limits {
        self.shared.subject.limits()
    }

    /// What an instance says of the bytes that it keeps.
    pub fn bytes(&self, instance: u32) -> Vec<Holding> {
        let Some(status) = self.with(instance, |state| status(state)) else { return Vec::new() };
        let pending_most = self.with(instance, |state| state.pending_bytes_most);
        // Copies may pass their limit until they are written behind, so only what they come down to counts.
        let each = [
            (Resource::PendingBytes, status.pending_bytes, pending_most),
            (Resource::CopiesBytes, status.copies_bytes, 0),
        ];
        let told = each.into_iter().filter_map(|(resource, told, most)| Some((resource, told?, most)));
        told.map(|(resource, (now, limit), most)| Holding { resource, now, most: most.max(now), limit: Some(limit) })
            .collect()
    }

    /// Whether its store takes no writes until it is opened again: whoever runs it restarts it then.
    pub fn needs_restart(&self, instance: u32) -> bool {
        self.with(instance, |state| status(state)).is_some_and(|status| status.store_error.is_some())
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

    /// The phase of faults begins: workers start.
    pub fn open_gate(&self) {
        self.lock().start_us = Some(self.shared.recorder.now_us());
        self.shared.gate.notify_waiters();
    }

    /// Whether each has opened its cache.
    pub fn all_open(&self) -> bool {
        self.lock().instances.iter().all(|instance| instance.subject.is_some())
    }

    /// Whether nothing is left to do.
    pub fn all_done(&self) -> bool {
        let state = self.lock();
        state
            .instances
            .iter()
            .zip(&self.shared.queues)
            .all(|(instance, queue)| instance.running == 0 && instance.next >= queue.len())
    }

    /// Whether each is connected and has nothing pending.
    pub fn all_at_rest(&self) -> bool {
        let state = self.lock();
        state.instances.iter().all(|instance| status(instance).is_some_and(|status| status.is_at_rest()))
    }

    /// Notes how each instance is, and which is not at rest.
    pub fn note_states(&self) {
        let instances = self.lock().instances.clone();
        for (number, instance) in (0..).zip(&instances) {
            self.report(number);
            let reason = match status(instance) {
                Some(status) => {
                    self.shared.recorder.state(number, status.state.clone());
                    if status.is_at_rest() {
                        continue;
                    }
                    let stopped =
                        status.store_error.map_or(String::new(), |error| format!(", its store stopped: {error}"));
                    format!("{} with {} records pending{stopped}", status.state, status.pending)
                }
                None => match &instance.failed_to_open {
                    Some(error) => format!("failed to open its cache: {error}"),
                    None => "still opening its cache".to_owned(),
                },
            };
            self.shared.recorder.note(What::Unquiet { instance: number, reason });
        }
    }

    /// Notes which instances have calls that do not return.
    pub fn note_calls(&self) {
        let instances = self.lock().instances.clone();
        for (number, instance) in (0..).zip(instances).filter(|(_, instance)| instance.calls > 0) {
            let reason = format!("{} calls never returned", instance.calls);
            self.shared.recorder.note(What::Unquiet { instance: number, reason });
        }
    }

    /// Reads every record on every instance, one after the other.
    pub async fn read_everything(&self, scenario: &Scenario) {
        let records = scenario.records();
        let instances = self.lock().instances.clone();
        for (number, instance) in (0..).zip(instances) {
            let Some(subject) = instance.subject else { continue };
            let prefix = &scenario.prefixes[number as usize];
            for RecordName { uid, .. } in records.iter().filter(|record| record.prefix == *prefix) {
                self.call(number, &*subject, &Arc::new(Call::Get { uid: uid.clone() }), &|| true).await;
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

/// What a call answers, unless its caller drops it before, after so many polls.
async fn at_most<T>(mut call: Pending<'_, T>, polls: u64) -> Option<T> {
    let mut left = polls;
    std::future::poll_fn(|context| {
        if let Poll::Ready(answer) = call.as_mut().poll(context) {
            return Poll::Ready(Some(answer));
        }
        left -= 1;
        if left == 0 { Poll::Ready(None) } else { Poll::Pending }
    })
    .await
}

fn status(instance: &Instance) -> Option<Status> {
    instance.subject.as_ref().map(|subject| subject.status())
}
