//! What applications hold: a stream, a listener. Each belongs to one incarnation of its host's process; once that has
//! ended, nothing that is done with them, not even dropping them, has an effect.

use std::{
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    Net,
    conn::{ConnId, ConnPhase, ConnSide, SERVER, wait},
    half::Payload,
};
use crate::{
    Host,
    held::{Holdable, HoldingGuard},
    incarnation::Incarnation,
};

/// The longest segment: a larger write arrives in pieces, each with its own latency.
const SEGMENT_BYTES: usize = 16 * 1024;

/// A stream of bytes between two hosts.
pub struct SimStream {
    net: Net,
    incarnation: Arc<Incarnation>,
    id: ConnId,
    side: ConnSide,
    _holding: HoldingGuard,
}

impl SimStream {
    pub(super) fn new(net: Net, incarnation: Arc<Incarnation>, id: ConnId, side: ConnSide) -> Self {
        let holding = HoldingGuard::new(&incarnation.gauges, Holdable::Socket);
        Self { net, incarnation, id, side, _holding: holding }
    }

    /// The host at the other end.
    pub fn peer(&self) -> Host {
        self.net.with(|tcp| tcp.conns.get(self.id).map_or(self.incarnation.host, |conn| conn.ends[1 - self.side].host))
    }

    pub(super) fn poll_connected(&self, context: &Context<'_>) -> Poll<io::Result<()>> {
        self.incarnation.check()?;
        self.net.with(|tcp| {
            let Some(conn) = tcp.conns.get(self.id) else { return Poll::Ready(Err(gone())) };
            let end = &mut conn.ends[self.side];
            if let Some(error) = end.error.take() {
                return Poll::Ready(Err(error.into()));
            }
            if end.phase == ConnPhase::Open {
                return Poll::Ready(Ok(()));
            }
            wait(&mut end.read_waker, context);
            Poll::Pending
        })
    }
}

impl AsyncRead for SimStream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.incarnation.check()?;
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        self.net.with(|tcp| {
            let mut limit = buffer.remaining();
            if !tcp.short.is_empty() {
                let unread = tcp.conns.get(self.id).map_or(0, |conn| conn.ends[self.side].unread());
                limit = tcp.shorten(self.incarnation.host, unread.min(limit));
            }
            let Some(conn) = tcp.conns.get(self.id) else { return Poll::Ready(Err(gone())) };
            let end = &mut conn.ends[self.side];
            let count = end.read(buffer, limit);
            if count > 0 {
                tcp.note_read(self.id, self.side, count);
                return Poll::Ready(Ok(()));
            }
            if end.fin_received {
                return Poll::Ready(Ok(())); // Before any error, as Linux's `SOCK_DONE`.
            }
            if let Some(error) = end.error.take() {
                return Poll::Ready(Err(error.into()));
            }
            if end.phase != ConnPhase::Open {
                return Poll::Ready(Ok(()));
            }
            wait(&mut end.read_waker, context);
            Poll::Pending
        })
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.incarnation.check()?;
        self.net.with(|tcp| {
            let now_us = tcp.clock.now_us();
            let Some(conn) = tcp.conns.get(self.id) else { return Poll::Ready(Err(gone())) };
            let end = &mut conn.ends[self.side];
            if let Some(error) = end.error.take() {
                return Poll::Ready(Err(error.into()));
            }
            if end.fin_sent || end.phase != ConnPhase::Open {
                return Poll::Ready(Err(gone()));
            }
            let half = &mut conn.halves[self.side];
            half.settle(now_us);
            let count = bytes.len().min(half.room()).min(SEGMENT_BYTES);
            if count > 0 {
                let count = tcp.shorten(self.incarnation.host, count);
                tcp.send(self.id, self.side, Payload::Bytes(bytes[..count].to_vec()));
                return Poll::Ready(Ok(count));
            }
            if bytes.is_empty() {
                return Poll::Ready(Ok(0));
            }
            wait(&mut end.write_waker, context);
            tcp.plan_room(self.id, self.side);
            Poll::Pending
        })
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.incarnation.check()?;
        self.net.with(|tcp| {
            let Some(conn) = tcp.conns.get(self.id) else { return };
            let end = &mut conn.ends[self.side];
            if end.phase == ConnPhase::Open && !std::mem::replace(&mut end.fin_sent, true) {
                tcp.send(self.id, self.side, Payload::Fin);
            }
        });
        Poll::Ready(Ok(()))
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        if self.incarnation.check().is_ok() {
            self.net.with(|tcp| tcp.close(self.id, self.side));
        }
    }
}

impl fmt::Debug for SimStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimStream").field("of", &self.incarnation).finish_non_exhaustive()
    }
}

/// A port that takes connections.
pub struct SimListener {
    net: Net,
    incarnation: Arc<Incarnation>,
    port: u16,
}

impl seedbed_env::Listener for SimListener {
    type Stream = SimStream;

    /// As [`seedbed_env::Listener::accept`].
    ///
    /// # Errors
    /// [`io::ErrorKind::BrokenPipe`] once the process that listens has ended.
    async fn accept(&self) -> io::Result<SimStream> {
        let id = std::future::poll_fn(|context| self.poll_accept(context)).await?;
        Ok(SimStream::new(self.net.clone(), Arc::clone(&self.incarnation), id, SERVER))
    }
}

impl SimListener {
    pub(super) fn new(net: Net, incarnation: Arc<Incarnation>, port: u16) -> Self {
        Self { net, incarnation, port }
    }

    fn poll_accept(&self, context: &Context<'_>) -> Poll<io::Result<ConnId>> {
        self.incarnation.check()?;
        self.net.with(|tcp| {
            let Some(listener) = tcp.listeners.get_mut(&(self.incarnation.host, self.port)) else {
                return Poll::Ready(Err(gone()));
            };
            while let Some(id) = listener.queue.pop_front() {
                // Those reset while they waited are left out.
                if let Some(conn) = tcp.conns.get(id).filter(|conn| conn.ends[SERVER].phase == ConnPhase::Queued) {
                    let end = &mut conn.ends[SERVER];
                    end.phase = ConnPhase::Open;
                    end.handle = true;
                    return Poll::Ready(Ok(id));
                }
            }
            wait(&mut listener.waker, context);
            Poll::Pending
        })
    }
}

impl Drop for SimListener {
    fn drop(&mut self) {
        if self.incarnation.check().is_err() {
            return;
        }
        self.net.with(|tcp| {
            let listener = tcp.listeners.remove(&(self.incarnation.host, self.port));
            for id in listener.into_iter().flat_map(|listener| listener.queue) {
                tcp.close(id, SERVER);
            }
        });
    }
}

impl fmt::Debug for SimListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimListener").field("of", &self.incarnation).field("port", &self.port).finish_non_exhaustive()
    }
}

/// The connection, or the process, is no more.
fn gone() -> io::Error {
    io::ErrorKind::BrokenPipe.into()
}
