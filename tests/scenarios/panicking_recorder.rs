//! The application's recorder of metrics panics at whatever it is told, and so does its subscriber of logs: an exporter with
//! a poisoned lock, a full pipe. The client calls both from its background tasks. A panic there would end the task, and with it
//! every reconnect and every write to the disk, in a process that looks healthy.
//!
//! Here the cache goes on without being heard: it connects, writes locally through an outage, and merges what was pending.

use std::sync::Arc;

use contact_cache::Placement;
use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};
use seedbed_contact::{faults::Persistence, history::Stop};
use tracing::{Event, Subscriber, span};

use crate::stage::{field, play, profile, uid};

#[test]
fn a_recorder_and_a_subscriber_that_always_panic_end_no_background_task() {
    play(async |stage| {
        let _recorder = metrics::set_default_local_recorder(&Broken);
        let _subscriber = tracing::subscriber::set_default(Broken);
        let cache = stage.open(1).await;
        stage.at_rest(&cache).await;
        let written = cache.upsert(&uid("ada"), &field("name", "Ada")).await.expect("Redis works");
        assert_eq!(written.placement, Placement::Shared);

        stage.redis.crash(&stage.world, Stop::Killed, Persistence::Kept);
        stage.away(&cache).await;
        let written = cache.upsert(&uid("dora"), &field("name", "Dora")).await.expect("the disk works");
        assert_eq!(written.placement, Placement::Local);
        stage.redis.start(&stage.world);
        stage.at_rest(&cache).await;
        assert!(!stage.stored("dora").is_empty(), "what was pending is merged");
        profile(&cache, "dora").await;
        stage.close(1, cache).await;
    });
}

/// Panics at whatever it is told.
struct Broken;

fn broken() -> ! {
    panic!("the application's own code is broken");
}

impl CounterFn for Broken {
    fn increment(&self, _: u64) {
        broken();
    }

    fn absolute(&self, _: u64) {
        broken();
    }
}

impl GaugeFn for Broken {
    fn increment(&self, _: f64) {
        broken();
    }

    fn decrement(&self, _: f64) {
        broken();
    }

    fn set(&self, _: f64) {
        broken();
    }
}

impl HistogramFn for Broken {
    fn record(&self, _: f64) {
        broken();
    }
}

impl Recorder for Broken {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(Arc::new(Self))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(Arc::new(Self))
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(Arc::new(Self))
    }
}

impl Subscriber for Broken {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        // Not what the simulation itself says.
        metadata.target().starts_with("contact_cache") && metadata.is_event()
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, _: &Event<'_>) {
        broken();
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}
