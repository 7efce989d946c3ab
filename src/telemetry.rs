//! What the client tells the recorder of metrics and the subscriber of `tracing` that the application has installed. Both are
//! code of the application, called from the client's background tasks: a panic in there must not end them.
//!
//! Each call is guarded by itself. Restarting a task after any panic was rejected: what it was in the middle of (a batch
//! taken from the store, an attempt to connect) would be lost with it, and a recorder that always panics would keep it from
//! its work for ever. A panic of the client itself still ends its task, and every call says so.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use metrics::{Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn};

/// Logs as `tracing`'s macro of this level does, guarded.
macro_rules! log {
    ($level:ident, $($what:tt)*) => {
        $crate::telemetry::guarded(|| tracing::$level!($($what)*))
    };
}
pub(crate) use log;

/// Runs code of the application. Its panic ends here, and is logged once.
pub(crate) fn guarded(tell: impl FnOnce()) {
    static LOGGED: AtomicBool = AtomicBool::new(false);
    if catch_unwind(AssertUnwindSafe(tell)).is_ok() || LOGGED.swap(true, Ordering::Relaxed) {
        return;
    }
    // It may be the subscriber that is broken.
    let _ = catch_unwind(|| {
        tracing::error!(
            "the application's recorder of metrics, or its subscriber, panicked: the cache goes on without"
        );
    });
}

pub(crate) fn counter(counter: Counter) -> Counter {
    Counter::from_arc(Arc::new(Guarded(counter)))
}

pub(crate) fn gauge(gauge: Gauge) -> Gauge {
    Gauge::from_arc(Arc::new(Guarded(gauge)))
}

pub(crate) fn histogram(histogram: Histogram) -> Histogram {
    Histogram::from_arc(Arc::new(Guarded(histogram)))
}

/// A metric whose recorder may panic.
struct Guarded<T>(T);

impl CounterFn for Guarded<Counter> {
    fn increment(&self, value: u64) {
        guarded(|| self.0.increment(value));
    }

    fn absolute(&self, value: u64) {
        guarded(|| self.0.absolute(value));
    }
}

impl GaugeFn for Guarded<Gauge> {
    fn increment(&self, value: f64) {
        guarded(|| self.0.increment(value));
    }

    fn decrement(&self, value: f64) {
        guarded(|| self.0.decrement(value));
    }

    fn set(&self, value: f64) {
        guarded(|| self.0.set(value));
    }
}

impl HistogramFn for Guarded<Histogram> {
    fn record(&self, value: f64) {
        guarded(|| self.0.record(value));
    }
}
