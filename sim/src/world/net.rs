//! The network: byte streams between hosts, with the failures of real ones. Not madsim's, which is too kind (a connect
//! through a partition is refused at once, writes into one succeed without bound, a killed peer is always noticed).
//!
//! Modelled, for each direction of each link: latency (a base for the link, jitter, now and then a tail, and what a
//! fault adds) and cuts. A cut loses what is sent into it and what is on the wire when it begins:
//!
//! - A SYN or its answer: the connect hangs, and the SYN is sent again 1, 3, 7, 15, 31 and 63 s after the first; the
//!   connect times out at 127 s. The target's kernel answers without `accept`, so also while its process is paused; it
//!   refuses where nobody listens, drops the SYN in silence when 511 connections wait, and does nothing without power.
//! - Data and FIN: sent again after 200 ms, then at doubling intervals of up to 120 s, until the link is open at such a
//!   moment: a stream stands still for up to as long again as the cut lasted. Later data waits behind.
//! - Acknowledgements: the sender's window stays closed and its timeout runs, although the data arrived.
//! - A reset: lost for good. The peer finds out by sending, or by a keepalive.
//!
//! A sender may have 64 KiB that its peer has not read; beyond, writes wait. A client's stream fails with `TimedOut`
//! when sent data is unacknowledged for 30 s, or when keepalives (after 10 s of silence, then every 5 s) stay unanswered
//! until 30 s of silence: Linux's behaviour under the options that `Network` promises. A server's stream has Redis's
//! options: 924.6 s and 600 s. A close sends FIN behind the data, or a reset if received data was not read. A process
//! that is killed closes all its streams so; a host that loses power says nothing, and answers with resets once it is
//! back. After an error a stream reads as ended and refuses writes, as Linux's do.
//!
//! Not modelled: bandwidth, congestion, single lost segments, acknowledgements already under way when a cut begins
//! (they arrive), `TIME_WAIT` and the number of ports, the user timeout against a peer that acknowledges but does not
//! read, name resolution (it is immediate: a host's name is its `Display`).

mod conn;
mod half;
mod link;
mod stream;
mod tcp;

#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex, PoisonError},
};

use contact_cache::env::{Endpoint, Network};

use self::{
    conn::{ConnId, Phase, Side},
    tcp::{Listener, Tcp},
};
pub use self::{
    stream::{SimListener, SimStream},
    tcp::Counters,
};
use super::{Host, Trace, clock::Clock, process::Incarnation};
use crate::{history::Stop, seed::Seed};

/// The network of a run. Cloning gives the same network.
#[derive(Clone)]
pub struct Net(Arc<Mutex<Tcp>>);

/// Something that happens on the network at an instant planned before.
pub(super) struct NetEvent {
    conn: ConnId,
    /// The sender of what is sent, the receiver of a reset, the end that looks or waits.
    side: Side,
    what: What,
}

/// Of arrivals: the epoch of the link when they were sent. A cut in between means that they were lost.
enum What {
    /// A SYN is sent, for the time of this number.
    SendSyn(u32),
    SynArrives(u64),
    SynAckArrives(u64),
    RefusalArrives(u64),
    /// The front segment arrives.
    Deliver,
    /// What was lost is sent again.
    Retransmit,
    ResetArrives(u64),
    /// A waiting writer hears of room.
    Writable,
    /// An end looks whether its peer is alive.
    Watch,
}

impl Net {
    pub(super) fn new(seed: Seed, clock: Clock, trace: Arc<Trace>) -> Self {
        Self(Arc::new(Mutex::new(Tcp::new(seed, clock, trace))))
    }

    /// Loses every segment from `from` to `to`, or no longer. The other direction is another link.
    pub fn cut(&self, from: impl Into<Host>, to: impl Into<Host>, cut: bool) {
        self.with(|tcp| tcp.link_mut(from.into(), to.into()).set_cut(cut));
    }

    /// Makes every segment sent from now on take this much longer, in simulated microseconds.
    pub fn set_extra_us(&self, from: impl Into<Host>, to: impl Into<Host>, extra_us: u64) {
        self.with(|tcp| tcp.link_mut(from.into(), to.into()).extra_us = extra_us);
    }

    /// Resets every connection between two hosts: both ends see it now. Says how many there were.
    pub fn reset_between(&self, a: impl Into<Host>, b: impl Into<Host>) -> usize {
        let (a, b) = (a.into(), b.into());
        self.with(|tcp| {
            let mut count = 0;
            for id in tcp.conns.ids() {
                let Some(conn) = tcp.conns.get(id) else { continue };
                let hosts = [conn.ends[0].host, conn.ends[1].host];
                if (hosts == [a, b] || hosts == [b, a]) && conn.ends[0].phase != Phase::Connecting {
                    tcp.reset(id);
                    count += 1;
                }
            }
            count
        })
    }

    /// How many segments between two hosts, either way, a fault has lost or slowed so far.
    pub fn troubled(&self, a: impl Into<Host>, b: impl Into<Host>) -> u64 {
        let (a, b) = (a.into(), b.into());
        self.with(|tcp| tcp.link_mut(a, b).troubled + tcp.link_mut(b, a).troubled)
    }

    /// What the network has done so far.
    pub fn counters(&self) -> Counters {
        self.with(|tcp| tcp.counters)
    }

    /// The connections that have an end at this host which its application has not closed. Zero at the end of a run is
    /// what leaks nothing.
    pub fn open_connections(&self, host: impl Into<Host>) -> usize {
        let host = host.into();
        self.with(|tcp| {
            let ids = tcp.conns.ids();
            ids.into_iter()
                .filter_map(|id| {
                    tcp.conns.get(id).map(|conn| conn.ends.iter().any(|end| end.host == host && end.handle))
                })
                .filter(|open| *open)
                .count()
        })
    }

    pub(super) fn on(&self, event: NetEvent) {
        self.with(|tcp| tcp.on(event));
    }

    /// The process (and with it the host, if power is lost) goes down, with its listeners and streams.
    pub(super) fn host_down(&self, host: Host, how: Stop) {
        self.with(|tcp| {
            let ports: Vec<_> = tcp.listeners.keys().filter(|(of, _)| *of == host).copied().collect();
            for port in ports {
                tcp.listeners.remove(&port);
            }
            if how == Stop::PowerLost {
                tcp.powered.insert(host, false);
            }
            for id in tcp.conns.ids() {
                for side in [conn::CLIENT, conn::SERVER] {
                    if tcp.conns.get(id).is_some_and(|conn| conn.ends[side].host == host) {
                        if how == Stop::PowerLost { tcp.vanish(id, side) } else { tcp.close(id, side) }
                    }
                }
            }
        });
    }

    /// The host has power again.
    pub(super) fn host_up(&self, host: Host) {
        self.with(|tcp| {
            tcp.powered.insert(host, true);
        });
    }

    pub(super) fn listen(&self, incarnation: &Arc<Incarnation>, port: u16) -> io::Result<SimListener> {
        incarnation.check()?;
        self.with(|tcp| {
            let at = (incarnation.host, port);
            if tcp.listeners.contains_key(&at) {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            let listener = Listener { incarnation: Arc::clone(incarnation), queue: VecDeque::new(), waker: None };
            tcp.listeners.insert(at, listener);
            Ok(SimListener::new(self.clone(), Arc::clone(incarnation), port))
        })
    }

    /// Runs `act` under the lock, and wakes those that it names when the lock is released: a waker may run anything.
    fn with<T>(&self, act: impl FnOnce(&mut Tcp) -> T) -> T {
        let mut tcp = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let output = act(&mut tcp);
        if tcp.wakers.is_empty() {
            return output;
        }
        let wakers = std::mem::take(&mut tcp.wakers);
        drop(tcp);
        wakers.into_iter().for_each(std::task::Waker::wake);
        output
    }
}

/// The network as one incarnation of a host sees it.
#[derive(Clone)]
pub struct SimNetwork {
    net: Net,
    incarnation: Arc<Incarnation>,
}

impl SimNetwork {
    pub(super) fn new(net: Net, incarnation: Arc<Incarnation>) -> Self {
        Self { net, incarnation }
    }

    /// Listens on a port of this host, until the listener is dropped or the process ends.
    pub fn listen(&self, port: u16) -> io::Result<SimListener> {
        self.net.listen(&self.incarnation, port)
    }
}

impl Network for SimNetwork {
    type Stream = SimStream;

    async fn connect(&self, endpoint: &Endpoint) -> io::Result<SimStream> {
        let (host, port) = match endpoint {
            Endpoint::Tcp { host, port } => (host, *port),
            Endpoint::Tls { .. } | Endpoint::Unix(_) => {
                let message = "the simulated network has neither TLS nor Unix sockets";
                return Err(io::Error::new(io::ErrorKind::Unsupported, message));
            }
        };
        let to = host.parse().map_err(|error| io::Error::new(io::ErrorKind::NotFound, error))?;
        self.incarnation.check()?;
        let id = self.net.with(|tcp| tcp.connect(&self.incarnation, to, port));
        let stream = SimStream::new(self.net.clone(), Arc::clone(&self.incarnation), id, conn::CLIENT);
        std::future::poll_fn(|context| stream.poll_connected(context)).await?;
        Ok(stream)
    }
}
