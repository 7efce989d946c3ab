//! Watches for the moments that faults wait for, between two steps of a program.
//!
//! Whoever brings a moment tells it here: the disks, servers in the world, the recorder of metrics. While no fault waits, that
//! changes no step of the run. The nemesis hears of one when it next runs, at the same instant; a server keeps a reply back for
//! that microsecond, and a disk takes longer than that for any operation. Moments that come while the nemesis is busy with
//! another fault are not counted.

use std::{
    collections::BTreeMap,
    future::poll_fn,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
};

use madsim::task::NodeId;

use super::Host;

/// The watch of one run. Clones are the same.
#[derive(Clone, Default)]
pub struct Moments(Arc<Mutex<WatchState>>);

/// What has just happened on a host, or is about to.
#[derive(Clone, Copy, Debug)]
pub enum Step<'a> {
    /// A file has been changed or synced, and the process does not know that yet.
    File {
        /// The path under which the process opened it.
        path: &'a Path,
        /// Whether it still has that path: it was neither renamed nor removed.
        has_path: bool,
        /// What was done.
        verb: Verb,
    },
    /// A file is about to get another name.
    Renames(&'a Path),
    /// A server has these words of a request, and has done nothing yet.
    Asked(&'a [Vec<u8>]),
    /// A server has done what it was asked with these words, and its reply has not left.
    Done(&'a [Vec<u8>]),
    /// Something that a program or its observer tells by name.
    Told(&'a str),
}

/// What a process may ask of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// Bytes are read.
    Read,
    /// Bytes or a length are written to the page cache.
    Write,
    /// A file or a directory is synced.
    Sync,
    /// A name is made, changed or removed.
    Name,
}

/// Whether a step is the one that a fault waits for.
pub type Awaited = Box<dyn Fn(&Step<'_>) -> bool + Send>;

/// A fault for which its moment has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Struck {
    /// Its number in the plan.
    pub fault: u32,
    /// The instance that brought the moment.
    pub instance: u32,
}

#[derive(Default)]
struct WatchState {
    /// By the number of the fault.
    waiting: BTreeMap<u32, Waiting>,
    listens: bool,
    struck: Option<Struck>,
    waker: Option<Waker>,
    processes: BTreeMap<NodeId, u32>,
}

struct Waiting {
    is_meant: Awaited,
    /// Moments that are let pass before.
    passes: u32,
    /// The instances that it has to come on; any if there are none.
    instances: Vec<u32>,
}

impl Moments {
    /// A fault waits for such a step after so many that it lets pass, on one of these instances; on any if none is given.
    pub fn wait_for(&self, fault: u32, is_meant: Awaited, passes: u32, instances: &[u32]) {
        let waiting = Waiting { is_meant, passes, instances: instances.to_vec() };
        self.state().waiting.insert(fault, waiting);
    }

    /// A fault waits no longer.
    pub fn forget(&self, fault: u32) {
        let mut state = self.state();
        state.waiting.remove(&fault);
        state.struck.take_if(|struck| struck.fault == fault);
    }

    /// Whether any fault waits, or its moment has just come.
    pub fn is_awaited(&self) -> bool {
        let state = self.state();
        !state.waiting.is_empty() || state.struck.is_some()
    }

    /// Whether a moment that comes now is counted.
    pub fn is_listened_to(&self) -> bool {
        self.state().listens
    }

    /// The next fault whose moment comes. Cancel safe: moments count while this is awaited.
    pub async fn struck(&self) -> Struck {
        let _listening = Listening::begin(self);
        poll_fn(|context| {
            let mut state = self.state();
            state.waker = Some(context.waker().clone());
            state.struck.take().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// A moment has come on a host. Says whether a fault strikes: whoever brought it waits for a microsecond then.
    pub fn come(&self, step: &Step<'_>, host: Host) -> bool {
        let Host::Instance(instance) = host else { return false };
        let mut state = self.state();
        if !state.listens {
            return false;
        }
        let meant = |waiting: &Waiting| {
            (waiting.instances.is_empty() || waiting.instances.contains(&instance)) && (waiting.is_meant)(step)
        };
        let Some((&fault, waiting)) = state.waiting.iter_mut().find(|(_, waiting)| meant(waiting)) else {
            return false;
        };
        if waiting.passes > 0 {
            waiting.passes -= 1;
            return false;
        }
        state.waiting.remove(&fault);
        state.struck = Some(Struck { fault, instance });
        state.listens = false;
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    /// A process has begun on a host: its tasks run on this node.
    pub(super) fn begun(&self, node: NodeId, host: Host) {
        if let Host::Instance(instance) = host {
            self.state().processes.insert(node, instance);
        }
    }

    /// The host whose process runs now, if it is an instance's.
    pub fn running(&self) -> Option<Host> {
        let node = madsim::plugin::node();
        self.state().processes.get(&node).copied().map(Host::Instance)
    }

    fn state(&self) -> MutexGuard<'_, WatchState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// While it lives, moments count.
struct Listening<'a>(&'a Moments);

impl<'a> Listening<'a> {
    fn begin(moments: &'a Moments) -> Self {
        moments.state().listens = true;
        Self(moments)
    }
}

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.listens = false;
        state.waker = None;
    }
}
