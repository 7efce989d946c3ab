//! The shared tier: Redis, through the `redis` crate's own protocol code, over a stream that [`Env`]'s network opened.
//!
//! `addresses` chooses and races the addresses of Redis's name; `connection` opens connections and asks them; `script` is
//! the one way to write; `reply` is what a read brings, `horizon` which stamps in
//! it are believed at once; `link` is the one connection that an instance has at a time, with
//! its view of Redis's health; `clock` is the estimate of Redis's clock; `said` puts errors into words, `overheard` catches the error of a server that turns a client away,
//! `framing` ends a connection whose replies no longer match the requests, and `told` keeps the log from repeating errors. No timeouts
//! here: the caller's deadline covers everything.
//!
//! [`Env`]: crate::env::Env

pub(crate) mod addresses;
#[cfg(test)]
mod agreement;
pub(crate) mod clock;
pub(crate) mod connection;
mod framing;
pub(crate) mod horizon;
pub(crate) mod link;
mod overheard;
pub(crate) mod pace;
pub(crate) mod reply;
pub(crate) mod said;
pub(crate) mod script;
pub(crate) mod side;
mod told;

use redis::{Cmd, ErrorKind, RedisError, RedisResult, Value, aio::MultiplexedConnection};

use self::{
    overheard::FirstLine,
    said::{code_of, is_of_the_server, kind_of, reason_of},
};

/// Why a call had no reply.
pub(crate) const SILENT: &str = "redis is silent: no reply within reply_timeout";

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
        Self::Unknown(SILENT.to_owned())
    }

    /// The same, with the words of the server that closed the connection, if it had any.
    fn overheard(self, line: &FirstLine) -> Self {
        match (self, line.error()) {
            (Self::Unknown(reason), Some(line)) if reason == said::CLOSED => {
                Self::Unknown(said::parting_words(&line).unwrap_or(reason))
            }
            (error, _) => error,
        }
    }
}

impl From<RedisError> for CallError {
    fn from(error: RedisError) -> Self {
        let reason = reason_of(&error);
        match (error.kind(), code_of(&error).as_deref()) {
            // Codes that the crate has no kind for, and those of a pipeline: OOM, MISCONF, BUSY and plain ERR are refusals.
            (_, Some("NOAUTH" | "WRONGPASS")) | (ErrorKind::AuthenticationFailed, _) => Self::Unusable(reason),
            (_, Some("WRONGTYPE")) => Self::NotARecord { key: String::new(), reason },
            (ErrorKind::Server(kind), _) if is_of_the_server(kind) => Self::Unusable(reason),
            // The server closes the connection behind it.
            (ErrorKind::Server(_), _) if reason.starts_with("ERR Protocol error") => Self::Unknown(reason),
            (ErrorKind::Server(_) | ErrorKind::Extension, _) => Self::Refused(reason),
            // Whatever else went wrong, it went wrong on the way: nobody knows what the server did.
            _ => Self::Unknown(reason),
        }
    }
}

fn wrong_reply(what: &str, reply: &Value) -> CallError {
    CallError::Unknown(format!("{what} was answered with {}", kind_of(reply)))
}

/// As `command.query_async(connection)`, which puts its future into a box of its own for every call.
async fn query(connection: &mut MultiplexedConnection, command: &Cmd) -> RedisResult<Value> {
    connection.send_packed_command(command).await?.extract_error()
}
