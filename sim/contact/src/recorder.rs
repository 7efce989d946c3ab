//! Writes the history of a run while it happens.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    history::{Call, Event, FORMAT, Header, History, Outcome, What},
    scenario::Scenario,
};

/// A shared pen. Clones write into the same history.
#[derive(Clone)]
pub struct Recorder {
    inner: Arc<Mutex<RecorderState>>,
    clock: Arc<dyn Fn() -> u64 + Send + Sync>,
}

struct RecorderState {
    events: Vec<Event>,
    calls: u64,
    states: BTreeMap<u32, String>,
}

impl Recorder {
    /// A pen that reads the time, in microseconds since the start of the run, from `clock`.
    pub fn new(clock: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        let inner = RecorderState { events: Vec::new(), calls: 0, states: BTreeMap::new() };
        Self { inner: Arc::new(Mutex::new(inner)), clock: Arc::new(clock) }
    }

    /// Microseconds since the start of the run.
    pub fn now_us(&self) -> u64 {
        (self.clock)()
    }

    /// Notes that something happened now.
    pub fn note(&self, what: What) {
        let at_us = self.now_us();
        let mut inner = self.lock();
        if let What::Stopped { instance, .. } = &what {
            // What the next process sees is noted even if it is the same.
            inner.states.remove(instance);
        }
        push(&mut inner, at_us, what);
    }

    /// Notes the beginning of an operation, and gives it its number.
    pub fn invoke(&self, instance: u32, call: &Arc<Call>) -> u64 {
        let at_us = self.now_us();
        let mut inner = self.lock();
        let op = inner.calls;
        inner.calls += 1;
        push(&mut inner, at_us, What::Invoke { instance, op, call: call.clone() });
        op
    }

    /// Notes the end of an operation.
    pub fn complete(&self, instance: u32, op: u64, outcome: Outcome) {
        self.note(What::Complete { instance, op, outcome });
    }

    /// Notes an instance's view of Redis, if it is another than the last noted.
    pub fn state(&self, instance: u32, state: String) {
        let at_us = self.now_us();
        let mut inner = self.lock();
        if inner.states.get(&instance) != Some(&state) {
            inner.states.insert(instance, state.clone());
            push(&mut inner, at_us, What::State { instance, state });
        }
    }

    /// The history so far.
    pub fn finish(&self, scenario: &Scenario, op_deadline_us: u64) -> History {
        let header = Header {
            format: FORMAT,
            workload: scenario.workload.name().to_owned(),
            seed: scenario.seed.0,
            prefixes: scenario.prefixes.clone(),
            op_deadline_us,
            beyond_budget: scenario.beyond_budget,
            tuning: scenario.tuning.clone(),
            clock_offsets_ms: scenario.clock_offsets_ms.clone(),
            clock_error_ms: 0,
            round_trip_us: None,
            starts_at_ms: None,
        };
        History { header, events: std::mem::take(&mut self.lock().events) }
    }

    fn lock(&self) -> MutexGuard<'_, RecorderState> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn push(inner: &mut RecorderState, at_us: u64, what: What) {
    let ordinal = inner.events.len() as u64;
    inner.events.push(Event { ordinal, at_us, what });
}
