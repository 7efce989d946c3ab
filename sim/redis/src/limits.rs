//! The limits of a server, and what it does to a connection that passes one. `tests/redis_parity/limits.rs` compares each with
//! a real server.

use super::{ClientId, Engine, request};
use crate::{Refusal, ServerLimit};

/// The limits that a server is set to.
#[derive(Clone, Copy, Debug)]
pub(super) struct ServerLimits {
    /// `proto-max-bulk-len`.
    pub(super) bulk_bytes: i64,
    /// `client-query-buffer-limit`.
    pub(super) query_bytes: u64,
    /// `maxclients`.
    clients: u64,
    /// `timeout`; none if it is 0.
    idle_seconds: Option<u64>,
}

impl Default for ServerLimits {
    fn default() -> Self {
        let bulk_bytes = request::BULK_BYTES_MAX;
        Self { bulk_bytes, query_bytes: 1 << 30, clients: 10_000, idle_seconds: None }
    }
}

impl ServerLimits {
    fn set(&mut self, limit: ServerLimit) {
        match limit {
            ServerLimit::BulkBytes { bytes } => self.bulk_bytes = i64::try_from(bytes).unwrap_or(i64::MAX),
            ServerLimit::QueryBytes { bytes } => self.query_bytes = bytes,
            ServerLimit::Idle { seconds } => self.idle_seconds = Some(seconds).filter(|seconds| *seconds > 0),
            ServerLimit::Clients { clients } => self.clients = clients,
        }
    }

    /// Whether one more client is too many.
    pub(super) fn are_reached_by(&self, clients: usize) -> bool {
        clients as u64 >= self.clients
    }
}

impl Engine {
    /// Sets one limit, as CONFIG SET does. A restart keeps it.
    pub fn limit(&mut self, limit: ServerLimit) {
        self.server.limits.set(limit);
    }

    /// Sets every limit to what a server has that was told no other.
    pub fn lift_limits(&mut self) {
        self.server.limits = ServerLimits::default();
    }

    /// Denies every user these commands from now on (in lower case), and no others. A restart keeps it.
    pub fn deny(&mut self, commands: &'static [&'static str]) {
        self.server.denied = commands;
    }

    /// Refuses one client from now on, as [`Self::refuse`] refuses all clients; `None` ends that.
    pub fn refuse_client(&mut self, client: ClientId, with: Option<Refusal>) {
        if let Some(client) = self.clients.get_mut(&client) {
            client.refused = with;
        }
    }

    /// Ends every refusal of a single client.
    pub fn refuse_no_client(&mut self) {
        self.clients.values_mut().for_each(|client| client.refused = None);
    }

    /// A script runs from now on that does not end, and writes nothing: it can be killed.
    pub fn run_endless_script(&mut self) {
        self.server.state = Some(Refusal::Busy);
        self.server.is_killable = true;
    }

    /// The clients that the server closes at this time of its clock, since they have been idle for too long; `None` if there is
    /// no such limit. Whoever serves them asks ten times a second, as Redis does.
    pub fn close_idle(&mut self, now_ms: u64) -> Option<Vec<ClientId>> {
        let most = self.server.limits.idle_seconds?;
        let is_idle = |last_ms: u64| (now_ms / 1_000).saturating_sub(last_ms / 1_000) > most;
        let waits = &self.server.waits;
        let idle = self.clients.iter_mut().filter(|(_, client)| client.open && is_idle(client.last_ms));
        // Who waits for an element has its own limit.
        let idle = idle.filter(|(_, client)| !waits.has(client.session.id));
        let idle: Vec<_> = idle
            .map(|(id, client)| {
                client.open = false;
                *id
            })
            .collect();
        self.server.refusals += idle.len() as u64;
        Some(idle)
    }
}
