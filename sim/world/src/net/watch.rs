//! A kernel looks whether its peers are still there, and asks them.

use std::io;

use super::{
    NetHappening,
    capture::Kind,
    conn::{ConnId, ConnPhase, ConnSide},
    liveness::ORPHAN_UNACKED_US,
    tcp::{Tcp, is_powered},
};

impl Tcp {
    /// The kernel at `side` looks whether its peer is still there, and decides when to look again.
    pub(super) fn on_watch(&mut self, id: ConnId, side: ConnSide) {
        let now_us = self.clock.now_us();
        let Some(conn) = self.conns.get(id) else { return };
        let (end, half) = (&conn.ends[side], &mut conn.halves[side]);
        let liveness = end.liveness;
        half.settle(now_us);
        let silent_since_us = end.heard_us.max(half.last_ack_us);
        let full = half.full_since_us.zip(liveness.full_us).filter(|_| !half.outstanding());
        // At a deadline that has passed, the peer is given up.
        let again_us = match end.phase {
            ConnPhase::Connecting | ConnPhase::Embryo | ConnPhase::Gone => return,
            ConnPhase::Closed if half.outstanding() => half.stalled_since_us + ORPHAN_UNACKED_US,
            ConnPhase::Closed => now_us, // All that it had to say has arrived.
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
        let again_us = full.map_or(again_us, |(since_us, limit_us)| again_us.min(since_us + limit_us));
        if again_us <= now_us {
            self.die(id, side, io::ErrorKind::TimedOut);
        } else {
            self.schedule(again_us, id, side, NetHappening::Watch);
        }
    }

    /// A keepalive, there and back.
    fn probe(&mut self, id: ConnId, side: ConnSide) -> Probe {
        let now_us = self.clock.now_us();
        let Some(conn) = self.conns.get(id) else { return Probe::Silence };
        if let Some(capture) = &self.capture {
            capture.note_probe(conn, side, now_us);
        }
        let [forth, back] = [conn.halves[side].link, conn.halves[1 - side].link];
        let Some(there_us) = self.links[forth].carry_ack(now_us) else { return Probe::Silence };
        if !is_powered(&self.powered, conn.ends[1 - side].host) {
            return Probe::Silence;
        }
        let known = conn.ends[1 - side].phase != ConnPhase::Gone;
        if let Some(capture) = self.capture.as_ref().filter(|_| known) {
            capture.note_bare(conn, 1 - side, there_us, Kind::Ack);
        }
        if self.links[back].carry_ack(now_us).is_none() {
            return Probe::Silence;
        }
        if !known {
            return Probe::Unknown;
        }
        conn.ends[side].heard_us = now_us;
        Probe::Answered
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
