//! The instances of the subject, and the work that is left for each: the same in a simulated world and on real servers.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use contact_cache::env::Env;
use tokio::sync::Notify;

use crate::{
    history::{Call, Stop, What},
    recorder::Recorder,
    scenario::{PlannedCall, Scenario},
    subject::{ContactCacheSubject, Settings, Status, Subject},
};

/// All instances of a run. Clones are the same.
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
    /// None of them lives yet. `settings` has those of each.
    pub fn new(scenario: &Scenario, settings: Vec<Settings>, recorder: &Recorder) -> Self {
        let mut queues = vec![Vec::new(); scenario.prefixes.len()];
        for planned in &scenario.operations {
            queues[planned.instance as usize].push(planned.clone());
        }
        let instances = vec![Instance::default(); scenario.prefixes.len()];
        let shared = Shared {
            recorder: recorder.clone(),
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

    /// The life of an instance's process: it opens its cache and goes on with its work.
    pub async fn live<E: Env>(self, env: E, instance: u32) {
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
            env.spawn(self.clone().work(env.clone(), subject.clone(), instance));
        }
    }

    /// An instance ends in order: it takes no more calls, those under way return, and its cache is closed.
    pub async fn close(&self, instance: u32) {
        let Some(subject) = self.with(instance, |state| state.subject.take()) else { return };
        if let Err(error) = subject.close().await {
            self.with(instance, |state| state.failed_to_open = Some(format!("failed to close: {error}")));
        }
        self.stopped(instance, Stop::Closed);
    }

    /// The process of an instance is gone. What it was doing never returns.
    pub fn stopped(&self, instance: u32, how: Stop) {
        self.with(instance, |state| {
            state.subject = None;
            state.running = 0;
        });
        self.shared.recorder.note(What::Stopped { instance, how });
    }

    async fn work<E: Env>(self, env: E, subject: Arc<dyn Subject>, instance: u32) {
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
            let left_us = (start_us + planned.at_us).saturating_sub(self.shared.recorder.now_us());
            env.sleep(Duration::from_micros(left_us)).await;
            // An instance that is being closed takes no calls.
            if self.with(instance, |state| state.subject.is_some()) {
                self.call(instance, &*subject, &planned.call).await;
            }
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

    /// Final reads: every record on every instance, one after the other.
    pub async fn read_everything(&self, scenario: &Scenario) {
        let uids = uids_by_prefix(scenario);
        let instances = self.lock().instances.clone();
        for (number, instance) in (0..).zip(instances) {
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
fn uids_by_prefix(scenario: &Scenario) -> BTreeMap<String, BTreeSet<String>> {
    let mut uids = BTreeMap::<_, BTreeSet<_>>::new();
    for planned in &scenario.operations {
        let (Call::Upsert { uid, .. } | Call::Get { uid } | Call::Remove { uid }) = &planned.call else { continue };
        uids.entry(scenario.prefixes[planned.instance as usize].clone()).or_default().insert(uid.clone());
    }
    uids
}
