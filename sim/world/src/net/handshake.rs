//! How connections begin: SYN, SYN-ACK, refusal, and the third step that puts the connection into the listener's queue.

use std::{io, sync::Arc};

use super::{
    NetHappening,
    capture::Kind,
    conn::{CLIENT, Conn, ConnEnd, ConnId, ConnPhase, SERVER},
    half::{Half, Payload},
    liveness::{CLIENT_LIVENESS, SERVER_LIVENESS},
    tcp::{Tcp, is_powered},
};
use crate::{Host, incarnation::Incarnation};

/// What Redis asks `listen` for. Linux holds one connection more for `accept` (`sk_acceptq_is_full`); a SYN beyond is
/// dropped in silence.
const BACKLOG: usize = 511;
/// A SYN is sent at most this often (`tcp_syn_retries` is 6), at 0, 1, 3, 7, 15, 31 and 63 s; at 127 s it times out.
const SYN_TRIES: u32 = 7;

impl Tcp {
    /// Sends the first SYN.
    pub(super) fn connect(&mut self, from: &Arc<Incarnation>, to: Host, port: u16) -> ConnId {
        let halves = [self.link(from.host, to), self.link(to, from.host)].map(Half::new);
        let mut client = ConnEnd::new(from.host, ConnPhase::Connecting, &CLIENT_LIVENESS);
        client.incarnation = Some(Arc::clone(from));
        client.handle = true;
        let server = ConnEnd::new(to, ConnPhase::Embryo, &SERVER_LIVENESS);
        let number = self.conns.next_number();
        let id = self.conns.insert(Conn { number, port, ends: [client, server], halves });
        self.send_syn(id, 0);
        id
    }

    pub(super) fn send_syn(&mut self, id: ConnId, tries: u32) {
        let now_us = self.clock.now_us();
        let Some(conn) = self.conns.get(id) else { return };
        if conn.ends[CLIENT].phase != ConnPhase::Connecting {
            return;
        }
        if tries == SYN_TRIES {
            return self.die(id, CLIENT, io::ErrorKind::TimedOut);
        }
        if let Some(capture) = &self.capture {
            capture.note_bare(conn, CLIENT, now_us, Kind::Syn);
        }
        let link = &mut self.links[conn.halves[CLIENT].link];
        if let Some(at_us) = link.carry(now_us, 0) {
            let epoch = link.epoch;
            self.schedule(at_us, id, SERVER, NetHappening::SynArrives(epoch));
        }
        self.schedule(now_us + (1_000_000 << tries), id, CLIENT, NetHappening::SendSyn(tries + 1));
    }

    pub(super) fn on_syn(&mut self, id: ConnId, epoch: u64) {
        let now_us = self.clock.now_us();
        let Some(conn) = self.conns.get(id) else { return };
        let [forth, back] = [conn.halves[CLIENT].link, conn.halves[SERVER].link];
        let server = &mut conn.ends[SERVER];
        let host = server.host;
        // A client that gave up meanwhile would answer the SYN-ACK with a reset: nobody sees either.
        if self.links[forth].epoch != epoch
            || conn.ends[CLIENT].phase != ConnPhase::Connecting
            || !is_powered(&self.powered, host)
        {
            return;
        }
        let server = &mut conn.ends[SERVER];
        let (reply, kind) = match self.listeners.get(&(host, conn.port)) {
            None => (NetHappening::RefusalArrives(self.links[back].epoch), Kind::Reset),
            Some(listener) if listener.queue.len() > BACKLOG => return,
            Some(listener) => {
                server.incarnation = Some(Arc::clone(&listener.incarnation));
                (NetHappening::SynAckArrives(self.links[back].epoch), Kind::SynAck)
            }
        };
        if let Some(capture) = &self.capture {
            capture.note_bare(conn, SERVER, now_us, kind);
        }
        if let Some(at_us) = self.links[back].carry(now_us, 0) {
            self.schedule(at_us, id, CLIENT, reply);
        }
    }

    pub(super) fn on_syn_ack(&mut self, id: ConnId, epoch: u64) {
        let now_us = self.clock.now_us();
        let Some(conn) = self.conns.get(id) else { return };
        let client = &mut conn.ends[CLIENT];
        if client.phase != ConnPhase::Connecting || self.links[conn.halves[SERVER].link].epoch != epoch {
            return;
        }
        client.phase = ConnPhase::Open;
        client.heard_us = now_us;
        client.wake(&mut self.wakers);
        self.counters.connects += 1;
        self.schedule(now_us + CLIENT_LIVENESS.idle_us, id, CLIENT, NetHappening::Watch);
        self.send(id, CLIENT, Payload::Open);
    }

    pub(super) fn on_refusal(&mut self, id: ConnId, epoch: u64) {
        let Some(conn) = self.conns.get(id) else { return };
        if conn.ends[CLIENT].phase == ConnPhase::Connecting && self.links[conn.halves[SERVER].link].epoch == epoch {
            self.counters.refused += 1;
            self.die(id, CLIENT, io::ErrorKind::ConnectionRefused);
        }
    }
}
