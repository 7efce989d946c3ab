//! The shared tier: Redis, through the `redis` crate's own protocol code, over a stream that [`Env`]'s network opened.
//!
//! `addresses` chooses and races the addresses of Redis's name; `connection` opens connections and asks them; `script` is the one way to write;
//! `reply` is what a read brings; `link` is the one connection that an
//! instance has at a time, with its view of Redis's health. No timeouts here: the caller's deadline covers everything.
//!
//! [`Env`]: crate::env::Env

pub(crate) mod addresses;
#[cfg(test)]
mod agreement;
pub(crate) mod connection;
pub(crate) mod link;
pub(crate) mod pace;
pub(crate) mod reply;
pub(crate) mod script;
pub(crate) mod side;

use std::fmt::Debug;

use redis::{ErrorKind, RedisError, ServerErrorKind};

/// Why a request to Redis failed, by what to do next.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallError {
    /// Redis answered with an error. The connection is good, the request is not for now. It had no effect, or, where the
    /// merge script failed at its last command, all of its effect.
    #[error("{0}")]
    Refused(String),
    /// Likewise, and it will answer so to every request: another connection, later, may lead to a server that works.
    #[error("{0}")]
    Unusable(String),
    /// No answer: the request may have had an effect, or may have one later.
    #[error("{0}")]
    Unknown(String),
    /// The key holds something that this version of the client did not write. It is left alone.
    #[error("key {key:?} holds no contact record of this version: {reason}")]
    NotARecord { key: String, reason: String },
}

impl CallError {
    fn not_a_record(key: &str, reason: &(impl ToString + ?Sized)) -> Self {
        Self::NotARecord { key: key.to_owned(), reason: reason.to_string() }
    }

    pub(crate) fn timed_out() -> Self {
        Self::Unknown("no reply in time".to_owned())
    }
}

impl From<RedisError> for CallError {
    fn from(error: RedisError) -> Self {
        let text = error.to_string();
        match error.kind() {
            ErrorKind::Server(kind) => match kind {
                ServerErrorKind::BusyLoading
                | ServerErrorKind::MasterDown
                | ServerErrorKind::ReadOnly
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::Moved
                | ServerErrorKind::Ask => Self::Unusable(text),
                // The server closes the connection behind it.
                ServerErrorKind::ResponseError
                    if error.detail().is_some_and(|detail| detail.starts_with("Protocol error")) =>
                {
                    Self::Unknown(text)
                }
                _ => Self::Refused(text),
            },
            // Codes that the crate has no kind for: NOAUTH, OOM, MISCONF, WRONGTYPE, BUSY, and plain ERR.
            ErrorKind::Extension => match error.code() {
                Some("NOAUTH" | "WRONGPASS") => Self::Unusable(text),
                Some("WRONGTYPE") => Self::NotARecord { key: String::new(), reason: text },
                _ => Self::Refused(text),
            },
            ErrorKind::AuthenticationFailed => Self::Unusable(text),
            // Whatever else went wrong, it went wrong on the way: nobody knows what the server did.
            _ => Self::Unknown(text),
        }
    }
}

fn wrong_reply(what: &str, reply: &impl Debug) -> CallError {
    CallError::Unknown(format!("{what} was answered with {reply:?}"))
}
