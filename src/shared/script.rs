//! The merge script: how it is called, and what it answers.

use std::sync::LazyLock;

use metrics::Counter;
use redis::{Cmd, ErrorKind, ServerErrorKind, Value, aio::MultiplexedConnection};

use super::{CallError, query, reply::record_of, wrong_reply};
use crate::record::{Life, Merged, Record, SentLife, time_text};

/// The source, version 2. It reads what version 1 wrote; a client of that version answers an error to what this one writes, and
/// leaves it alone. A change that older clients cannot live with needs another key space than `cc1:`.
pub(super) fn source() -> &'static str {
    include_str!("merge.lua")
}

static SHA: LazyLock<String> = LazyLock::new(|| sha1_smol::Sha1::from(source()).digest().to_string());

/// How cells are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// All of them, or none if something is in the way of one: what makes a `Shared` answer linearizable.
    All,
    /// Each that is above what is stored: replay and re-publishing.
    Each,
}

/// What the script has to know beside the cells.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// How long a tombstone is kept, in milliseconds.
    pub(crate) tombstone_ttl_ms: u64,
    pub(crate) life: SentLife,
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
            query(connection, &call("EVAL", source())).await
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
    let SentLife { told, estimated } = terms.life;
    call.arg(terms.life.union().map(Life::begin_text).unwrap_or_default());
    call.arg(told.map(Life::end_text).unwrap_or_default());
    call.arg(estimated.map(|estimated| estimated.life.end_text()).unwrap_or_default());
    call.arg(estimated.and_then(|estimated| estimated.ttl_ms).map(|ttl_ms| ttl_ms.to_string()).unwrap_or_default());
    for (name, cell) in record.cells() {
        call.arg(name.field()).arg(cell.text());
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
        (Some(Value::Int(2)), []) => Ok(Merged::Over),
        (Some(Value::Int(1)), fields) => record_of(key, fields).map(Merged::Applied),
        (Some(Value::Int(3)), fields) => record_of(key, fields).map(Merged::Outdone),
        (first, _) => Err(wrong_reply("the merge script", &first.unwrap_or(Value::Nil))),
    }
}
