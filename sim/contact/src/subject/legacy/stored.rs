//! What the old client stores: a record's JSON as a string in Redis, and one JSON object of records in its file.

use std::collections::BTreeMap;

use serde_json::{Value as Json, value::RawValue};

use crate::history::{
    RecordName, StoredEntry, StoredRecord,
    contents::{Raw, StoredValue},
};

/// A record in Redis.
pub(in crate::subject) fn in_redis(name: RecordName, value: &StoredValue) -> StoredRecord {
    let shows = match value {
        StoredValue::String(Raw(json)) => {
            serde_json::from_slice(json).map_err(|cause| format!("it is no JSON: {cause}"))
        }
        StoredValue::List(_) => Err("it is a list, and a record is a string".to_owned()),
        StoredValue::Set(_) | StoredValue::SortedSet(_) => Err("it is a set, and a record is a string".to_owned()),
        StoredValue::Hash(_) => Err("it is a hash, and a record is a string".to_owned()),
    };
    record(name, shows)
}

/// What the file of a prefix holds. One that does not parse counts as empty, as it does for the client.
pub(in crate::subject) fn in_file(file: &[u8], prefix: &str) -> Vec<StoredEntry> {
    let records: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(file).unwrap_or_default();
    let entry = |(uid, json): (String, Box<RawValue>)| StoredEntry {
        bytes: Raw(json.get().as_bytes().to_vec()),
        record: record(
            RecordName { prefix: prefix.to_owned(), uid },
            serde_json::from_str(json.get()).map_err(|cause| cause.to_string()),
        ),
    };
    records.into_iter().map(entry).collect()
}

fn record(name: RecordName, shows: Result<Json, String>) -> StoredRecord {
    let RecordName { prefix, uid } = name;
    let (shows, wrong) = shows.map_or_else(|wrong| (None, Some(wrong)), |shows| (Some(shows.into()), None));
    StoredRecord { prefix, uid, shows, wrong, pending: false, life: None, stamps: None }
}
