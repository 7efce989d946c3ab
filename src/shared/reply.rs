//! A record as Redis told it.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use redis::Value;

use super::{CallError, wrong_reply};
use crate::{
    contact::CachedContact,
    key::Uid,
    local::Held,
    recent::Recent,
    record::{Life, NotARecord, Record},
    stamp::Stamp,
};

/// Fields and values of a hash, in turn, as they came.
pub(crate) type Flat = Vec<Value>;

/// Redis's reply about one record. What every read that repeats it asks of it is answered without a look at the cells, each
/// of which is in another place of memory.
pub(crate) struct RecordReply {
    bytes: Bytes,
    pub(crate) record: Record,
    /// When the record expires, in milliseconds of Redis's clock; none if there is none that could.
    pub(crate) deadline_ms: Option<u64>,
    /// The largest stamp in it.
    pub(crate) newest: Option<Stamp>,
    view: OnceLock<Option<Arc<CachedContact>>>,
    settled: Mutex<Settled>,
}

/// Beside which copy a reply told nothing new, and for requests sent until when.
#[derive(Default)]
struct Settled {
    copy: Weak<Held>,
    until_ms: u64,
}

/// Fields and values as they came, each behind its length: in one piece, because each reply is compared with the one before.
struct Bytes(Box<[u8]>);

/// Decodes replies. One that is byte by byte the last one about its record is not decoded again.
#[derive(Default)]
pub(crate) struct Decoder(Mutex<Recent<RecordReply>>);

impl Decoder {
    pub(crate) fn decode(&self, uid: &Uid, key: &str, flat: &Flat) -> Result<Arc<RecordReply>, CallError> {
        let last = lock(&self.0).get(uid);
        if let Some(last) = last.filter(|last| last.bytes.are(flat)) {
            return Ok(last);
        }
        let record = record_of(key, flat)?;
        let reply = Arc::new(RecordReply {
            bytes: Bytes::of(flat),
            deadline_ms: record.life().map(Life::end_ms),
            newest: record.newest(),
            record,
            view: OnceLock::new(),
            settled: Mutex::default(),
        });
        lock(&self.0).insert(uid, reply.bytes.0.len(), reply.clone());
        Ok(reply)
    }
}

impl Bytes {
    /// Of a reply that is a record: it has nothing but texts.
    fn of(flat: &Flat) -> Self {
        let texts =
            || flat.iter().filter_map(|value| if let Value::BulkString(text) = value { Some(text) } else { None });
        let mut bytes = Vec::with_capacity(texts().map(|text| size_of::<usize>() + text.len()).sum());
        for text in texts() {
            bytes.extend_from_slice(&text.len().to_le_bytes());
            bytes.extend_from_slice(text);
        }
        Self(bytes.into())
    }

    fn are(&self, flat: &Flat) -> bool {
        let mut rest = &*self.0;
        let mut next = |value: &Value| {
            let Value::BulkString(text) = value else { return None };
            rest = rest.strip_prefix(&text.len().to_le_bytes())?.strip_prefix(text.as_slice())?;
            Some(())
        };
        flat.iter().all(|value| next(value).is_some()) && rest.is_empty()
    }
}

impl RecordReply {
    /// Whether the reply to a request sent then told nothing new beside this very copy, by an earlier [`Self::settle`].
    pub(crate) fn is_settled(&self, copy: &Arc<Held>, sent_at_ms: u64) -> bool {
        let settled = lock(&self.settled);
        // The weak reference keeps the allocation: no other copy can come to lie there.
        std::ptr::eq(settled.copy.as_ptr(), Arc::as_ptr(copy)) && sent_at_ms <= settled.until_ms
    }

    /// Notes that it tells nothing new beside this copy, as the reply to a request sent until then.
    pub(crate) fn settle(&self, copy: &Arc<Held>, until_ms: u64) {
        *lock(&self.settled) = Settled { copy: Arc::downgrade(copy), until_ms };
    }

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
            return Err(wrong_reply("a hash", pair.last().unwrap_or(&Value::Nil)));
        };
        match (std::str::from_utf8(field), std::str::from_utf8(value)) {
            (Ok(field), Ok(value)) => fields.push((field, value)),
            _ => return Err(CallError::not_a_record(key, "a field is no text")),
        }
    }
    Record::from_fields(fields.into_iter()).map_err(|error| CallError::not_a_record(key, &error))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(texts: &[&str]) -> Flat {
        texts.iter().map(|text| Value::BulkString(text.as_bytes().to_vec())).collect()
    }

    fn name(value: &str) -> Flat {
        flat(&["pname", &format!("{}{value}", "01".repeat(16))])
    }

    #[test]
    fn a_reply_that_comes_again_is_decoded_once() {
        let (decoder, uid) = (Decoder::default(), "u".parse().unwrap());
        let decode = |flat: &Flat| decoder.decode(&uid, "cc1:p:u", flat).ok().unwrap();
        let first = decode(&name("\"Ann\""));
        assert!(Arc::ptr_eq(&first, &decode(&name("\"Ann\""))));
        let second = decode(&name("\"Bob\""));
        assert_ne!(first.record, second.record);
        assert!(!Arc::ptr_eq(&first, &decode(&name("\"Ann\""))));
    }

    #[test]
    fn bytes_are_compared_text_by_text() {
        let bytes = Bytes::of(&flat(&["ab", "c"]));
        assert!(bytes.are(&flat(&["ab", "c"])));
        for other in [&["a", "bc"][..], &["ab"], &["ab", "c", ""], &["ab", "d"], &[]] {
            assert!(!bytes.are(&flat(other)), "{other:?}");
        }
        assert!(!bytes.are(&vec![Value::BulkString(b"ab".to_vec()), Value::Nil]));
    }

    #[test]
    fn a_reply_is_settled_beside_one_copy_for_a_time() {
        let reply = Decoder::default().decode(&"u".parse().unwrap(), "cc1:p:u", &name("1")).ok().unwrap();
        let copy = Arc::new(Held::default());
        assert!(!reply.is_settled(&copy, 0));
        reply.settle(&copy, 7);
        assert!(reply.is_settled(&copy, 7));
        assert!(!reply.is_settled(&copy, 8));
        // Equal, and yet another copy: what it holds may have changed since.
        let other = Arc::new((*copy).clone());
        drop(copy);
        assert!(!reply.is_settled(&other, 7));
    }
}
