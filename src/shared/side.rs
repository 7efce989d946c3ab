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

/// The pause after a connection that could not be opened. Otherwise every call with a large record would try at once: after Redis lost its
/// data each attempt fails, until the shared connection has noticed the loss. Merges of large records wait longer (`recovery/apart.rs`).
const PAUSE: Duration = Duration::from_millis(100);

/// At most one connection.
#[derive(Default)]
pub(crate) struct Side {
    state: Mutex<Last>,
}

/// The outcome of the last attempt to open one.
#[derive(Default)]
enum Last {
    /// It was closed, or never opened.
    #[default]
    None,
    Open(OpenSide),
    Failed(Failed),
}

struct OpenSide {
    connection: Connection,
    /// The id of the shared connection that it was opened beside.
    beside: u64,
    used_at: Duration,
}

struct Failed {
    error: CallError,
    /// As of [`OpenSide`].
    beside: u64,
    at: Duration,
}

impl Side {
    /// The connection; one that `opening` gives if there is none beside the shared one. The caller's deadline covers it.
    ///
    /// # Errors
    /// Those of `opening`, also if it failed a moment ago.
    ///
    /// Cancellation: the attempt is abandoned.
    pub(crate) async fn beside(
        &self,
        shared: &Connection,
        now: Duration,
        opening: impl Future<Output = Result<Connection, CallError>>,
    ) -> Result<Connection, CallError> {
        let mut last = self.state.lock().await;
        match &mut *last {
            Last::Open(open) if open.fits(shared) => {
                open.used_at = now;
                return Ok(open.connection.clone());
            }
            Last::Failed(failed) if failed.beside == shared.id && now < failed.at + PAUSE => {
                return Err(failed.error.clone());
            }
            _ => last.close(),
        }
        match opening.await {
            Ok(connection) => {
                *last = Last::Open(OpenSide { connection: connection.clone(), beside: shared.id, used_at: now });
                Ok(connection)
            }
            Err(error) => {
                *last = Last::Failed(Failed { error: error.clone(), beside: shared.id, at: now });
                Err(error)
            }
        }
    }

    /// Closes the connection with this id: requests under way on it fail, the next user opens another.
    pub(crate) async fn discard(&self, id: u64) {
        let mut last = self.state.lock().await;
        if matches!(&*last, Last::Open(open) if open.connection.id == id) {
            last.close();
        }
    }

    /// Closes the connection. One that is being opened goes with whoever opens it.
    pub(crate) fn close(&self) {
        if let Ok(mut last) = self.state.try_lock() {
            last.close();
        }
    }

    /// Lets go of a connection that nobody has asked for lately: it is closed once nobody uses it.
    pub(crate) fn tidy(&self, now: Duration) {
        // Who holds the lock is using it.
        if let Ok(mut last) = self.state.try_lock()
            && matches!(&*last, Last::Open(open) if open.used_at + IDLE < now)
        {
            *last = Last::None;
        }
    }
}

impl Last {
    fn close(&mut self) {
        if let Self::Open(OpenSide { connection, .. }) = std::mem::take(self) {
            connection.abandon();
        }
    }
}

impl OpenSide {
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
