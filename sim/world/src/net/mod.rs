//! The network: byte streams between hosts, with the failures of real ones. Not madsim's, which is too kind (a connect
//! through a partition is refused at once, writes into one succeed without bound, a killed peer is always noticed).
//!
//! Modelled, for each direction of each link: latency (a base, jitter, now and then a tail, and what a fault adds),
//! bandwidth (a queue without limit, in which acknowledgements wait too), loss and cuts. Nothing overtakes on one
//! connection; connections overtake each other. A cut loses what is sent into it and what is on the wire when it begins,
//! loss loses single segments at random. Of what is lost:
//!
//! - A SYN or its answer: the connect hangs, and the SYN is sent again 1, 3, 7, 15, 31 and 63 s after the first; the
//!   connect times out at 127 s. The target's kernel answers without `accept`, so also while its process is paused; it
//!   refuses where nobody listens, drops the SYN in silence when 512 connections wait, and does nothing without power.
//! - Data and FIN: sent again after 200 ms, then at doubling intervals of up to 120 s, until they get through: after a cut
//!   a stream stands still for up to as long again as the cut lasted. Later data waits behind.
//! - Acknowledgements: the sender's window stays closed and its timeout runs, although the data arrived.
//! - A reset: lost for good. The peer finds out by sending, or by a keepalive.
//!
//! A sender may have 64 KiB that its peer has not read; beyond, writes wait. A client's stream fails with `TimedOut`
//! when sent data is unacknowledged for 30 s, when a peer that acknowledges has no room for 30 s, or when keepalives
//! (after 10 s of silence, then every 5 s) stay unanswered until 30 s of silence: Linux's behaviour under the options
//! that `Network` promises. A stream that was accepted has Redis's options, whoever accepted it: 924.6 s, for ever, and 600 s;
//! those that `TokioListener` accepts notice a dead peer as soon as a client does. A close sends FIN behind
//! the data, or a reset if received data was not read. A process that is killed closes all its streams so; a host that
//! loses power says nothing, and answers with resets once it is back. A reset can come behind any byte; what arrived
//! before it can be read. After an error a stream reads as ended and refuses writes, as Linux's do. Reads and writes can
//! be made to move fewer bytes than they could. Both ends send at once (`TCP_NODELAY`), so no acknowledgement is worth
//! delaying: none would be waited for.
//!
//! Names: a host's name is its `Display`, until it is given other addresses. A host's resolver can be slow, fail, or
//! answer wrongly or with several addresses. An address at which nobody listens refuses; one whose host has no power is
//! silent, as is one whose host sleeps; one whose process hangs accepts, and says nothing. Connections that stand know nothing of names.
//!
//! Not modelled: congestion, fast retransmission (a lost segment always costs the timeout, as the last one of a request
//! does), a full queue before a slow link, `TIME_WAIT` and the number of ports, ICMP.

mod capture;
mod conn;
mod half;
mod handshake;
mod link;
mod liveness;
mod names;
mod sleep;
mod stream;
mod tcp;
mod watch;

#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use seedbed_env::{Address, Endpoint, Network};

pub use self::{
    capture::{Capture, Kind, Packet},
    link::{Latency, SLOWEST_SEGMENT_US},
    names::{Resolver, Says},
    stream::{SimListener, SimStream},
    tcp::Counters,
};
use self::{
    conn::ConnPhase,
    half::Half,
    tcp::{ListeningSocket, Tcp},
};
use super::{
    Host, Trace,
    clock::Clock,
    incarnation::Incarnation,
    net_event::{NetEvent, NetHappening},
};
use crate::{Stop, seed::Seed};

/// The network of a run. Cloning gives the same network.
#[derive(Clone)]
pub struct Net(Arc<Mutex<Tcp>>);

impl Net {
    pub(super) fn new(seed: Seed, clock: Clock, trace: Arc<Trace>) -> Self {
        Self(Arc::new(Mutex::new(Tcp::new(seed, clock, trace))))
    }

    /// Loses every segment from `from` to `to`, or no longer. The other direction is another link.
    pub fn cut(&self, from: impl Into<Host>, to: impl Into<Host>, cut: bool) {
        self.with(|tcp| tcp.cut(from.into(), to.into(), cut));
    }

    /// Spreads the latencies of a link so from now on; or as it was at first.
    pub fn set_latency(&self, from: impl Into<Host>, to: impl Into<Host>, latency: Option<Latency>) {
        self.with(|tcp| tcp.link_mut(from.into(), to.into()).set_latency(latency));
    }

    /// Loses so many of a thousand segments (also handshakes, acknowledgements, resets, keepalives) from now on.
    pub fn set_loss(&self, from: impl Into<Host>, to: impl Into<Host>, per_mille: u32) {
        self.with(|tcp| tcp.link_mut(from.into(), to.into()).loss_per_mille = per_mille);
    }

    /// Carries at most so many bytes a second from now on, headers included; what comes faster queues, without a limit.
    pub fn set_bandwidth(&self, from: impl Into<Host>, to: impl Into<Host>, bytes_per_s: Option<u64>) {
        self.with(|tcp| tcp.link_mut(from.into(), to.into()).set_bandwidth(bytes_per_s));
    }

    /// Lets so many of a thousand reads and writes at a host move fewer bytes than they could.
    pub fn set_short(&self, host: impl Into<Host>, per_mille: u32) {
        let host = host.into();
        self.with(|tcp| {
            if per_mille == 0 {
                tcp.short.remove(&host);
                return;
            }
            let seed = tcp.seed;
            tcp.short.entry(host).or_insert_with(|| (0, seed.stream(&format!("short {host}")))).0 = per_mille;
        });
    }

    /// From now on a machine has its name and its address.
    pub(super) fn add(&self, host: Host) {
        if let Host::Server { .. } = host {
            self.with(|tcp| tcp.names.add(host));
        }
    }

    pub(super) fn server(&self, name: &'static str) -> Host {
        self.with(|tcp| tcp.names.server(name))
    }

    /// Gives a name these addresses, in this order; none: the name does not exist (any more).
    pub fn set_addresses(&self, name: &str, hosts: &[Host]) {
        self.with(|tcp| tcp.names.set_addresses(name, hosts.to_vec()));
    }

    /// Makes the resolver of a host answer so from now on, also what was asked before.
    pub fn set_resolver(&self, asker: impl Into<Host>, resolver: Resolver) {
        self.with(|tcp| tcp.names.set_resolver(asker.into(), resolver));
    }

    /// Notes every packet that is sent from now on.
    pub fn record(&self, capture: &Capture) {
        self.with(|tcp| tcp.capture = Some(capture.clone()));
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
                if (hosts == [a, b] || hosts == [b, a]) && conn.ends[0].phase != ConnPhase::Connecting {
                    tcp.reset(id);
                    count += 1;
                }
            }
            count
        })
    }

    /// Something on the way, a firewall for one, forgets the connections that stand between two hosts: whatever is on the
    /// wire or sent on them from now on is lost in silence, for good. Connections made later are as good as ever. Says
    /// how many there were.
    pub fn forget_between(&self, a: impl Into<Host>, b: impl Into<Host>) -> usize {
        let (a, b) = (a.into(), b.into());
        self.with(|tcp| tcp.forget_between(a, b))
    }

    /// Resets every connection between two hosts when `bytes` more have arrived from `from` at `to`, which can still
    /// read them. Says how many connections there are. One on which less arrives lives on, and waits for the rest.
    pub fn reset_after(&self, from: impl Into<Host>, to: impl Into<Host>, bytes: u64) -> usize {
        let (from, to) = (from.into(), to.into());
        self.with(|tcp| {
            let link = tcp.link(from, to);
            let mut count = 0;
            for id in tcp.conns.ids() {
                let Some(conn) = tcp.conns.get(id) else { continue };
                for half in conn.halves.iter_mut().filter(|half| half.link == link) {
                    half.plan_reset(bytes);
                    count += 1;
                }
            }
            count
        })
    }

    /// Forgets what [`Net::reset_after`] planned and is still to come.
    pub fn forget_resets(&self, from: impl Into<Host>, to: impl Into<Host>) {
        let (from, to) = (from.into(), to.into());
        self.with(|tcp| {
            let link = tcp.link(from, to);
            for id in tcp.conns.ids() {
                let halves = tcp.conns.get(id).into_iter().flat_map(|conn| &mut conn.halves);
                halves.filter(|half| half.link == link).for_each(Half::forget_reset);
            }
        });
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

    /// When the processes on a host asked for a connection, wherever that led, in microseconds since the start of the run.
    pub fn attempts(&self, host: impl Into<Host>) -> Vec<u64> {
        self.with(|tcp| tcp.attempts.get(&host.into()).cloned().unwrap_or_default())
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

    /// The host falls asleep: see [`suspend`](super::suspend).
    pub(super) fn suspend(&self, host: Host) {
        self.with(|tcp| tcp.suspend(host));
    }

    pub(super) fn wake(&self, host: Host) {
        self.with(|tcp| tcp.wake(host));
    }

    pub(super) fn listen(&self, incarnation: &Arc<Incarnation>, port: u16) -> io::Result<SimListener> {
        incarnation.check()?;
        self.with(|tcp| {
            let at = (incarnation.host, port);
            if tcp.listeners.contains_key(&at) {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            let listener =
                ListeningSocket { incarnation: Arc::clone(incarnation), queue: VecDeque::new(), waker: None };
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

    async fn connect_to(&self, to: Host, port: u16) -> io::Result<SimStream> {
        self.incarnation.check()?;
        let id = self.net.with(|tcp| tcp.connect(&self.incarnation, to, port));
        let stream = SimStream::new(self.net.clone(), Arc::clone(&self.incarnation), id, conn::CLIENT);
        std::future::poll_fn(|context| stream.poll_connected(context)).await?;
        Ok(stream)
    }
}

impl Network for SimNetwork {
    type Stream = SimStream;
    type Listener = SimListener;

    fn listen(&self, port: u16) -> io::Result<SimListener> {
        self.net.listen(&self.incarnation, port)
    }

    async fn resolve(&self, endpoint: &Endpoint) -> io::Result<Vec<Address>> {
        let (name, port) = match endpoint {
            Endpoint::Tcp { host, port } => (host, *port),
            Endpoint::Tls { .. } | Endpoint::Unix(_) => {
                let message = "the simulated network has neither TLS nor Unix sockets";
                return Err(io::Error::new(io::ErrorKind::Unsupported, message));
            }
        };
        self.incarnation.check()?;
        let asker = self.incarnation.host;
        let (delay_us, clock) = self.net.with(|tcp| {
            let now_us = tcp.clock.now_us();
            tcp.attempts.entry(asker).or_default().push(now_us);
            (tcp.names.delay_us(asker), tcp.clock.clone())
        });
        if delay_us > 0 {
            clock.sleep_us(delay_us).await;
        }
        let hosts = self.net.with(|tcp| tcp.resolve(asker, name))?;
        if hosts.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, format!("host {name:?} has no address")));
        }
        Ok(hosts.into_iter().map(|host| Address::Tcp((host.address(), port).into())).collect())
    }

    async fn connect(&self, endpoint: &Endpoint, address: &Address) -> io::Result<SimStream> {
        let Address::Tcp(SocketAddr::V4(to)) = address else {
            let message = format!("{address} is no address of {endpoint:?} in the simulated network");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        };
        let host = self.net.with(|tcp| tcp.names.host_at(*to.ip()));
        self.connect_to(host, to.port()).await
    }
}

/// Resolves an endpoint and tries its addresses one after the other, each until it refuses or times out: what clients do
/// that have nothing better. Of the failures the last is told.
///
/// # Errors
/// As those of the network.
pub async fn connect_in_turn<N: Network>(network: &N, endpoint: &Endpoint) -> io::Result<N::Stream> {
    let mut outcome = Err(io::ErrorKind::NotFound.into());
    for address in network.resolve(endpoint).await? {
        outcome = network.connect(endpoint, &address).await;
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}
