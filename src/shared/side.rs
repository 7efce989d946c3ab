//! A connection beside the shared one, for what would keep everybody else waiting there.
//!
//! Requests on one connection are answered in their order, so a record of 400 kB on a slow link, or one that Redis closes
//! the connection for, costs every call that is under way. Over a connection of its own it costs itself. It is opened
//! when it is needed, lives no longer than the shared one that it was opened beside, and leads to the same generation of
//! Redis's data (R6). Its troubles are no news of the shared one.

use std::{sync::atomic::AtomicBool, time::Duration};

use tokio::sync::Mutex;

use super::{
    CallError,
    addresses::Addresses,
    connection::{Connection, dial},
};
use crate::{config::Config, env::Env, key::Keys};

/// How long it is kept open for the next user.
const IDLE: Duration = Duration::from_secs(10);

/// At most one connection.
#[derive(Default)]
pub(crate) struct Side {
    open: Mutex<Option<Open>>,
}

struct Open {
    connection: Connection,
    /// The id of the shared connection that it was opened beside.
    beside: u64,
    used_at: Duration,
}

impl Side {
    /// The connection; one that `opening` gives if there is none beside the shared one. The caller's deadline covers it.
    ///
    /// # Errors
    /// Those of `opening`.
    ///
    /// Cancellation: the attempt is abandoned.
    pub(crate) async fn beside(
        &self,
        shared: &Connection,
        now: Duration,
        opening: impl Future<Output = Result<Connection, CallError>>,
    ) -> Result<Connection, CallError> {
        let mut open = self.open.lock().await;
        if let Some(open) = open.as_mut().filter(|open| open.fits(shared)) {
            open.used_at = now;
            return Ok(open.connection.clone());
        }
        if let Some(Open { connection, .. }) = open.take() {
            connection.abandon();
        }
        let connection = opening.await?;
        *open = Some(Open { connection: connection.clone(), beside: shared.id, used_at: now });
        Ok(connection)
    }

    /// Closes the connection with this id: requests under way on it fail, the next user opens another.
    pub(crate) async fn discard(&self, id: u64) {
        let mut open = self.open.lock().await;
        if let Some(Open { connection, .. }) = open.take_if(|open| open.connection.id == id) {
            connection.abandon();
        }
    }

    /// Closes the connection. One that is being opened goes with whoever opens it.
    pub(crate) fn close(&self) {
        if let Ok(mut open) = self.open.try_lock()
            && let Some(Open { connection, .. }) = open.take()
        {
            connection.abandon();
        }
    }

    /// Lets go of a connection that nobody has asked for lately: it is closed once nobody uses it.
    pub(crate) fn tidy(&self, now: Duration) {
        // Who holds the lock is using it.
        if let Ok(mut open) = self.open.try_lock() {
            open.take_if(|open| open.used_at + IDLE < now);
        }
    }
}

impl Open {
    fn fits(&self, shared: &Connection) -> bool {
        let Self { connection, beside, .. } = self;
        *beside == shared.id && connection.generation == shared.generation && !connection.has_ended()
    }
}

/// Opens a connection that leads to the same data as the shared one.
///
/// # Errors
/// It could not be opened, or leads to other data.
pub(crate) async fn open_beside<E: Env>(
    shared: &Connection,
    env: &E,
    config: &Config,
    addresses: &Addresses,
    keys: &Keys,
) -> Result<Connection, CallError> {
    let dialled = dial(env, config, addresses, env.random(), &AtomicBool::default(), || ()).await?;
    let connection = dialled.beside(shared);
    let (found, _) = connection.probe(keys).await?;
    if found.as_deref() == Some(&*shared.generation) {
        Ok(connection)
    } else {
        Err(CallError::Unknown("a second connection leads to other data than the first".to_owned()))
    }
}
