//! How a kernel finds out that a peer is dead: unacknowledged data, unanswered keepalives, a window that stays closed.

/// After what time an end decides that its peer is dead.
#[derive(Debug)]
#[expect(clippy::struct_field_names, reason = "the unit stands last in the name of every time")]
pub(super) struct Liveness {
    /// Sent bytes stay unacknowledged for this long.
    pub(super) unacked_us: u64,
    /// Silence after which the kernel asks.
    pub(super) idle_us: u64,
    /// Time between two unanswered questions.
    pub(super) probe_us: u64,
    /// Silence, questions unanswered, after which the connection fails.
    pub(super) silence_us: u64,
    /// The peer acknowledges and has no room for this long; without an end if not given.
    pub(super) full_us: Option<u64>,
}

/// What `Env::connect` promises: keepalive 10 s, then every 5 s, and a user timeout of 30 s, which on Linux decides about
/// unanswered keepalives too (`tcp_keepalive_timer`), whatever their number, and about answered questions for room
/// (`tcp_probe_timer`).
pub(super) const CLIENT_LIVENESS: Liveness = Liveness {
    unacked_us: 30_000_000,
    idle_us: 10_000_000,
    probe_us: 5_000_000,
    silence_us: 30_000_000,
    full_us: Some(30_000_000),
};

/// What a Redis server sets (`tcp-keepalive 300`: idle 300 s, three probes every 100 s); no user timeout, so that sent
/// bytes are given up after 15 retransmissions, `tcp_retries2`: 924.6 s.
pub(super) const SERVER_LIVENESS: Liveness = Liveness {
    unacked_us: 924_600_000,
    idle_us: 300_000_000,
    probe_us: 100_000_000,
    silence_us: 600_000_000,
    full_us: None,
};

/// What an orphan (closed by its application) is given to get its last bytes through: 8 retransmissions.
pub(super) const ORPHAN_UNACKED_US: u64 = 102_200_000;
