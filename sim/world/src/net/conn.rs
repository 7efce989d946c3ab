//! A connection: two ends and the two directions between them.

use std::{
    collections::VecDeque,
    io,
    sync::Arc,
    task::{Context, Waker},
};

use super::{
    half::{Half, slim},
    liveness::Liveness,
};
pub(super) use crate::net_event::{CLIENT, ConnId, ConnSide, SERVER};
use crate::{Host, incarnation::Incarnation};

/// Where an end is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnPhase {
    /// The client has sent a SYN.
    Connecting,
    /// The server's kernel knows of the connection at most from a SYN.
    Embryo,
    /// Established, and in the listener's queue.
    Queued,
    /// Established, and in the hands of an application.
    Open,
    /// Closed by the application; the kernel still sends what is left.
    Closed,
    /// The host's kernel knows nothing of it (any more), and answers with a reset if it is running.
    Gone,
}

/// One end of a connection.
pub(super) struct ConnEnd {
    pub(super) host: Host,
    pub(super) incarnation: Option<Arc<Incarnation>>,
    pub(super) phase: ConnPhase,
    /// An application holds a stream (or a connect that is under way).
    pub(super) handle: bool,
    /// What the application has yet to be told.
    pub(super) error: Option<io::ErrorKind>,
    pub(super) read_waker: Option<Waker>,
    pub(super) write_waker: Option<Waker>,
    /// Everything that the peer will send has arrived.
    pub(super) fin_received: bool,
    pub(super) fin_sent: bool,
    /// When something last arrived, or a keepalive was answered.
    pub(super) heard_us: u64,
    pub(super) liveness: &'static Liveness,
    received: VecDeque<Vec<u8>>,
    /// Bytes of the first of `received` that were read.
    consumed: usize,
}

impl ConnEnd {
    pub(super) fn new(host: Host, phase: ConnPhase, liveness: &'static Liveness) -> Self {
        Self {
            host,
            incarnation: None,
            phase,
            handle: false,
            error: None,
            read_waker: None,
            write_waker: None,
            fin_received: false,
            fin_sent: false,
            heard_us: 0,
            liveness,
            received: VecDeque::new(),
            consumed: 0,
        }
    }

    pub(super) fn receive(&mut self, bytes: Vec<u8>) {
        if !bytes.is_empty() {
            self.received.push_back(bytes);
        }
    }

    pub(super) fn has_unread(&self) -> bool {
        !self.received.is_empty()
    }

    /// Bytes that arrived and were not read.
    pub(super) fn unread(&self) -> usize {
        self.received.iter().map(Vec::len).sum::<usize>() - self.consumed
    }

    /// Moves received bytes to `buffer`, at most `limit`; says how many.
    pub(super) fn read(&mut self, buffer: &mut tokio::io::ReadBuf<'_>, limit: usize) -> usize {
        let limit = limit.min(buffer.remaining());
        let mut count = 0;
        while count < limit
            && let Some(front) = self.received.front()
        {
            let rest = &front[self.consumed..];
            let taken = rest.len().min(limit - count);
            buffer.put_slice(&rest[..taken]);
            count += taken;
            self.consumed += taken;
            if self.consumed == front.len() {
                self.received.pop_front();
                self.consumed = 0;
            }
        }
        slim(&mut self.received);
        count
    }

    /// The application has let go.
    pub(super) fn release(&mut self) {
        self.handle = false;
        self.received.clear();
        self.consumed = 0;
        self.read_waker = None;
        self.write_waker = None;
    }

    /// The kernel forgets the connection. An application that holds it is told `error`.
    pub(super) fn die(&mut self, error: io::ErrorKind, wakers: &mut Vec<Waker>) {
        if matches!(self.phase, ConnPhase::Connecting | ConnPhase::Queued | ConnPhase::Open) {
            self.error = Some(error);
        }
        self.phase = ConnPhase::Gone;
        self.wake(wakers);
    }

    /// Wakes whoever waits for this end.
    pub(super) fn wake(&mut self, wakers: &mut Vec<Waker>) {
        wakers.extend(self.read_waker.take());
        wakers.extend(self.write_waker.take());
    }
}

/// A connection.
pub(super) struct Conn {
    /// Counts the connections of a run.
    pub(super) number: u32,
    pub(super) port: u16,
    pub(super) ends: [ConnEnd; 2],
    pub(super) halves: [Half; 2],
}

impl Conn {
    /// What it takes up, with its queues.
    #[cfg(test)]
    pub(super) fn memory_bytes(&self) -> usize {
        let received = |end: &ConnEnd| end.received.capacity() * size_of::<Vec<u8>>() + end.unread();
        size_of::<Self>()
            + self.ends.iter().map(received).sum::<usize>()
            + self.halves.iter().map(Half::memory_bytes).sum::<usize>()
    }

    /// Nothing will ever happen on it again, and nobody will ask.
    pub(super) fn is_over(&self) -> bool {
        self.ends
            .iter()
            .all(|end| !end.handle && matches!(end.phase, ConnPhase::Embryo | ConnPhase::Closed | ConnPhase::Gone))
            && self.halves.iter().all(Half::is_quiet)
    }
}

/// All connections of a run, by [`ConnId`].
#[derive(Default)]
pub(super) struct Conns {
    slots: Vec<ConnSlot>,
    free: Vec<usize>,
    numbers: u32,
}

struct ConnSlot {
    generation: u64,
    conn: Option<Box<Conn>>,
}

impl Conns {
    pub(super) fn next_number(&mut self) -> u32 {
        self.numbers = self.numbers.wrapping_add(1);
        self.numbers
    }

    pub(super) fn insert(&mut self, conn: Conn) -> ConnId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(ConnSlot { generation: 0, conn: None });
            self.slots.len() - 1
        });
        let slot = &mut self.slots[index];
        slot.generation += 1;
        slot.conn = Some(Box::new(conn));
        ConnId { index, generation: slot.generation }
    }

    pub(super) fn get(&mut self, id: ConnId) -> Option<&mut Conn> {
        let slot = self.slots.get_mut(id.index)?;
        if slot.generation == id.generation { slot.conn.as_deref_mut() } else { None }
    }

    pub(super) fn remove(&mut self, id: ConnId) {
        if self.get(id).is_some() {
            self.slots[id.index].conn = None;
            self.free.push(id.index);
        }
    }

    /// All of them, in a fixed order.
    pub(super) fn ids(&self) -> Vec<ConnId> {
        let ids = self.slots.iter().enumerate();
        ids.filter(|(_, slot)| slot.conn.is_some())
            .map(|(index, slot)| ConnId { index, generation: slot.generation })
            .collect()
    }
}

/// Leaves `waker` with the task of `context`.
pub(super) fn wait(waker: &mut Option<Waker>, context: &Context<'_>) {
    match waker {
        Some(waker) => waker.clone_from(context.waker()),
        None => *waker = Some(context.waker().clone()),
    }
}
