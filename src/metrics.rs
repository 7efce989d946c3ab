//! What a cache tells a monitoring system, through the `metrics` facade: to whatever recorder the application has
//! installed before it opens the cache, and to none otherwise.
//!
//! | name | kind | labels | meaning |
//! | --- | --- | --- | --- |
//! | `contact_cache_call_seconds` | histogram | `call`, `tier` | time of each call, by the tier that answered; `tier="error"` for errors |
//! | `contact_cache_reads_total` | counter | `found` | reads, by whether there was a record |
//! | `contact_cache_conflicts_total` | counter | | writes stamped again because another instance's was in the way |
//! | `contact_cache_outpaced_writes_total` | counter | | writes kept locally, since other instances kept writing to the record |
//! | `contact_cache_unknown_writes_total` | counter | | writes whose outcome was unknown: kept, and merged again |
//! | `contact_cache_buried_writes_total` | counter | | pending writes that met a removal or an expiry above them |
//! | `contact_cache_republished_total` | counter | | reads that found that Redis lacked what this instance holds, and had it published again |
//! | `contact_cache_lost_generations_total` | counter | | times that all of Redis's data was found lost |
//! | `contact_cache_yielded_total` | counter | | reads in which a copy too old to be published again yielded to Redis |
//! | `contact_cache_expired_total` | counter | | records at or near their deadline that Redis was asked to settle |
//! | `contact_cache_scripts_sent_total` | counter | | times that Redis did not know the script |
//! | `contact_cache_failed_probes_total` | counter | | probes of a connection that failed |
//! | `contact_cache_list_pages_total` | counter | | pages of lists beyond the first |
//! | `contact_cache_cut_off_lists_total` | counter | | lists that Redis did not answer to their end, answered locally |
//! | `contact_cache_state` | gauge | `state` | 1 for the present state, 0 for the others |
//! | `contact_cache_attempts_total` | counter | | attempts to connect |
//! | `contact_cache_connections_total` | counter | | connections established |
//! | `contact_cache_replayed_total` | counter | | records merged into Redis after they had been pending |
//! | `contact_cache_isolated_records` | gauge | | records that cannot be merged, and are tried apart from the others |
//! | `contact_cache_pending_records` | gauge | | records with something that Redis does not have yet |
//! | `contact_cache_pending_bytes` | gauge | | bytes of those with writes of this instance |
//! | `contact_cache_pending_seconds` | gauge | | for how long there has always been something pending |
//! | `contact_cache_copies_bytes` | gauge | | bytes of copies of what Redis holds |
//! | `contact_cache_forgotten_copies_total` | counter | | copies forgotten, or not kept, to keep within the limit |
//! | `contact_cache_future_stamps_total` | counter | | stamps seen that are far ahead of the own clock |
//! | `contact_cache_damaged_records_total` | counter | | records found damaged on disk |
//! | `contact_cache_quarantined_files_total` | counter | | damaged logs set aside |
//! | `contact_cache_torn_tails_total` | counter | | logs whose end a crash had cut short |
//! | `contact_cache_rewrites_total` | counter | | times that the log was rewritten |
//! | `contact_cache_failed_flushes_total` | counter | | writes to the log that failed and are tried again |
//! | `contact_cache_store_failed` | gauge | | 1 if the local store takes no more writes |
//! | `contact_cache_store_degraded` | gauge | | 1 while the disk of the local store has no room, or refuses to write |
//!
//! `examples/metrics.rs` serves them to Prometheus. Each carries the label `prefix`. Times are in seconds of the monotonic clock.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram};

use crate::{
    answer::{Cleared, Health, Imported, Listing, Placement, Read, Source, Written},
    error::Error,
    health::State,
    key::Prefix,
    local::OpenReport,
    telemetry,
};

/// The macros of `metrics`, whose recorder may panic.
macro_rules! counter {
    ($($what:tt)*) => { telemetry::counter(::metrics::counter!($($what)*)) };
}
macro_rules! gauge {
    ($($what:tt)*) => { telemetry::gauge(::metrics::gauge!($($what)*)) };
}
macro_rules! histogram {
    ($($what:tt)*) => { telemetry::histogram(::metrics::histogram!($($what)*)) };
}

/// What was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MeasuredCall {
    Get,
    GetMany,
    Upsert,
    Remove,
    List,
    Clear,
    Sync,
    Import,
}

/// What answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tier {
    Shared,
    Merged,
    Local,
    Error,
}

const CALLS: [(MeasuredCall, &str); 8] = [
    (MeasuredCall::Get, "get"),
    (MeasuredCall::GetMany, "get_many"),
    (MeasuredCall::Upsert, "upsert"),
    (MeasuredCall::Remove, "remove"),
    (MeasuredCall::List, "list"),
    (MeasuredCall::Clear, "clear"),
    (MeasuredCall::Sync, "sync"),
    (MeasuredCall::Import, "import"),
];

const TIERS: [(Tier, &str); 4] =
    [(Tier::Shared, "shared"), (Tier::Merged, "merged"), (Tier::Local, "local"), (Tier::Error, "error")];

const STATES: [State; 4] = [State::Connected, State::Degraded, State::Probing, State::Recovering];

/// The metrics of one cache, registered once: a call only bumps them.
pub(crate) struct Metrics {
    seconds: [[Histogram; TIERS.len()]; CALLS.len()],
    found: Counter,
    missed: Counter,
    pub(crate) conflicts: Counter,
    pub(crate) replayed: Counter,
    pub(crate) outpaced_writes: Counter,
    pub(crate) unknown_writes: Counter,
    pub(crate) buried_writes: Counter,
    pub(crate) republished: Counter,
    pub(crate) lost_generations: Counter,
    pub(crate) yielded: Counter,
    pub(crate) expired: Counter,
    pub(crate) scripts_sent: Counter,
    pub(crate) failed_probes: Counter,
    pub(crate) list_pages: Counter,
    pub(crate) cut_off_lists: Counter,
    states: [Gauge; STATES.len()],
    attempts: Counter,
    connections: Counter,
    isolated_records: Gauge,
    pending_records: Gauge,
    pending_bytes: Gauge,
    pending_seconds: Gauge,
    copies_bytes: Gauge,
    forgotten_copies: Counter,
    future_stamps: Counter,
    damaged_records: Counter,
    quarantined_files: Counter,
    torn_tails: Counter,
    rewrites: Counter,
    failed_flushes: Counter,
    store_failed: Gauge,
    store_degraded: Gauge,
}

impl Metrics {
    /// Registers them with the recorder that is installed now.
    pub(crate) fn new(prefix: &Prefix) -> Self {
        let prefix = || prefix.as_str().to_owned();
        Self {
            seconds: CALLS.map(|(_, call)| {
                TIERS.map(|(_, tier)| {
                    histogram!("contact_cache_call_seconds", "prefix" => prefix(), "call" => call, "tier" => tier)
                })
            }),
            found: counter!("contact_cache_reads_total", "prefix" => prefix(), "found" => "true"),
            missed: counter!("contact_cache_reads_total", "prefix" => prefix(), "found" => "false"),
            conflicts: counter!("contact_cache_conflicts_total", "prefix" => prefix()),
            replayed: counter!("contact_cache_replayed_total", "prefix" => prefix()),
            outpaced_writes: counter!("contact_cache_outpaced_writes_total", "prefix" => prefix()),
            unknown_writes: counter!("contact_cache_unknown_writes_total", "prefix" => prefix()),
            buried_writes: counter!("contact_cache_buried_writes_total", "prefix" => prefix()),
            republished: counter!("contact_cache_republished_total", "prefix" => prefix()),
            lost_generations: counter!("contact_cache_lost_generations_total", "prefix" => prefix()),
            yielded: counter!("contact_cache_yielded_total", "prefix" => prefix()),
            expired: counter!("contact_cache_expired_total", "prefix" => prefix()),
            scripts_sent: counter!("contact_cache_scripts_sent_total", "prefix" => prefix()),
            failed_probes: counter!("contact_cache_failed_probes_total", "prefix" => prefix()),
            list_pages: counter!("contact_cache_list_pages_total", "prefix" => prefix()),
            cut_off_lists: counter!("contact_cache_cut_off_lists_total", "prefix" => prefix()),
            states: STATES
                .map(|state| gauge!("contact_cache_state", "prefix" => prefix(), "state" => state.to_string())),
            attempts: counter!("contact_cache_attempts_total", "prefix" => prefix()),
            connections: counter!("contact_cache_connections_total", "prefix" => prefix()),
            isolated_records: gauge!("contact_cache_isolated_records", "prefix" => prefix()),
            pending_records: gauge!("contact_cache_pending_records", "prefix" => prefix()),
            pending_bytes: gauge!("contact_cache_pending_bytes", "prefix" => prefix()),
            pending_seconds: gauge!("contact_cache_pending_seconds", "prefix" => prefix()),
            copies_bytes: gauge!("contact_cache_copies_bytes", "prefix" => prefix()),
            forgotten_copies: counter!("contact_cache_forgotten_copies_total", "prefix" => prefix()),
            future_stamps: counter!("contact_cache_future_stamps_total", "prefix" => prefix()),
            damaged_records: counter!("contact_cache_damaged_records_total", "prefix" => prefix()),
            quarantined_files: counter!("contact_cache_quarantined_files_total", "prefix" => prefix()),
            torn_tails: counter!("contact_cache_torn_tails_total", "prefix" => prefix()),
            rewrites: counter!("contact_cache_rewrites_total", "prefix" => prefix()),
            failed_flushes: counter!("contact_cache_failed_flushes_total", "prefix" => prefix()),
            store_failed: gauge!("contact_cache_store_failed", "prefix" => prefix()),
            store_degraded: gauge!("contact_cache_store_degraded", "prefix" => prefix()),
        }
    }

    /// A call has ended.
    pub(crate) fn called(&self, call: MeasuredCall, tier: Tier, took: Duration) {
        self.seconds[call as usize][tier as usize].record(took.as_secs_f64());
    }

    /// The store was opened.
    pub(crate) fn opened(&self, report: &OpenReport) {
        self.torn_tails.increment(u64::from(report.damage.torn_tail_bytes > 0));
    }

    /// A record was read.
    pub(crate) fn read(&self, found: bool) {
        if found { &self.found } else { &self.missed }.increment(1);
    }

    /// How the cache is now. Counters are told their whole value.
    #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53")]
    pub(crate) fn publish(&self, health: &Health) {
        for (state, gauge) in STATES.iter().zip(&self.states) {
            gauge.set(f64::from(u8::from(*state == health.state)));
        }
        self.attempts.absolute(health.attempts);
        self.connections.absolute(health.connections);
        self.isolated_records.set(health.isolated_records as f64);
        self.pending_records.set(health.pending_records as f64);
        self.pending_bytes.set(health.pending_bytes as f64);
        self.pending_seconds.set(health.pending_for.unwrap_or_default().as_secs_f64());
        self.copies_bytes.set(health.copies_bytes as f64);
        self.forgotten_copies.absolute(health.forgotten_copies);
        self.future_stamps.absolute(health.future_stamps);
        self.damaged_records.absolute(health.damaged_records);
        self.quarantined_files.absolute(health.quarantined_files);
        self.rewrites.absolute(health.rewrites);
        self.failed_flushes.absolute(health.failed_flushes);
        self.store_failed.set(f64::from(u8::from(health.store_error.is_some())));
        self.store_degraded.set(f64::from(u8::from(health.store_degraded.is_some())));
    }
}

/// An answer that says which tier gave it.
pub(crate) trait Tiered {
    fn tier(&self) -> Tier;
}

impl<T: Tiered> Tiered for Result<T, Error> {
    fn tier(&self) -> Tier {
        self.as_ref().map_or(Tier::Error, Tiered::tier)
    }
}

impl Tiered for Source {
    fn tier(&self) -> Tier {
        match self {
            Self::Shared => Tier::Shared,
            Self::Merged => Tier::Merged,
            Self::Local => Tier::Local,
        }
    }
}

impl Tiered for Read {
    fn tier(&self) -> Tier {
        self.source.tier()
    }
}

impl Tiered for Listing {
    fn tier(&self) -> Tier {
        self.source.tier()
    }
}

impl Tiered for Written {
    fn tier(&self) -> Tier {
        match self.placement {
            Placement::Shared => Tier::Shared,
            Placement::Local => Tier::Local,
        }
    }
}

/// Redis or nothing.
impl Tiered for Imported {
    fn tier(&self) -> Tier {
        Tier::Shared
    }
}

impl Tiered for Cleared {
    fn tier(&self) -> Tier {
        if self.complete { Tier::Shared } else { Tier::Local }
    }
}

/// Several reads: the tier furthest from Redis.
impl Tiered for std::collections::BTreeMap<crate::key::Uid, Result<Read, Error>> {
    fn tier(&self) -> Tier {
        self.values().map(Tiered::tier).max_by_key(|tier| *tier as usize).unwrap_or(Tier::Shared)
    }
}

#[cfg(test)]
mod tests {
    use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};

    use super::*;

    fn value(snapshotter: &Snapshotter, name: &str, label: (&str, &str)) -> Option<DebugValue> {
        let metrics = snapshotter.snapshot().into_vec();
        let found = metrics.into_iter().find(|(key, ..)| {
            let key = key.key();
            key.name() == name && key.labels().any(|found| (found.key(), found.value()) == label)
        });
        found.map(|(.., value)| value)
    }

    #[test]
    fn calls_are_told_with_their_tier_and_time() {
        let recorder = DebuggingRecorder::new();
        let snapshotter = recorder.snapshotter();
        let metrics = metrics::with_local_recorder(&recorder, || Metrics::new(&"p".parse().unwrap()));
        for (index, (call, name)) in CALLS.iter().enumerate() {
            assert_eq!(*call as usize, index, "{name} is counted as another");
        }
        for (index, (tier, name)) in TIERS.iter().enumerate() {
            assert_eq!(*tier as usize, index, "{name} is counted as another");
        }
        metrics.called(MeasuredCall::Upsert, Tier::Local, Duration::from_millis(250));
        let snapshot = snapshotter.snapshot().into_vec();
        let told = |call: &str, tier: &str| {
            snapshot.iter().find_map(|(key, _, _, value)| {
                let labels: Vec<_> = key.key().labels().map(|label| (label.key(), label.value())).collect();
                (labels == [("prefix", "p"), ("call", call), ("tier", tier)]).then_some(value)
            })
        };
        assert_eq!(told("upsert", "local"), Some(&DebugValue::Histogram(vec![0.25.into()])));
        assert_eq!(told("upsert", "shared"), Some(&DebugValue::Histogram(vec![])));
        metrics.read(true);
        assert_eq!(value(&snapshotter, "contact_cache_reads_total", ("found", "true")), Some(DebugValue::Counter(1)));
    }
}
