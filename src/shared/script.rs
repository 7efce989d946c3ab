//! The merge script: how it is called, and what it answers.

use std::sync::LazyLock;

use metrics::Counter;
use redis::{Cmd, ErrorKind, ServerErrorKind, Value, aio::MultiplexedConnection};

use super::{CallError, connection::query, reply::record_of, wrong_reply};
use crate::{
    record::{Lifetime, Record, time_text},
    stamp::Stamp,
};

/// The source. Its first version is the format of records in Redis: a change that older clients cannot live with needs
/// another key space than `cc1:`.
pub(super) const MERGE: &str = include_str!("merge.lua");

static SHA: LazyLock<String> = LazyLock::new(|| sha1_smol::Sha1::from(MERGE).digest().to_string());

/// How cells are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// All of them, or none if something is in the way of one: what makes a `Shared` answer linearizable.
    All,
    /// Each that is above what is stored: replay and re-publishing.
    Each,
}

/// What the script did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Merged {
    /// The cells are in. With what the sender does not know: the deadline that Redis set, the tombstone of a record that
    /// had expired; the whole record, if something won over some of them in mode [`Mode::Each`].
    Applied(Record),
    /// Mode [`Mode::All`]: something with this stamp was in the way; nothing changed.
    Conflict(Stamp),
}

impl Merged {
    /// The newest stamp that it tells.
    pub(super) fn newest(&self) -> Option<Stamp> {
        match self {
            Self::Applied(record) => record.newest(),
            Self::Conflict(stamp) => Some(*stamp),
        }
    }
}

/// What the script has to know beside the cells.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// How long a tombstone is kept.
    pub(crate) tombstone_ttl_ms: u64,
    /// The sender's estimate of Redis's clock: a deadline set by it is sent as the time that is left.
    pub(crate) now_ms: u64,
}

/// Runs the script by its hash, and once more with its source, counted, if the server does not know it.
pub(super) async fn merge(
    connection: &mut MultiplexedConnection,
    key: &str,
    mode: Mode,
    record: &Record,
    terms: Terms,
    scripts_sent: &Counter,
) -> Result<Merged, CallError> {
    let call = |command: &str, script: &str| {
        let mut call = redis::cmd(command);
        call.arg(script).arg(1).arg(key);
        arguments(&mut call, mode, record, terms);
        call
    };
    let reply = match query(connection, &call("EVALSHA", &SHA)).await {
        Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
            scripts_sent.increment(1);
            query(connection, &call("EVAL", MERGE)).await
        }
        reply => reply,
    };
    merged(reply?, key)
}

fn arguments(call: &mut Cmd, mode: Mode, record: &Record, terms: Terms) {
    call.arg(match mode {
        Mode::All => "all",
        Mode::Each => "each",
    });
    call.arg(terms.tombstone_ttl_ms);
    call.arg(record.times.first.map(time_text).unwrap_or_default());
    call.arg(record.times.last.map(time_text).unwrap_or_default());
    for (name, cell) in record.cells() {
        call.arg(name.field()).arg(match cell.lifetime() {
            Some(Lifetime::Estimated(deadline_ms)) if name.is_existence() => {
                format!("{}+{}", cell.stamp, deadline_ms.saturating_sub(terms.now_ms))
            }
            _ => cell.text(),
        });
    }
}

fn merged(reply: Value, key: &str) -> Result<Merged, CallError> {
    let Value::Array(items) = reply else { return Err(wrong_reply("the merge script", &reply)) };
    let mut items = items.into_iter();
    match (items.next(), items.as_slice()) {
        (Some(Value::Int(0)), [Value::BulkString(stamp)]) => {
            let stamp = std::str::from_utf8(stamp).ok().and_then(|text| text.parse().ok());
            stamp.map(Merged::Conflict).ok_or_else(|| CallError::not_a_record(key, "a stamp in it cannot be read"))
        }
        (Some(Value::Int(1)), fields) => record_of(key, fields).map(Merged::Applied),
        (first, _) => Err(wrong_reply("the merge script", &first.unwrap_or(Value::Nil))),
    }
}
