//! Points that a healthy exploration reaches sometimes: if one is never reached, faults or workloads have lost their grip,
//! and a pass says less than it seems to. One catalogue, counted over each run and summed in the report.
//!
//! What a mark rests on is what the client tells an operator anyhow, through the `metrics` facade to a recorder of the run's
//! own thread, or what stands in the history. Nothing in the client knows of marks, and nothing in a run of them: they
//! change neither its steps nor its hash.
//!
//! Left out: a damaged record that a running instance meets. A flipped bit hits one that is read from the disk before the next
//! restart in fewer than one of a thousand runs; the tests of the store reach it.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use metrics::{Counter, CounterFn, Gauge, GaugeFn, Histogram, Key, KeyName, Metadata, SharedString, Unit};

use crate::{
    faults::Moment,
    history::{Answer, History, Outcome, Placement, Source, Stop, What},
    world::{
        Host,
        moments::{Moments, Step},
    },
};

/// A point, and how it is known that it was reached.
pub struct Mark {
    /// What happened, as reports name it.
    pub name: &'static str,
    by: By,
}

enum By {
    /// The client counted it: the sum over all caches that were opened.
    Metric(&'static str),
    /// A cache counted it more than once.
    Again(&'static str),
    /// An event of the history says so.
    Event(fn(&What) -> bool),
    /// An event says so together with the state that its instance had been in.
    InState(&'static str, fn(&What) -> Option<u32>),
}

/// All marks, in the order of reports.
pub const ALL: [Mark; 39] = [
    metric("stamp conflict", "contact_cache_conflicts_total"),
    metric("retries after conflicts used up", "contact_cache_outpaced_writes_total"),
    metric("write of unknown outcome became pending (R10)", "contact_cache_unknown_writes_total"),
    metric("pending write merged", "contact_cache_replayed_total"),
    metric("tombstone met a late write", "contact_cache_buried_writes_total"),
    metric("copy published again that Redis lacked (R5)", "contact_cache_republished_total"),
    metric("loss of all data noticed (R6)", "contact_cache_lost_generations_total"),
    metric("copy yielded to Redis as too old (R9)", "contact_cache_yielded_total"),
    metric("expired record settled by the script", "contact_cache_expired_total"),
    metric("script sent again after NOSCRIPT", "contact_cache_scripts_sent_total"),
    metric("probe failed", "contact_cache_failed_probes_total"),
    metric("list went on over several pages", "contact_cache_list_pages_total"),
    metric("list cut off and answered locally", "contact_cache_cut_off_lists_total"),
    metric("stamp from the far future reported", "contact_cache_future_stamps_total"),
    metric("file set aside", "contact_cache_quarantined_files_total"),
    metric("store stopped by a failed sync", "contact_cache_store_failed"),
    metric("write to the store failed and was tried again", "contact_cache_failed_flushes_total"),
    metric("log rewritten", "contact_cache_rewrites_total"),
    metric("torn tail cut", "contact_cache_torn_tails_total"),
    Mark { name: "connection replaced", by: By::Again("contact_cache_connections_total") },
    event("breaker opened", |what| matches!(what, What::State { state, .. } if state == "degraded")),
    event("suspect connection probed", |what| matches!(what, What::State { state, .. } if state == "probing")),
    event("limit of pending bytes reached", |what| match what {
        What::Complete { outcome: Outcome::Fail { error } | Outcome::Info { error }, .. } => error.starts_with("full"),
        _ => false,
    }),
    event("call given up by its caller", |what| matches!(what, What::Cancelled { .. })),
    event("cache did not open", |what| matches!(what, What::OpenFailed { .. })),
    event("read answered from both tiers", |what| {
        matches!(answer(what), Some(Answer::Read { source: Source::Merged, .. }))
    }),
    event("clear without Redis", |what| {
        matches!(answer(what), Some(Answer::Cleared { placement: Placement::Local, .. }))
    }),
    Mark { name: "crash while pending writes were merged", by: By::InState("recovering", crashed) },
    Mark { name: "crash while Redis was away", by: By::InState("degraded", crashed) },
    event("fault struck before Redis ran a merge", |what| struck(what, &Moment::MergeArrives)),
    event("fault struck between a merge and its reply", |what| struck(what, &Moment::MergeDone)),
    event("fault struck before Redis ran a replay", |what| struck(what, &Moment::ReplayArrives)),
    event("fault struck between a replay and its reply", |what| struck(what, &Moment::ReplayDone)),
    event("fault struck between a read and its reply", |what| struck(what, &Moment::ReadDone)),
    event("fault struck between two pages of SCAN", |what| struck(what, &Moment::ScanGoesOn)),
    event("fault struck as the generation was asked for", |what| struck(what, &Moment::GenerationAsked)),
    event("fault struck between a sync and the answer", |what| struck(what, &Moment::LogSynced)),
    event("fault struck while a log was rewritten", |what| struck(what, &Moment::RewriteWrites)),
    event("fault struck at a mark", |what| matches!(what, What::FaultBegin { at: Some(Moment::Mark(_)), .. })),
];

const fn metric(name: &'static str, metric: &'static str) -> Mark {
    Mark { name, by: By::Metric(metric) }
}

const fn event(name: &'static str, says: fn(&What) -> bool) -> Mark {
    Mark { name, by: By::Event(says) }
}

fn answer(what: &What) -> Option<&Answer> {
    match what {
        What::Complete { outcome: Outcome::Ok { answer }, .. } => Some(answer),
        _ => None,
    }
}

fn struck(what: &What, at_moment: &Moment) -> bool {
    matches!(what, What::FaultBegin { at: Some(moment), .. } if moment == at_moment)
}

fn crashed(what: &What) -> Option<u32> {
    match what {
        What::Stopped { instance, how: Stop::Killed | Stop::PowerLost } => Some(*instance),
        _ => None,
    }
}

/// Whether a fault can wait for the mark of this name: the client counts it as it happens.
pub fn is_counted(name: &str) -> bool {
    ALL.iter().any(|mark| mark.name == name && matches!(mark.by, By::Metric(_)))
}

/// What a run told, by mark: how often each was reached.
pub type Reached = BTreeMap<Cow<'static, str>, u64>;

/// How often a run reached each mark, those never reached left out.
pub fn reached(metrics: &MarkRecorder, history: &History) -> Reached {
    let told = metrics.told();
    let count = |mark: &Mark| match mark.by {
        By::Metric(name) => told.get(name).map_or(0, |values| values.iter().sum()),
        By::Again(name) => told.get(name).map_or(0, |values| values.iter().map(|value| value.saturating_sub(1)).sum()),
        By::Event(says) => history.events.iter().filter(|event| says(&event.what)).count() as u64,
        By::InState(state, says) => in_state(history, state, says),
    };
    ALL.iter().map(|mark| (Cow::Borrowed(mark.name), count(mark))).filter(|(_, count)| *count > 0).collect()
}

fn in_state(history: &History, wanted: &str, says: fn(&What) -> Option<u32>) -> u64 {
    let (mut states, mut count) = (BTreeMap::new(), 0);
    for event in &history.events {
        if let What::State { instance, state } = &event.what {
            states.insert(*instance, state.as_str());
        }
        if let Some(instance) = says(&event.what) {
            count += u64::from(states.remove(&instance) == Some(wanted));
        }
    }
    count
}

/// The marks that nothing reached.
pub fn missed(reached: &Reached) -> Vec<&'static str> {
    ALL.iter().map(|mark| mark.name).filter(|name| !reached.contains_key(*name)).collect()
}

/// Takes what the caches of one run tell a monitoring system.
#[derive(Default)]
pub struct MarkRecorder {
    cells: Mutex<Vec<(String, Arc<ToldMetric>)>>,
    moments: Option<Moments>,
}

/// What one cache told of one metric: a count, or the largest value of a gauge.
#[derive(Default)]
struct ToldMetric {
    value: AtomicU64,
    /// The mark that rests on it, and who is told of it.
    brings: Option<(&'static str, Moments, Host)>,
}

impl ToldMetric {
    /// The cache has counted something.
    fn brings_moment(&self) {
        if let Some((mark, moments, host)) = &self.brings {
            moments.come(&Step::Told(mark), *host);
        }
    }
}

impl MarkRecorder {
    /// One that tells of what is counted, as it is counted.
    pub fn watched(moments: &Moments) -> Self {
        Self { moments: Some(moments.clone()), ..Self::default() }
    }

    /// By name, what each cache told.
    fn told(&self) -> BTreeMap<String, Vec<u64>> {
        let mut told = BTreeMap::<_, Vec<_>>::new();
        for (name, cell) in self.cells.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            told.entry(name.clone()).or_default().push(cell.value.load(Ordering::Relaxed));
        }
        told
    }

    fn register(&self, key: &Key) -> Arc<ToldMetric> {
        let wanted = |mark: &&Mark| matches!(mark.by, By::Metric(name) | By::Again(name) if name == key.name());
        let mark = ALL.iter().find(wanted);
        let brings = mark.filter(|mark| matches!(mark.by, By::Metric(_))).and_then(|mark| {
            let moments = self.moments.as_ref()?;
            Some((mark.name, moments.clone(), moments.running()?))
        });
        let cell = Arc::new(ToldMetric { brings, ..ToldMetric::default() });
        if mark.is_some() {
            let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
            cells.push((key.name().to_owned(), cell.clone()));
        }
        cell
    }
}

impl metrics::Recorder for MarkRecorder {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.register(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.register(key))
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

impl CounterFn for ToldMetric {
    fn increment(&self, by: u64) {
        self.value.fetch_add(by, Ordering::Relaxed);
        self.brings_moment();
    }

    fn absolute(&self, value: u64) {
        self.value.fetch_max(value, Ordering::Relaxed);
    }
}

impl GaugeFn for ToldMetric {
    fn increment(&self, _: f64) {}

    fn decrement(&self, _: f64) {}

    /// Only whether it was ever more than nothing counts.
    fn set(&self, value: f64) {
        self.value.fetch_max(u64::from(value > 0.0), Ordering::Relaxed);
        if value > 0.0 {
            self.brings_moment();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{runner, scenario::Scenario, seed::Seed, workload::Workload};

    #[test]
    fn every_mark_has_a_name_of_its_own() {
        assert_eq!(ALL.iter().map(|mark| mark.name).collect::<BTreeSet<_>>().len(), ALL.len());
    }

    #[test]
    fn what_caches_tell_is_counted_and_what_nobody_told_is_missed() {
        let metrics = MarkRecorder::default();
        metrics::with_local_recorder(&metrics, || {
            for connections in [1, 3] {
                metrics::counter!("contact_cache_connections_total").absolute(connections);
                metrics::counter!("contact_cache_conflicts_total").increment(1);
            }
            metrics::gauge!("contact_cache_store_failed").set(1.0);
            metrics::gauge!("contact_cache_store_failed").set(0.0);
        });
        let history = runner::run(&Scenario::generate(Workload::Serialization, Seed(0))).unwrap().history;
        let reached = reached(&metrics, &history);
        assert_eq!(reached["connection replaced"], 2);
        assert_eq!(reached["stamp conflict"], 2);
        assert_eq!(reached["store stopped by a failed sync"], 1);
        assert!(missed(&reached).contains(&"probe failed") && !missed(&reached).contains(&"stamp conflict"));
    }
}
