//! TCP as the kernels of all hosts play it: handshakes, segments, acknowledgements, retransmission, resets.
//!
//! It is driven by two kinds of call: those of applications (`connect`, `poll_read`, ...), and events that it put into
//! the run's queue itself. What is modelled is said in `world/net.rs`. An event that has lost its meaning (its
//! connection is over, its link was cut meanwhile) is ignored when it comes; none is ever taken out.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    sync::Arc,
    task::Waker,
};

use super::{
    NetEvent, What,
    conn::{
        CLIENT, CLIENT_LIVENESS, Conn, ConnId, Conns, End, ORPHAN_UNACKED_US, Phase, SERVER, SERVER_LIVENESS, Side,
    },
    half::{Half, Payload},
    link::Link,
};
use crate::{
    seed::Seed,
    world::{
        Host, Trace,
        clock::{Clock, Event},
        process::Incarnation,
    },
};

/// Connections that a listener holds for `accept`; a SYN beyond is dropped in silence.
const BACKLOG: usize = 511;
/// A SYN is sent at most this often (`tcp_syn_retries` is 6), at 0, 1, 3, 7, 15, 31 and 63 s; at 127 s it times out.
const SYN_TRIES: u32 = 7;

/// What the network has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections established.
    pub connects: u64,
    /// Connects that were refused.
    pub refused: u64,
    /// Resets that arrived or were injected, one for each end.
    pub resets: u64,
    /// Segments with data that arrived.
    pub segments: u64,
    /// Bytes that arrived.
    pub bytes: u64,
}

/// A socket that listens.
pub(super) struct Listener {
    pub(super) incarnation: Arc<Incarnation>,
    pub(super) queue: VecDeque<ConnId>,
    pub(super) waker: Option<Waker>,
}

/// The kernels and the links between them.
pub(super) struct Tcp {
    seed: Seed,
    pub(super) clock: Clock,
    trace: Arc<Trace>,
    links: Vec<Link>,
    link_of: BTreeMap<(Host, Host), usize>,
    pub(super) powered: BTreeMap<Host, bool>,
    pub(super) listeners: BTreeMap<(Host, u16), Listener>,
    pub(super) conns: Conns,
    pub(super) counters: Counters,
    /// To be woken when the lock is released.
    pub(super) wakers: Vec<Waker>,
}

impl Tcp {
    pub(super) fn new(seed: Seed, clock: Clock, trace: Arc<Trace>) -> Self {
        Self {
            seed,
            clock,
            trace,
            links: Vec::new(),
            link_of: BTreeMap::new(),
            powered: BTreeMap::new(),
            listeners: BTreeMap::new(),
            conns: Conns::default(),
            counters: Counters::default(),
            wakers: Vec::new(),
        }
    }

    /// The link, made when it is first spoken of.
    pub(super) fn link(&mut self, from: Host, to: Host) -> usize {
        let Self { seed, links, link_of, .. } = self;
        *link_of.entry((from, to)).or_insert_with(|| {
            links.push(Link::new(*seed, from, to));
            links.len() - 1
        })
    }

    pub(super) fn link_mut(&mut self, from: Host, to: Host) -> &mut Link {
        let index = self.link(from, to);
        &mut self.links[index]
    }

    /// Sends the first SYN.
    pub(super) fn connect(&mut self, from: &Arc<Incarnation>, to: Host, port: u16) -> ConnId {
        let halves = [self.link(from.host, to), self.link(to, from.host)].map(Half::new);
        let mut client = End::new(from.host, Phase::Connecting, &CLIENT_LIVENESS);
        client.incarnation = Some(Arc::clone(from));
        client.handle = true;
        let server = End::new(to, Phase::Embryo, &SERVER_LIVENESS);
        let id = self.conns.insert(Conn { port, ends: [client, server], halves });
        self.send_syn(id, 0);
        id
    }

    /// Puts `payload` on the wire away from `side`.
    pub(super) fn send(&mut self, id: ConnId, side: Side, payload: Payload) {
        let now_us = self.clock.now_us();
        let Some(conn) = self.conns.get(id) else { return };
        let half = &mut conn.halves[side];
        let link = &mut self.links[half.link];
        half.send(payload, link.loses(), link.epoch, now_us, || link.latency_us());
        self.plan(id, side);
    }

    /// The application has read `bytes` at `side`.
    pub(super) fn note_read(&mut self, id: ConnId, side: Side, bytes: usize) {
        if let Some(conn) = self.conns.get(id) {
            conn.halves[1 - side].note_read(bytes);
            self.acknowledge(id, 1 - side);
        }
    }

    /// A writer waits at `side`: it is woken when it hears of room.
    pub(super) fn plan_room(&mut self, id: ConnId, side: Side) {
        if let Some(conn) = self.conns.get(id)
            && let Some(at_us) = conn.halves[side].next_ack_us()
        {
            self.schedule(at_us, id, side, What::Writable);
        }
    }

    /// The application has let go of its end, by dropping the stream or by dying.
    pub(super) fn close(&mut self, id: ConnId, side: Side) {
        let Some(conn) = self.conns.get(id) else { return };
        let end = &mut conn.ends[side];
        let unread = end.has_unread();
        end.release();
        match end.phase {
            Phase::Open if !unread => {
                end.phase = Phase::Closed;
                if !std::mem::replace(&mut end.fin_sent, true) {
                    self.send(id, side, Payload::Fin);
                }
            }
            Phase::Open | Phase::Queued => {
                end.phase = Phase::Gone;
                conn.halves[side].abandon();
                self.send_reset(id, 1 - side);
            }
            Phase::Connecting => end.phase = Phase::Gone,
            Phase::Embryo | Phase::Closed | Phase::Gone => {}
        }
        self.sweep(id);
    }

    /// The host of this end lost power: no one will say anything more.
    pub(super) fn vanish(&mut self, id: ConnId, side: Side) {
        let Some(conn) = self.conns.get(id) else { return };
        conn.ends[side].release();
        if conn.ends[side].phase != Phase::Embryo {
            conn.ends[side].phase = Phase::Gone;
        }
        conn.halves[side].abandon();
        self.sweep(id);
    }

    /// Both ends learn of a reset at once.
    pub(super) fn reset(&mut self, id: ConnId) {
        for side in [CLIENT, SERVER] {
            if let Some(conn) = self.conns.get(id) {
                conn.halves[side].clear();
            }
            self.die(id, side, io::ErrorKind::ConnectionReset);
        }
    }

    pub(super) fn on(&mut self, event: NetEvent) {
        let NetEvent { conn, side, what } = event;
        match what {
            What::SendSyn(tries) => self.send_syn(conn, tries),
            What::SynArrives(epoch) => self.on_syn(conn, epoch),
            What::SynAckArrives(epoch) => self.on_syn_ack(conn, epoch),
            What::RefusalArrives(epoch) => self.on_refusal(conn, epoch),
            What::Deliver => self.on_deliver(conn, side),
            What::Retransmit => self.on_retransmit(conn, side),
            What::ResetArrives(epoch) => self.on_reset(conn, side, epoch),
            What::Writable => {
                if let Some(conn) = self.conns.get(conn) {
                    self.wakers.extend(conn.ends[side].write_waker.take());
                }
            }
            What::Watch => self.on_watch(conn, side),
        }
    }

    // The handshake.

    fn send_syn(&mut self, id: ConnId, tries: u32) {
        let now_us = self.clock.now_us();
        let Some(conn) = self.conns.get(id) else { return };
        if conn.ends[CLIENT].phase != Phase::Connecting {
            return;
        }
        if tries == SYN_TRIES {
            return self.die(id, CLIENT, io::ErrorKind::TimedOut);
        }
        let link = &mut self.links[conn.halves[CLIENT].link];
        if !link.loses() {
            let (at_us, epoch) = (now_us + link.latency_us(), link.epoch);
            self.schedule(at_us, id, SERVER, What::SynArrives(epoch));
        }
        self.schedule(now_us + (1_000_000 << tries), id, CLIENT, What::SendSyn(tries + 1));
    }

    fn on_syn(&mut self, id: ConnId, epoch: u64) {
        let now_us = self.clock.now_us();
        let Some(conn) = self.conns.get(id) else { return };
        let [forth, back] = [conn.halves[CLIENT].link, conn.halves[SERVER].link];
        let server = &mut conn.ends[SERVER];
        let host = server.host;
        // A client that gave up meanwhile would answer the SYN-ACK with a reset: nobody sees either.
        if self.links[forth].epoch != epoch
            || conn.ends[CLIENT].phase != Phase::Connecting
            || !is_powered(&self.powered, host)
        {
            return;
        }
        let server = &mut conn.ends[SERVER];
        let reply = match self.listeners.get(&(host, conn.port)) {
            None => What::RefusalArrives(self.links[back].epoch),
            Some(listener) if listener.queue.len() >= BACKLOG => return,
            Some(listener) => {
                server.incarnation = Some(Arc::clone(&listener.incarnation));
                What::SynAckArrives(self.links[back].epoch)
            }
        };
        if !self.links[back].cut {
            let at_us = now_us + self.links[back].latency_us();
            self.schedule(at_us, id, CLIENT, reply);
        }
    }

    fn on_syn_ack(&mut self, id: ConnId, epoch: u64) {
        let now_us = self.clock.now_us();
        let Some(conn) = self.conns.get(id) else { return };
        let client = &mut conn.ends[CLIENT];
        if client.phase != Phase::Connecting || self.links[conn.halves[SERVER].link].epoch != epoch {
            return;
        }
        client.phase = Phase::Open;
        client.heard_us = now_us;
        client.wake(&mut self.wakers);
        self.counters.connects += 1;
        self.schedule(now_us + CLIENT_LIVENESS.idle_us, id, CLIENT, What::Watch);
        self.send(id, CLIENT, Payload::Open);
    }

    fn on_refusal(&mut self, id: ConnId, epoch: u64) {
        let Some(conn) = self.conns.get(id) else { return };
        if conn.ends[CLIENT].phase == Phase::Connecting && self.links[conn.halves[SERVER].link].epoch == epoch {
            self.counters.refused += 1;
            self.die(id, CLIENT, io::ErrorKind::ConnectionRefused);
        }
    }

    // Segments.

    fn on_deliver(&mut self, id: ConnId, side: Side) {
        let now_us = self.clock.now_us();
        let Some(conn) = self.conns.get(id) else { return };
        conn.halves[side].deliver_scheduled = false;
        let mut delivered = false;
        while let Some(conn) = self.conns.get(id)
            && let Some(front) = conn.halves[side].front().filter(|front| front.arrival_us <= now_us)
        {
            let from_gone = conn.ends[side].phase == Phase::Gone;
            if front.epoch != self.links[conn.halves[side].link].epoch {
                conn.halves[side].lose();
                if from_gone {
                    conn.halves[side].abandon();
                }
                break;
            }
            if !self.receives(id, side) {
                self.refuse(id, side);
                break;
            }
            self.deliver(id, side, now_us);
            delivered = true;
        }
        if delivered {
            self.acknowledge(id, side);
        }
        self.plan(id, side);
        self.sweep(id);
    }

    /// Whether the kernel at the far end takes the segment that has arrived there.
    fn receives(&mut self, id: ConnId, side: Side) -> bool {
        let Some(conn) = self.conns.get(id) else { return false };
        let bytes = matches!(conn.halves[side].front().map(|front| &front.payload), Some(Payload::Bytes(_)));
        let end = &conn.ends[1 - side];
        match end.phase {
            Phase::Embryo => self.listeners.get(&(end.host, conn.port)).is_some_and(|listener| {
                end.incarnation.as_ref().is_some_and(|of| Arc::ptr_eq(of, &listener.incarnation))
            }),
            Phase::Queued | Phase::Open => true,
            Phase::Closed => !bytes,
            Phase::Connecting | Phase::Gone => false,
        }
    }

    /// Hands the front segment to the far end.
    fn deliver(&mut self, id: ConnId, side: Side, now_us: u64) {
        let Some(conn) = self.conns.get(id) else { return };
        let Some(payload) = conn.halves[side].deliver() else { return };
        let link = &self.links[conn.halves[side].link];
        let bytes: &[u8] = if let Payload::Bytes(bytes) = &payload { bytes } else { &[] };
        self.trace.fold([link.from.code(), link.to.code(), now_us, bytes.len() as u64], bytes);
        // What the far end sends carries acknowledgements of all that it received.
        if conn.halves[1 - side].ack_owed {
            conn.halves[1 - side].send_ack(now_us);
        }
        let end = &mut conn.ends[1 - side];
        end.heard_us = now_us;
        match payload {
            Payload::Open => {
                end.phase = Phase::Queued;
                let (host, port) = (end.host, conn.port);
                if let Some(listener) = self.listeners.get_mut(&(host, port)) {
                    listener.queue.push_back(id);
                    self.wakers.extend(listener.waker.take());
                }
                self.schedule(now_us + SERVER_LIVENESS.idle_us, id, 1 - side, What::Watch);
            }
            Payload::Bytes(bytes) => {
                self.counters.segments += 1;
                self.counters.bytes += bytes.len() as u64;
                end.receive(bytes);
                self.wakers.extend(end.read_waker.take());
            }
            Payload::Fin => {
                end.fin_received = true;
                self.wakers.extend(end.read_waker.take());
            }
        }
    }

    /// The far end does not know this connection: its kernel says so, if it is there and can be heard. Until the sender
    /// knows, it sends again.
    fn refuse(&mut self, id: ConnId, side: Side) {
        let Some(conn) = self.conns.get(id) else { return };
        let host = conn.ends[1 - side].host;
        conn.halves[side].lose();
        if conn.ends[side].phase == Phase::Gone {
            conn.halves[side].abandon();
        }
        if is_powered(&self.powered, host) {
            conn.ends[1 - side].phase = Phase::Gone;
            conn.halves[1 - side].abandon();
            self.send_reset(id, side);
        }
    }

    /// The far end of `side`'s direction says what it has got.
    fn acknowledge(&mut self, id: ConnId, side: Side) {
        let now_us = self.clock.now_us();
        let Some(conn) = self.conns.get(id) else { return };
        let back = &self.links[conn.halves[1 - side].link];
        let half = &mut conn.halves[side];
        half.settle(now_us);
        if back.cut {
            half.lose_ack(now_us);
            return self.plan(id, side);
        }
        let at_us = now_us + back.least_latency_us();
        half.send_ack(at_us);
        if conn.ends[side].write_waker.is_some() {
            self.schedule(at_us, id, side, What::Writable);
        }
    }

    fn on_retransmit(&mut self, id: ConnId, side: Side) {
        let now_us = self.clock.now_us();
        let Some(conn) = self.conns.get(id) else { return };
        let half = &mut conn.halves[side];
        half.retransmit_scheduled = false;
        if conn.ends[side].phase == Phase::Gone {
            return half.abandon();
        }
        if half.retransmit_at_us().is_some_and(|at_us| at_us <= now_us) {
            let (back, far_end_knows) = (conn.halves[1 - side].link, conn.ends[1 - side].phase != Phase::Gone);
            let back_open_us = (!self.links[back].cut).then(|| self.links[back].least_latency_us());
            let half = &mut conn.halves[side];
            let link = &mut self.links[half.link];
            half.retransmit(link.loses(), link.epoch, now_us, || link.latency_us());
            if half.ack_owed
                && far_end_knows
                && !link.cut
                && let Some(back_us) = back_open_us
            {
                let at_us = now_us + link.least_latency_us() + back_us;
                half.send_ack(at_us);
                if conn.ends[side].write_waker.is_some() {
                    self.schedule(at_us, id, side, What::Writable);
                }
            }
        }
        self.plan(id, side);
    }

    /// Sees to it that what is on the wire arrives, and what is lost is sent again.
    fn plan(&mut self, id: ConnId, side: Side) {
        let now_us = self.clock.now_us();
        let Some(conn) = self.conns.get(id) else { return };
        let half = &mut conn.halves[side];
        let arrival_us = half.front().map(|front| front.arrival_us).filter(|_| !half.deliver_scheduled);
        let retransmit_us = half.retransmit_at_us().filter(|_| !half.retransmit_scheduled);
        half.deliver_scheduled |= arrival_us.is_some();
        half.retransmit_scheduled |= retransmit_us.is_some();
        if let Some(at_us) = arrival_us {
            self.schedule(at_us, id, side, What::Deliver);
        }
        if let Some(at_us) = retransmit_us {
            self.schedule(at_us.max(now_us), id, side, What::Retransmit);
        }
    }

    // The end of connections.

    /// Sends a reset to the end `to`. It is not sent again if it is lost.
    fn send_reset(&mut self, id: ConnId, to: Side) {
        let now_us = self.clock.now_us();
        let Some(conn) = self.conns.get(id) else { return };
        let half = &mut conn.halves[1 - to];
        let link = &mut self.links[half.link];
        if !link.cut {
            // Never before the data that was sent before it.
            let (at_us, epoch) = (half.in_order(now_us + link.latency_us()), link.epoch);
            self.schedule(at_us, id, to, What::ResetArrives(epoch));
        }
    }

    fn on_reset(&mut self, id: ConnId, side: Side, epoch: u64) {
        let Some(conn) = self.conns.get(id) else { return };
        if self.links[conn.halves[1 - side].link].epoch == epoch {
            conn.halves[side].clear();
            self.die(id, side, io::ErrorKind::ConnectionReset);
        }
    }

    /// The kernel at `side` looks whether its peer is still there, and decides when to look again.
    fn on_watch(&mut self, id: ConnId, side: Side) {
        let now_us = self.clock.now_us();
        let Some(conn) = self.conns.get(id) else { return };
        let (end, half) = (&conn.ends[side], &mut conn.halves[side]);
        let liveness = end.liveness;
        half.settle(now_us);
        let silent_since_us = end.heard_us.max(half.last_ack_us);
        // At a deadline that has passed, the peer is given up.
        let again_us = match end.phase {
            Phase::Connecting | Phase::Embryo | Phase::Gone => return,
            Phase::Closed if half.outstanding() => half.stalled_since_us + ORPHAN_UNACKED_US,
            Phase::Closed => now_us, // All that it had to say has arrived.
            _ if half.outstanding() => half.stalled_since_us + liveness.unacked_us,
            _ if now_us < silent_since_us + liveness.idle_us => silent_since_us + liveness.idle_us,
            _ => match self.probe(id, side) {
                Probe::Answered => now_us + liveness.idle_us,
                Probe::Silence => (silent_since_us + liveness.silence_us).min(now_us + liveness.probe_us),
                Probe::Unknown => {
                    self.send_reset(id, side);
                    now_us + liveness.probe_us
                }
            },
        };
        if again_us <= now_us {
            self.die(id, side, io::ErrorKind::TimedOut);
        } else {
            self.schedule(again_us, id, side, What::Watch);
        }
    }

    /// A keepalive, there and back.
    fn probe(&mut self, id: ConnId, side: Side) -> Probe {
        let now_us = self.clock.now_us();
        let Some(conn) = self.conns.get(id) else { return Probe::Silence };
        let peer = &conn.ends[1 - side];
        let heard = conn.halves.iter().all(|half| !self.links[half.link].cut) && is_powered(&self.powered, peer.host);
        match peer.phase {
            _ if !heard => Probe::Silence,
            Phase::Gone => Probe::Unknown,
            _ => {
                conn.ends[side].heard_us = now_us;
                Probe::Answered
            }
        }
    }

    /// The kernel at `side` forgets the connection and tells its application.
    fn die(&mut self, id: ConnId, side: Side, error: io::ErrorKind) {
        let Some(conn) = self.conns.get(id) else { return };
        if conn.ends[side].phase != Phase::Gone && error == io::ErrorKind::ConnectionReset {
            self.counters.resets += 1;
        }
        conn.ends[side].die(error, &mut self.wakers);
        conn.halves[side].abandon();
        self.sweep(id);
    }

    /// Forgets the connection if it is over.
    fn sweep(&mut self, id: ConnId) {
        if self.conns.get(id).is_some_and(|conn| conn.is_over()) {
            self.conns.remove(id);
        }
    }

    fn schedule(&self, at_us: u64, conn: ConnId, side: Side, what: What) {
        self.clock.schedule(at_us, Event::Net(NetEvent { conn, side, what }));
    }
}

/// What becomes of a keepalive.
enum Probe {
    Answered,
    /// Lost, or nobody is there.
    Silence,
    /// The peer's kernel does not know the connection.
    Unknown,
}

/// Every host has power until it loses it.
fn is_powered(powered: &BTreeMap<Host, bool>, host: Host) -> bool {
    powered.get(&host).copied().unwrap_or(true)
}
