//! TCP as the kernels of all hosts play it: segments, acknowledgements, retransmission, resets. How connections begin
//! is in `handshake.rs`, how a dead peer is noticed in `liveness.rs`.
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

use rand::RngExt;

use super::{
    NetEvent, NetHappening,
    capture::{Capture, Kind},
    conn::{CLIENT, ConnId, ConnPhase, ConnSide, Conns, SERVER},
    half::{BUFFER_BYTES, Payload},
    link::NetLink,
    liveness::SERVER_LIVENESS,
    names::Names,
};
use crate::{
    Host, Trace,
    clock::{Clock, ClockEvent},
    incarnation::Incarnation,
    seed::{Seed, Stream},
};

/// What the network has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections established.
    pub connects: u64,
    /// Connects that were refused.
    pub refused: u64,
    /// Resets that arrived or were injected, one for each end.
    pub resets: u64,
    /// Connections that were reset behind a byte that was planned.
    pub planned_resets: u64,
    /// Reads and writes that moved fewer bytes than they could.
    pub shortened: u64,
    /// Names that a resolver in trouble was asked for.
    pub troubled_names: u64,
    /// Segments with data that arrived.
    pub segments: u64,
    /// Bytes that arrived.
    pub bytes: u64,
}

/// A socket that listens.
pub(super) struct ListeningSocket {
    pub(super) incarnation: Arc<Incarnation>,
    pub(super) queue: VecDeque<ConnId>,
    pub(super) waker: Option<Waker>,
}

/// The kernels and the links between them.
pub(super) struct Tcp {
    pub(super) seed: Seed,
    pub(super) clock: Clock,
    trace: Arc<Trace>,
    pub(super) links: Vec<NetLink>,
    link_of: BTreeMap<(Host, Host), usize>,
    pub(super) powered: BTreeMap<Host, bool>,
    pub(super) asleep: BTreeMap<Host, Asleep>,
    pub(super) listeners: BTreeMap<(Host, u16), ListeningSocket>,
    pub(super) conns: Conns,
    pub(super) names: Names,
    /// Of a thousand reads and writes at these hosts, so many are short; and the stream that they are drawn from.
    pub(super) short: BTreeMap<Host, (u32, Stream)>,
    /// Who wants to know what is sent.
    pub(super) capture: Option<Capture>,
    pub(super) counters: Counters,
    /// When each host asked for a connection.
    pub(super) attempts: BTreeMap<Host, Vec<u64>>,
    /// To be woken when the lock is released.
    pub(super) wakers: Vec<Waker>,
}

/// A host that sleeps.
pub(super) struct Asleep {
    pub(super) since_us: u64,
    /// Timers of its kernel that would have fired meanwhile, and when.
    pub(super) timers: Vec<(u64, ConnId, ConnSide, Timer)>,
}

/// What a kernel does by its own clock.
pub(super) enum Timer {
    SendSyn(u32),
    Retransmit,
    Watch,
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
            asleep: BTreeMap::new(),
            listeners: BTreeMap::new(),
            conns: Conns::default(),
            names: Names::default(),
            short: BTreeMap::new(),
            capture: None,
            counters: Counters::default(),
            attempts: BTreeMap::new(),
            wakers: Vec::new(),
        }
    }

    /// The link, made when it is first spoken of.
    pub(super) fn link(&mut self, from: Host, to: Host) -> usize {
        let Self { seed, links, link_of, asleep, .. } = self;
        *link_of.entry((from, to)).or_insert_with(|| {
            let mut link = NetLink::new(*seed, from, to);
            link.set_asleep(asleep.contains_key(&from) || asleep.contains_key(&to));
            links.push(link);
            links.len() - 1
        })
    }

    pub(super) fn link_mut(&mut self, from: Host, to: Host) -> &mut NetLink {
        let index = self.link(from, to);
        &mut self.links[index]
    }

    /// Puts `payload` on the wire away from `side`.
    pub(super) fn send(&mut self, id: ConnId, side: ConnSide, payload: Payload) {
        let now_us = self.clock.now_us();
        let Some(conn) = self.conns.get(id) else { return };
        if let Some(capture) = self.capture.as_ref().filter(|_| conn.halves[side].is_flowing()) {
            capture.note_segment(conn, side, now_us, conn.halves[side].sent(), &payload);
        }
        let half = &mut conn.halves[side];
        let link = &mut self.links[half.link];
        half.send(payload, link.epoch, now_us, |bytes| link.carry(now_us, bytes));
        self.plan(id, side);
    }

    /// The application has read `bytes` at `side`.
    pub(super) fn note_read(&mut self, id: ConnId, side: ConnSide, bytes: usize) {
        let now_us = self.clock.now_us();
        let Some(conn) = self.conns.get(id) else { return };
        let half = &mut conn.halves[1 - side];
        let was_full = half.unread() > BUFFER_BYTES / 2;
        half.note_read(bytes);
        // A kernel announces room only where there was little.
        if let Some(capture) = self.capture.as_ref().filter(|_| was_full) {
            capture.note_bare(conn, side, now_us, Kind::Ack);
        }
        self.acknowledge(id, 1 - side);
    }

    /// How many bytes are read or written at a host that could be this many.
    pub(super) fn shorten(&mut self, host: Host, bytes: usize) -> usize {
        let Some((per_mille, stream)) = self.short.get_mut(&host) else { return bytes };
        if bytes < 2 || stream.random_range(0..1_000) >= *per_mille {
            return bytes;
        }
        self.counters.shortened += 1;
        stream.random_range(1..bytes)
    }

    /// The addresses of a name, as its asker is told.
    pub(super) fn resolve(&mut self, asker: Host, name: &str) -> io::Result<Vec<Host>> {
        self.counters.troubled_names += u64::from(self.names.in_trouble(asker));
        self.names.resolve(asker, name)
    }

    /// Begins or ends a cut. What is on the wire is found lost when it would arrive, save acknowledgements: they are
    /// lost now.
    pub(super) fn cut(&mut self, from: Host, to: Host, cut: bool) {
        let now_us = self.clock.now_us();
        let link = self.link(from, to);
        if self.links[link].set_cut(cut) {
            self.lose_acks(link, now_us);
        }
    }

    /// The acknowledgements on a link that a cut begins on are lost.
    pub(super) fn lose_acks(&mut self, link: usize, now_us: u64) {
        for id in self.conns.ids() {
            for side in [CLIENT, SERVER] {
                if let Some(conn) = self.conns.get(id)
                    && conn.halves[1 - side].link == link
                    && conn.halves[side].lose_acks(now_us)
                {
                    self.plan(id, side);
                }
            }
        }
    }

    /// A writer waits at `side`: it is woken when it hears of room.
    pub(super) fn plan_room(&mut self, id: ConnId, side: ConnSide) {
        if let Some(conn) = self.conns.get(id)
            && let Some(at_us) = conn.halves[side].next_ack_us()
        {
            self.schedule(at_us, id, side, NetHappening::Writable);
        }
    }

    /// The application has let go of its end, by dropping the stream or by dying.
    pub(super) fn close(&mut self, id: ConnId, side: ConnSide) {
        let Some(conn) = self.conns.get(id) else { return };
        let end = &mut conn.ends[side];
        let unread = end.has_unread();
        end.release();
        match end.phase {
            ConnPhase::Open if !unread => {
                end.phase = ConnPhase::Closed;
                if !std::mem::replace(&mut end.fin_sent, true) {
                    self.send(id, side, Payload::Fin);
                }
            }
            ConnPhase::Open | ConnPhase::Queued => {
                end.phase = ConnPhase::Gone;
                conn.halves[side].abandon();
                self.send_reset(id, 1 - side);
            }
            ConnPhase::Connecting => end.phase = ConnPhase::Gone,
            ConnPhase::Embryo | ConnPhase::Closed | ConnPhase::Gone => {}
        }
        self.sweep(id);
    }

    /// The host of this end lost power: no one will say anything more.
    pub(super) fn vanish(&mut self, id: ConnId, side: ConnSide) {
        let Some(conn) = self.conns.get(id) else { return };
        conn.ends[side].release();
        if conn.ends[side].phase != ConnPhase::Embryo {
            conn.ends[side].phase = ConnPhase::Gone;
        }
        conn.halves[side].abandon();
        self.sweep(id);
    }

    /// The connections that stand between two hosts go on over wires that lead nowhere.
    pub(super) fn forget_between(&mut self, a: Host, b: Host) -> usize {
        let mut forgotten = 0;
        for id in self.conns.ids() {
            let Some(conn) = self.conns.get(id) else { continue };
            let hosts = [conn.ends[CLIENT].host, conn.ends[SERVER].host];
            if (hosts != [a, b] && hosts != [b, a]) || conn.ends[CLIENT].phase == ConnPhase::Connecting {
                continue;
            }
            for (side, half) in conn.halves.iter_mut().enumerate() {
                half.link = self.links.len();
                self.links.push(NetLink::leading_nowhere(self.seed, hosts[side], hosts[1 - side]));
            }
            forgotten += 1;
        }
        forgotten
    }

    /// Both ends learn of a reset at once.
    pub(super) fn reset(&mut self, id: ConnId) {
        let now_us = self.clock.now_us();
        for side in [CLIENT, SERVER] {
            if let Some(conn) = self.conns.get(id) {
                if let Some(capture) = &self.capture {
                    capture.note_bare(conn, 1 - side, now_us, Kind::Reset);
                }
                conn.halves[side].clear();
            }
            self.die(id, side, io::ErrorKind::ConnectionReset);
        }
    }

    pub(super) fn on(&mut self, event: NetEvent) {
        if !self.asleep.is_empty() && self.defer(&event) {
            return;
        }
        let NetEvent { conn, side, what } = event;
        match what {
            NetHappening::SendSyn(tries) => self.send_syn(conn, tries),
            NetHappening::SynArrives(epoch) => self.on_syn(conn, epoch),
            NetHappening::SynAckArrives(epoch) => self.on_syn_ack(conn, epoch),
            NetHappening::RefusalArrives(epoch) => self.on_refusal(conn, epoch),
            NetHappening::Deliver => self.on_deliver(conn, side),
            NetHappening::Retransmit => self.on_retransmit(conn, side),
            NetHappening::ResetArrives(epoch) => self.on_reset(conn, side, epoch),
            NetHappening::Writable => {
                if let Some(conn) = self.conns.get(conn) {
                    self.wakers.extend(conn.ends[side].write_waker.take());
                }
            }
            NetHappening::Watch => self.on_watch(conn, side),
        }
    }

    // Segments.

    fn on_deliver(&mut self, id: ConnId, side: ConnSide) {
        let now_us = self.clock.now_us();
        let Some(conn) = self.conns.get(id) else { return };
        conn.halves[side].deliver_scheduled = false;
        let mut delivered = false;
        while let Some(conn) = self.conns.get(id)
            && let Some(front) = conn.halves[side].front().filter(|front| front.arrival_us <= now_us)
        {
            let from_gone = conn.ends[side].phase == ConnPhase::Gone;
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
            if self.conns.get(id).is_some_and(|conn| conn.halves[side].is_reset_due()) {
                self.counters.planned_resets += 1;
                return self.reset(id);
            }
            delivered = true;
        }
        if delivered {
            if let (Some(capture), Some(conn)) = (&self.capture, self.conns.get(id)) {
                capture.note_bare(conn, 1 - side, now_us, Kind::Ack);
            }
            self.acknowledge(id, side);
        }
        self.plan(id, side);
        self.sweep(id);
    }

    /// Whether the kernel at the far end takes the segment that has arrived there.
    fn receives(&mut self, id: ConnId, side: ConnSide) -> bool {
        let Some(conn) = self.conns.get(id) else { return false };
        let bytes = matches!(conn.halves[side].front().map(|front| &front.payload), Some(Payload::Bytes(_)));
        let end = &conn.ends[1 - side];
        match end.phase {
            ConnPhase::Embryo => self.listeners.get(&(end.host, conn.port)).is_some_and(|listener| {
                end.incarnation.as_ref().is_some_and(|of| Arc::ptr_eq(of, &listener.incarnation))
            }),
            ConnPhase::Queued | ConnPhase::Open => true,
            ConnPhase::Closed => !bytes,
            ConnPhase::Connecting | ConnPhase::Gone => false,
        }
    }

    /// Hands the front segment to the far end.
    fn deliver(&mut self, id: ConnId, side: ConnSide, now_us: u64) {
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
                end.phase = ConnPhase::Queued;
                let (host, port) = (end.host, conn.port);
                if let Some(listener) = self.listeners.get_mut(&(host, port)) {
                    listener.queue.push_back(id);
                    self.wakers.extend(listener.waker.take());
                }
                self.schedule(now_us + SERVER_LIVENESS.idle_us, id, 1 - side, NetHappening::Watch);
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
    fn refuse(&mut self, id: ConnId, side: ConnSide) {
        let Some(conn) = self.conns.get(id) else { return };
        let host = conn.ends[1 - side].host;
        conn.halves[side].lose();
        if conn.ends[side].phase == ConnPhase::Gone {
            conn.halves[side].abandon();
        }
        if is_powered(&self.powered, host) {
            conn.ends[1 - side].phase = ConnPhase::Gone;
            conn.halves[1 - side].abandon();
            self.send_reset(id, side);
        }
    }

    /// The far end of `side`'s direction says what it has got.
    fn acknowledge(&mut self, id: ConnId, side: ConnSide) {
        let now_us = self.clock.now_us();
        let Some(conn) = self.conns.get(id) else { return };
        let back = conn.halves[1 - side].link;
        let half = &mut conn.halves[side];
        half.settle(now_us);
        let Some(at_us) = self.links[back].carry_ack(now_us) else {
            half.lose_ack(now_us);
            return self.plan(id, side);
        };
        half.send_ack(at_us);
        if conn.ends[side].write_waker.is_some() {
            self.schedule(at_us, id, side, NetHappening::Writable);
        }
    }

    fn on_retransmit(&mut self, id: ConnId, side: ConnSide) {
        let now_us = self.clock.now_us();
        let Some(conn) = self.conns.get(id) else { return };
        let half = &mut conn.halves[side];
        half.retransmit_scheduled = false;
        if conn.ends[side].phase == ConnPhase::Gone {
            return half.abandon();
        }
        if half.retransmit_at_us().is_some_and(|at_us| at_us <= now_us) {
            self.send_again(id, side, now_us);
        }
        self.plan(id, side);
    }

    /// Sends what was lost; or, if only the acknowledgement was, what was acknowledged, so that it is once more.
    fn send_again(&mut self, id: ConnId, side: ConnSide, now_us: u64) {
        let Some(conn) = self.conns.get(id) else { return };
        let (forth, back) = (conn.halves[side].link, conn.halves[1 - side].link);
        let far_end_knows = conn.ends[1 - side].phase != ConnPhase::Gone;
        let link = &mut self.links[forth];
        let arrival_us = if conn.halves[side].is_flowing() {
            link.carry_ack(now_us)
        } else {
            link.carry(now_us, conn.halves[side].lost_bytes())
        };
        if let Some(capture) = &self.capture {
            // If the first is lost again, the others wait on.
            let lost = conn.halves[side].lost().take(if arrival_us.is_some() { usize::MAX } else { 1 });
            lost.for_each(|segment| capture.note_segment(conn, side, now_us, segment.position, &segment.payload));
        }
        conn.halves[side].retransmit(arrival_us, link.epoch, now_us);
        if conn.halves[side].ack_owed
            && far_end_knows
            && let Some(there_us) = arrival_us
            && let Some(at_us) = self.links[back].carry_ack(there_us)
        {
            conn.halves[side].send_ack(at_us);
            if conn.ends[side].write_waker.is_some() {
                self.schedule(at_us, id, side, NetHappening::Writable);
            }
        }
    }

    /// Sees to it that what is on the wire arrives, and what is lost is sent again.
    pub(super) fn plan(&mut self, id: ConnId, side: ConnSide) {
        let now_us = self.clock.now_us();
        let Some(conn) = self.conns.get(id) else { return };
        let half = &mut conn.halves[side];
        let arrival_us = half.front().map(|front| front.arrival_us).filter(|_| !half.deliver_scheduled);
        let retransmit_us = half.retransmit_at_us().filter(|_| !half.retransmit_scheduled);
        half.deliver_scheduled |= arrival_us.is_some();
        half.retransmit_scheduled |= retransmit_us.is_some();
        if let Some(at_us) = arrival_us {
            self.schedule(at_us, id, side, NetHappening::Deliver);
        }
        if let Some(at_us) = retransmit_us {
            self.schedule(at_us.max(now_us), id, side, NetHappening::Retransmit);
        }
    }

    // The end of connections.

    /// Sends a reset to the end `to`. It is not sent again if it is lost.
    pub(super) fn send_reset(&mut self, id: ConnId, to: ConnSide) {
        let now_us = self.clock.now_us();
        let Some(conn) = self.conns.get(id) else { return };
        if let Some(capture) = &self.capture {
            capture.note_bare(conn, 1 - to, now_us, Kind::Reset);
        }
        let half = &mut conn.halves[1 - to];
        let link = &mut self.links[half.link];
        if let Some(at_us) = link.carry(now_us, 0) {
            // Never before the data that was sent before it.
            let (at_us, epoch) = (half.in_order(at_us), link.epoch);
            self.schedule(at_us, id, to, NetHappening::ResetArrives(epoch));
        }
    }

    fn on_reset(&mut self, id: ConnId, side: ConnSide, epoch: u64) {
        let Some(conn) = self.conns.get(id) else { return };
        if self.links[conn.halves[1 - side].link].epoch == epoch {
            conn.halves[side].clear();
            // `tcp_reset` in CLOSE_WAIT: who has read the end is told at the next write that there is nobody.
            let ended = conn.ends[side].fin_received;
            let error = if ended { io::ErrorKind::BrokenPipe } else { io::ErrorKind::ConnectionReset };
            self.die(id, side, error);
        }
    }

    /// The kernel at `side` forgets the connection and tells its application.
    pub(super) fn die(&mut self, id: ConnId, side: ConnSide, error: io::ErrorKind) {
        let Some(conn) = self.conns.get(id) else { return };
        let reset = matches!(error, io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe);
        if conn.ends[side].phase != ConnPhase::Gone && reset {
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

    pub(super) fn schedule(&self, at_us: u64, conn: ConnId, side: ConnSide, what: NetHappening) {
        self.clock.schedule(at_us, ClockEvent::Net(NetEvent { conn, side, what }));
    }
}

/// Every host has power until it loses it.
pub(super) fn is_powered(powered: &BTreeMap<Host, bool>, host: Host) -> bool {
    powered.get(&host).copied().unwrap_or(true)
}
