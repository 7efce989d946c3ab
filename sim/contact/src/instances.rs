//! The instances of the subject, and the work that is left for each: the same in a simulated world and on real servers.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::Poll,
    time::Duration,
};

use futures_util::future::select;
use seedbed_env::Env;
use seedbed_redis::Dumped;
use tokio::sync::Notify;

use crate::{
    history::{Call, Holding, RecordName, Resource, Stop, StoreReport, StoredEntry, StoredKey, What},
    recorder::Recorder,
    scenario::Scenario,
    subject::{DecodedRecords, Pending, Settings, Status, Subject, SubjectKind, SubjectLimits},
    workload::PlannedCall,
    world::held::Count,
};

/// All instances of a run. Clones are the same.
#[derive(Clone)]
pub struct Instances {
    shared: Arc<SharedInstances>,
}

struct SharedInstances {
    recorder: Recorder,
    subject: SubjectKind,
    workers: u32,
    settings: Vec<Settings>,
    queues: Vec<Vec<PlannedCall>>,
    state: Mutex<InstancesState>,
    gate: Notify,
    /// Wakes the tasks that wait until all instances have opened, or all calls are done.
    changed: Notify,
    known: Mutex<DecodedRecords>,
}

#[derive(Default)]
struct InstancesState {
    /// When the phase of faults began; no worker starts before.
    start_us: Option<u64>,
    instances: Vec<InstanceState>,
}

#[derive(Clone, Default)]
struct InstanceState {
    subject: Option<Arc<dyn Subject>>,
    /// Position in its queue of the first call that was never taken.
    next: usize,
    /// Calls that were taken by workers whose process ended before they began: they are taken again before all others.
    put_back: BTreeSet<usize>,
    /// Calls that its workers have in hand, and whether they have begun.
    in_hand: BTreeMap<usize, bool>,
    /// How often it has ended: a worker of an earlier life counts no more, though its process may live on for a moment.
    life: u64,
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

impl InstanceState {
    /// The position of the next call for a worker of this life.
    fn take(&mut self, life: u64, count: usize) -> Option<usize> {
        if self.life != life {
            return None;
        }
        let position = match self.put_back.pop_first() {
            Some(position) => position,
            None if self.next < count => {
                self.next += 1;
                self.next - 1
            }
            None => return None,
        };
        self.in_hand.insert(position, false);
        Some(position)
    }

    /// Whether a worker may begin the call that it has taken. An instance that is being closed takes none, and the worker ends:
    /// the call stays in hand until the process is gone, and is put back then.
    fn begin(&mut self, life: u64, position: usize) -> bool {
        let begins = self.life == life && self.subject.is_some();
        if begins {
            self.in_hand.insert(position, true);
        }
        begins
    }

    /// The process is gone. A call that had begun has an unknown outcome and is not made again.
    fn put_back_in_hand(&mut self) {
        let in_hand = std::mem::take(&mut self.in_hand);
        self.put_back.extend(in_hand.into_iter().filter(|(_, has_begun)| !has_begun).map(|(position, _)| position));
    }

    /// A call has returned. Those of an earlier life are in hand no more.
    fn end(&mut self, life: u64, position: usize) {
        if self.life == life {
            self.in_hand.remove(&position);
        }
    }

    /// Whether all calls of a queue of this length are done.
    fn is_done(&self, count: usize) -> bool {
        self.in_hand.is_empty() && self.put_back.is_empty() && self.next >= count
    }
}

/// How long whoever runs an instance waits before it is started again after its cache could not be opened.
const OPEN_AGAIN: Duration = Duration::from_millis(300);

/// How often to poll an instance that has not met Redis yet, if its subject has no future for that.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// How often to poll it beside such a future: it may have ended instead.
const LOOK_FOR_ITS_END: Duration = Duration::from_secs(5);

impl Instances {
    /// None of them lives yet. `settings` has those of each.
    pub fn new(scenario: &Scenario, settings: Vec<Settings>, recorder: &Recorder) -> Self {
        let mut queues = vec![Vec::new(); scenario.prefixes.len()];
        for planned in &scenario.operations {
            queues[planned.instance as usize].push(planned.clone());
        }
        let instances = vec![InstanceState::default(); scenario.prefixes.len()];
        let shared = SharedInstances {
            recorder: recorder.clone(),
            subject: scenario.subject,
            workers: scenario.workers,
            settings,
            queues,
            state: Mutex::new(InstancesState { start_us: None, instances }),
            gate: Notify::new(),
            changed: Notify::new(),
            known: Mutex::default(),
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
        self.shared.subject.stored_key(key, dumped, &self.prefixes(), now_ms, &mut self.known())
    }

    /// Whether a key of Redis is another service's.
    pub fn is_of_others(&self, key: &[u8]) -> bool {
        self.shared.subject.is_of_others(key, &self.prefixes())
    }

    /// What the file of an instance's local store holds, at this time of Redis's clock.
    pub fn stored_entries(&self, instance: u32, file: &[u8], now_ms: u64) -> Vec<StoredEntry> {
        self.shared.subject.stored_entries(file, self.settings(instance), now_ms, &mut self.known())
    }

    fn known(&self) -> MutexGuard<'_, DecodedRecords> {
        self.shared.known.lock().unwrap_or_else(PoisonError::into_inner)
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
        self.shared.changed.notify_waiters();
        let token = Arc::new(());
        self.with(instance, |state| state.workers = (Arc::downgrade(&token), u64::from(self.shared.workers) + 1));
        for _ in 0..self.shared.workers {
            let work = self.clone().work(env.clone(), subject.clone(), (instance, life), alive.clone());
            let token = token.clone();
            env.spawn(async move {
                work.await;
                drop(token);
            });
        }
        let watch = self.until_connected(env.clone(), subject, (instance, life), alive);
        env.spawn(async move {
            watch.await;
            drop(token);
        });
    }

    /// Notes when an instance first met Redis in this process: from then on it knows Redis's clock.
    async fn until_connected<E: Env>(
        self,
        env: E,
        subject: Arc<dyn Subject>,
        (instance, life): (u32, u64),
        alive: impl Fn() -> bool + Sync,
    ) {
        while alive() && self.with(instance, |state| state.life == life && state.subject.is_some()) {
            let state = subject.status().state;
            if state == "connected" {
                return self.shared.recorder.state(instance, state);
            }
            match subject.connects() {
                Some(connects) => drop(select(connects, pin!(env.sleep(LOOK_FOR_ITS_END))).await),
                None => env.sleep(LOOK_AGAIN).await,
            }
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

    /// The process of an instance is gone. What it was doing never returns; what it had not begun is left for the next.
    pub fn stopped(&self, instance: u32, how: Stop) {
        self.report(instance);
        self.with(instance, |state| {
            state.subject = None;
            state.life += 1;
            (state.calls, state.pending_bytes_most) = (0, 0);
            state.put_back_in_hand();
        });
        self.shared.changed.notify_waiters();
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
        let queue = &self.shared.queues[instance as usize];
        while let Some(position) = self.with(instance, |state| state.take(life, queue.len())) {
            let planned = &queue[position];
            let left_us = (start_us + planned.at_us).saturating_sub(self.shared.recorder.now_us());
            env.sleep(Duration::from_micros(left_us)).await;
            if !self.with(instance, |state| state.begin(life, position)) {
                return;
            }
            self.call(instance, &*subject, &planned.call, &alive).await;
            let is_done = self.with(instance, |state| {
                state.end(life, position);
                state.is_done(queue.len())
            });
            if is_done {
                self.shared.changed.notify_waiters();
            }
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
        let in_hand = state.instances[instance as usize].in_hand.keys();
        in_hand.filter(|position| start_us + queue[**position].at_us <= now_us).count() as u64
    }

    /// Whether its cache is open.
    pub fn is_open(&self, instance: u32) -> bool {
        self.with(instance, |state| state.subject.is_some())
    }

    /// The bed's own tasks in its process.
    pub fn workers(&self, instance: u32) -> Count {
        self.with(instance, |state| Count { now: state.workers.0.strong_count() as u64, most: state.workers.1 })
    }

    /// What an instance promises never to pass.
    pub fn limits(&self) -> SubjectLimits {
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
            let mut opened = pin!(self.shared.gate.notified());
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

    /// Completes when each has opened its cache.
    pub async fn all_open(&self) {
        self.wait_until(|state| state.instances.iter().all(|instance| instance.subject.is_some())).await;
    }

    /// Completes when all calls of all queues are done.
    pub async fn all_done(&self) {
        let queues = &self.shared.queues;
        self.wait_until(|state| {
            state.instances.iter().zip(queues).all(|(instance, queue)| instance.is_done(queue.len()))
        })
        .await;
    }

    async fn wait_until(&self, over: impl Fn(&InstancesState) -> bool) {
        loop {
            let mut changed = pin!(self.shared.changed.notified());
            changed.as_mut().enable();
            if over(&self.lock()) {
                return;
            }
            changed.await;
        }
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

    /// Reads every record on every instance, one after the other, with a pause before each instance.
    pub async fn read_everything(&self, scenario: &Scenario, pause: impl AsyncFn()) {
        let records = scenario.records();
        let instances = self.lock().instances.clone();
        for (number, instance) in (0..).zip(instances) {
            let Some(subject) = instance.subject else { continue };
            pause().await;
            let prefix = &scenario.prefixes[number as usize];
            for RecordName { uid, .. } in records.iter().filter(|record| record.prefix == *prefix) {
                self.call(number, &*subject, &Arc::new(Call::get(uid)), &|| true).await;
            }
        }
    }

    fn with<T>(&self, instance: u32, work: impl FnOnce(&mut InstanceState) -> T) -> T {
        work(&mut self.lock().instances[instance as usize])
    }

    fn lock(&self) -> MutexGuard<'_, InstancesState> {
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

fn status(instance: &InstanceState) -> Option<Status> {
    instance.subject.as_ref().map(|subject| subject.status())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        faults::{Fault, PlannedFault},
        history::{History, Phase},
        runner,
        seed::Seed,
        workload::Workload,
    };

    /// One instance that is asked for a list every second from the fifth on, three workers, and this fault from the first
    /// second to the second.
    fn played(fault: Fault) -> History {
        let mut scenario = Scenario::generate(Workload::Consistency, Seed(1));
        (scenario.prefixes, scenario.clock_offsets_ms, scenario.workers) = (vec!["p".to_owned()], vec![0], 3);
        let planned = |second: u64| PlannedCall { at_us: second * 1_000_000, instance: 0, call: Arc::new(Call::List) };
        scenario.operations = (5..10).map(planned).collect();
        scenario.faults = vec![PlannedFault { start_us: 1_000_000, end_us: 2_000_000, at: None, fault }];
        runner::run(&scenario).unwrap().history
    }

    #[test]
    fn a_call_that_had_not_begun_when_its_process_ended_is_made_by_the_next() {
        for fault in [
            Fault::InstanceCrash { instance: 0, power_loss: false },
            Fault::InstanceRestart { instance: 0 },
            Fault::LockHeld { instance: 0 },
        ] {
            let history = played(fault.clone());
            let faults = history.events.iter().find(|it| it.what == What::Phase { phase: Phase::Faults });
            let start_us = faults.expect("every run has this phase").at_us;
            let invoked = history.events.iter().filter(|it| matches!(it.what, What::Invoke { .. }));
            let times: Vec<_> = invoked.map(|it| (it.at_us - start_us) / 1_000_000).collect();
            assert_eq!(times, [5, 6, 7, 8, 9], "{fault:?}");
        }
    }

    #[test]
    fn a_call_that_had_begun_is_not_made_again() {
        let mut instance =
            InstanceState { in_hand: BTreeMap::from([(0, true), (1, false)]), next: 2, ..InstanceState::default() };
        instance.put_back_in_hand();
        assert_eq!([0; 3].map(|life| instance.take(life, 3)), [Some(1), Some(2), None]);
        assert_eq!(instance.take(1, 9), None, "a worker of another life");
    }
}
