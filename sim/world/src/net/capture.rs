//! What the hosts hand to the network, packet by packet, for who wants to read it: the run does not know whether anyone
//! does. A packet is noted when it leaves its sender, so what is lost is there too, and again when it is sent again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{
    conn::{CLIENT, Conn, ConnSide, SERVER},
    half::{BUFFER_BYTES, Payload},
};
use crate::Host;

/// A packet as TCP has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// When it left, in simulated microseconds.
    pub at_us: u64,
    /// The sender, and its port.
    pub from: (Host, u16),
    /// The receiver, and its port.
    pub to: (Host, u16),
    /// What it is.
    pub kind: Kind,
    /// Of its first byte.
    pub sequence: u32,
    /// What the sender expects next; nothing in a SYN.
    pub acknowledged: u32,
    /// Bytes that the sender has room for.
    pub window: u16,
    /// What it carries.
    pub bytes: Vec<u8>,
}

/// The flags of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// SYN.
    Syn,
    /// SYN and ACK.
    SynAck,
    /// ACK.
    Ack,
    /// PSH and ACK.
    Data,
    /// FIN and ACK.
    Fin,
    /// RST and ACK.
    Reset,
}

/// The packets of a run. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Capture(Arc<Mutex<Vec<Packet>>>);

impl Capture {
    /// Takes out what was noted so far, in the order of time.
    pub fn take(&self) -> Vec<Packet> {
        let mut packets = std::mem::take(&mut *self.packets());
        // The answers to keepalives were noted before their time.
        packets.sort_by_key(|packet| packet.at_us);
        packets
    }

    /// Notes a segment that leaves `side`.
    pub(super) fn note_segment(&self, conn: &Conn, side: ConnSide, at_us: u64, position: u64, payload: &Payload) {
        let (kind, bytes) = match payload {
            // The SYN took its place in the sequence.
            Payload::Open => return self.note(conn, side, at_us, Kind::Ack, sequence(conn, side, 1)),
            Payload::Bytes(bytes) => (Kind::Data, bytes.clone()),
            Payload::Fin => (Kind::Fin, Vec::new()),
        };
        self.packets().push(Packet { bytes, ..packet(conn, side, at_us, kind, sequence(conn, side, position)) });
    }

    /// Notes a packet without data that leaves `side` behind all that it has sent.
    pub(super) fn note_bare(&self, conn: &Conn, side: ConnSide, at_us: u64, kind: Kind) {
        let sequence = match (kind, side) {
            (Kind::Syn, _) => sequence(conn, side, 0),
            (Kind::SynAck, _) => sequence(conn, side, 0).wrapping_sub(1),
            (_, CLIENT) => sequence(conn, side, conn.halves[side].left().max(1)),
            (_, _) => sequence(conn, side, conn.halves[side].left()),
        };
        self.note(conn, side, at_us, kind, sequence);
    }

    /// Notes a keepalive of `side`: the last byte that was acknowledged, without the byte.
    pub(super) fn note_probe(&self, conn: &Conn, side: ConnSide, at_us: u64) {
        let sequence = sequence(conn, side, conn.halves[side].left()).wrapping_sub(1);
        self.note(conn, side, at_us, Kind::Ack, sequence);
    }

    fn note(&self, conn: &Conn, side: ConnSide, at_us: u64, kind: Kind, sequence: u32) {
        self.packets().push(packet(conn, side, at_us, kind, sequence));
    }

    fn packets(&self) -> MutexGuard<'_, Vec<Packet>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A packet that carries no data.
fn packet(conn: &Conn, side: ConnSide, at_us: u64, kind: Kind, sequence_number: u32) -> Packet {
    // Linux's range of ports; a run that needs more of them uses the first again.
    let client_port = 32_768 + u16::try_from(conn.number % 28_232).unwrap_or(0);
    let place = |side: ConnSide| (conn.ends[side].host, if side == CLIENT { client_port } else { conn.port });
    let peer = &conn.halves[1 - side];
    // A SYN is acknowledged by what acknowledges it, although its place is taken by the handshake's third step.
    let received = if side == SERVER { peer.delivered().max(1) } else { peer.delivered() };
    let room = BUFFER_BYTES.saturating_sub(peer.unread());
    Packet {
        at_us,
        from: place(side),
        to: place(1 - side),
        kind,
        sequence: sequence_number,
        acknowledged: if kind == Kind::Syn { 0 } else { sequence(conn, 1 - side, received) },
        window: u16::try_from(room).unwrap_or(u16::MAX),
        bytes: Vec::new(),
    }
}

/// The sequence number on the wire. A client's half counts from its SYN, a server's from what follows its SYN.
fn sequence(conn: &Conn, side: ConnSide, position: u64) -> u32 {
    let initial = conn.number.wrapping_mul(0x9e37_79b9).rotate_left(if side == CLIENT { 0 } else { 16 });
    #[expect(clippy::cast_possible_truncation, reason = "sequence numbers wrap")]
    let offset = position as u32;
    initial.wrapping_add(offset).wrapping_add(u32::from(side == SERVER))
}
