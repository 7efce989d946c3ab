//! One life of the process on a host. Everything that reaches the world carries it.

use std::{
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::{Host, held::Gauges};

/// One life of the process on a host.
pub(crate) struct Incarnation {
    pub(super) host: Host,
    /// Counts the starts on this host, from 1.
    pub(super) start: u32,
    ended: AtomicBool,
    pub(super) gauges: Arc<Gauges>,
}

impl Incarnation {
    pub(super) fn new(host: Host, start: u32) -> Self {
        Self { host, start, ended: AtomicBool::new(false), gauges: Arc::default() }
    }

    /// # Errors
    /// [`io::ErrorKind::BrokenPipe`] once it has ended.
    pub(super) fn check(&self) -> io::Result<()> {
        if self.ended.load(Ordering::Relaxed) {
            return Err(io::Error::new(io::ErrorKind::BrokenPipe, format!("{self:?} has ended")));
        }
        Ok(())
    }

    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

impl fmt::Debug for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "start {} of host {}", self.start, self.host)
    }
}
