//! A record as Redis told it.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use redis::Value;

use super::{CallError, wrong_reply};
use crate::{
    contact::CachedContact,
    key::Uid,
    recent::Recent,
    record::{NotARecord, Record},
};

/// Fields and values of a hash, in turn, as they came.
pub(crate) type Flat = Vec<Value>;

/// Redis's reply about one record.
pub(crate) struct Reply {
    flat: Flat,
    pub(crate) record: Record,
    view: OnceLock<Option<Arc<CachedContact>>>,
}

/// Decodes replies. One that is byte by byte the last one about its record is not decoded again.
#[derive(Default)]
pub(crate) struct Decoder(Mutex<Recent<Reply>>);

impl Decoder {
    pub(crate) fn decode(&self, uid: &Uid, key: &str, flat: Flat) -> Result<Arc<Reply>, CallError> {
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = lock().get(uid);
        if let Some(last) = last.filter(|last| last.flat == flat) {
            return Ok(last);
        }
        let bytes = flat.iter().map(|value| if let Value::BulkString(bytes) = value { bytes.len() } else { 0 }).sum();
        let record = record_of(key, &flat)?;
        let reply = Arc::new(Reply { flat, record, view: OnceLock::new() });
        lock().insert(uid, bytes, reply.clone());
        Ok(reply)
    }
}

impl Reply {
    /// The record as an application sees it. What Redis told was alive there.
    pub(crate) fn view(&self, uid: &Uid) -> Result<Option<Arc<CachedContact>>, NotARecord> {
        if let Some(view) = self.view.get() {
            return Ok(view.clone());
        }
        let view = self.record.view(uid, 0)?.map(Arc::new);
        Ok(self.view.get_or_init(|| view).clone())
    }
}

/// The record in a flat list of fields and values.
pub(super) fn record_of(key: &str, flat: &[Value]) -> Result<Record, CallError> {
    let mut fields = Vec::with_capacity(flat.len() / 2);
    for pair in flat.chunks(2) {
        let [Value::BulkString(field), Value::BulkString(value)] = pair else {
            return Err(wrong_reply("a hash", &pair));
        };
        match (std::str::from_utf8(field), std::str::from_utf8(value)) {
            (Ok(field), Ok(value)) => fields.push((field, value)),
            _ => return Err(CallError::not_a_record(key, "a field is no text")),
        }
    }
    Record::from_fields(fields.into_iter()).map_err(|error| CallError::not_a_record(key, &error))
}
