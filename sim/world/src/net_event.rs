//! What happens on the network at an instant that was planned before.

/// Something that happens on the network at an instant planned before.
pub(super) struct NetEvent {
    pub(super) conn: ConnId,
    /// The sender of what is sent, the receiver of a reset, the end that looks or waits.
    pub(super) side: ConnSide,
    pub(super) what: NetHappening,
}

/// Of arrivals: the epoch of the link when they were sent. A cut in between means that they were lost.
pub(super) enum NetHappening {
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

/// Names a connection for as long as it lasts; never used again for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ConnId {
    pub(super) index: usize,
    pub(super) generation: u64,
}

/// Which end: the one that connected, or the one that accepted. Half number `n` runs away from end number `n`.
pub(super) type ConnSide = usize;
pub(super) const CLIENT: ConnSide = 0;
pub(super) const SERVER: ConnSide = 1;
