//! The log of a thread, as an operator reads it.

use std::{
    io,
    sync::{Arc, Mutex, Once, PoisonError},
};

pub(crate) use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::{
    filter::dynamic_filter_fn,
    fmt::{MakeWriter, format::FmtSpan},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

/// Has `tracing` ask for a subscriber at each event, in every thread of the process. Call it before the first event.
///
/// `tracing` remembers for each event whether a subscriber wants it. As long as the process has only one, it asks the thread
/// that meets the event first. If that is the thread of another test, without a subscriber, the event is lost to the one that has it.
pub(crate) fn ask_each_time() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| tracing_subscriber::registry().with(dynamic_filter_fn(|_, _| false)).init());
}

/// What the log holds so far.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Collects what this thread logs from now on, down to this level, until the guard is dropped. No span that begins meanwhile
    /// may last longer.
    pub(crate) fn of_this_thread(level: LevelFilter) -> (Self, impl Drop) {
        ask_each_time();
        let log = Self::default();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(level)
            .with_span_events(if level == LevelFilter::TRACE { FmtSpan::NEW } else { FmtSpan::NONE })
            .with_ansi(false)
            .with_writer(log.clone())
            .finish();
        (log, subscriber.set_default())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()).expect("a log in UTF-8")
    }

    /// Its warnings.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let text = self.text();
        text.lines().filter(|line| line.contains(" WARN ")).map(str::to_owned).collect()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
