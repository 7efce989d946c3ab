//! Histories told by hand: a builder in which a test reads like the situation that it is about.
//!
//! A field is named by a text: `name` is a field of the profile, `#source` one of the metadata, `@a` the contact point
//! `("email", "a")`; with a `-` before it an upsert removes it. Its value is the tag of the operation that wrote it.
//! Every event takes 100 µs.

use serde_json::{Value as Json, json};

use super::{Guarantee, Verdict};
use crate::faults::Fault;
use crate::history::{
    Answer, Call, Event, FORMAT, Header, History, Imported, Outcome, Patch, Phase, Placement, Source, Stop,
    StoredEntry, StoredKey, StoredRecord, What,
    contents::{Raw, StoredValue},
};

/// A history in the making.
pub(super) struct Story {
    history: History,
    next_op: u64,
    pub(super) now_us: u64,
}

pub(super) const DEADLINE_US: u64 = 250_000;

/// The slowest round trip.
pub(super) const ROUND_TRIP_US: u64 = 5_000;

impl Story {
    /// One instance for each prefix.
    pub(super) fn new(prefixes: &[&str]) -> Self {
        let prefixes = prefixes.iter().map(|&prefix| prefix.to_owned()).collect();
        let header = Header {
            format: FORMAT,
            workload: "told".to_owned(),
            seed: 1,
            prefixes,
            op_deadline_us: DEADLINE_US,
            beyond_budget: false,
            tuning: crate::history::Tuning::default(),
            clock_offsets_ms: Vec::new(),
            clock_error_ms: 0,
            round_trip_us: Some(ROUND_TRIP_US),
            starts_at_ms: None,
        };
        Self { history: History { header, events: Vec::new() }, next_op: 1, now_us: 0 }
    }

    /// Sets the reading of a correct clock at the start.
    pub(super) fn starts_at_ms(&mut self, ms: u64) {
        self.history.header.starts_at_ms = Some(ms);
    }

    /// Records live for so long from now on.
    pub(super) fn expires_after_ms(&mut self, ttl_ms: u64) {
        self.history.header.tuning.record_ttl_ms = Some(ttl_ms);
    }

    pub(super) fn forgets_removals_after_ms(&mut self, ttl_ms: u64) {
        self.history.header.tuning.tombstone_ttl_ms = Some(ttl_ms);
    }

    pub(super) fn limits_pending_to(&mut self, bytes: u64) {
        self.history.header.tuning.pending_bytes_max = Some(bytes);
    }

    pub(super) fn limits_copies_to(&mut self, bytes: u64) {
        self.history.header.tuning.copies_bytes_max = Some(bytes);
    }

    pub(super) fn syncs_every_write(&mut self) {
        self.history.header.tuning.syncs_every_write = true;
    }

    pub(super) fn accepts_losses(&mut self) {
        self.history.header.tuning.accepts_losses = true;
    }

    pub(super) fn told(&self) -> History {
        self.history.clone()
    }

    pub(super) fn event(&mut self, what: What) {
        let ordinal = self.history.events.len() as u64;
        self.now_us += 100;
        self.history.events.push(Event { ordinal, at_us: self.now_us, what });
    }

    pub(super) fn phase(&mut self, phase: Phase) {
        self.event(What::Phase { phase });
    }

    pub(super) fn loss(&mut self) {
        self.event(What::RedisLostData);
    }

    pub(super) fn stop(&mut self, instance: u32, how: Stop) {
        self.event(What::Stopped { instance, how });
        self.event(What::Started { instance });
    }

    /// The wall clock of an instance steps, for good.
    pub(super) fn clock_steps(&mut self, instance: u32, by_ms: i64) {
        self.fault(Fault::ClockStep { instance, by_ms });
    }

    /// The clock of Redis steps, for good.
    pub(super) fn redis_clock_steps(&mut self, by_ms: i64) {
        self.fault(Fault::RedisClockStep { by_ms });
    }

    /// The machine of an instance sleeps for so long.
    pub(super) fn sleeps(&mut self, instance: u32, us: u64) {
        let fault = u32::try_from(self.history.events.len()).expect("a short story");
        self.fault(Fault::InstanceSuspend { instance });
        self.now_us += us;
        self.event(What::FaultEnd { fault, effects: 0 });
    }

    /// A fault begins, and does not end.
    pub(super) fn fault(&mut self, what: Fault) {
        let fault = u32::try_from(self.history.events.len()).expect("a short story");
        self.event(What::FaultBegin { fault, what, at: None });
    }

    pub(super) fn unquiet(&mut self, instance: u32) {
        self.event(What::Unquiet { instance, reason: "3 writes pending".to_owned() });
    }

    pub(super) fn begin(&mut self, instance: u32, call: Call) -> u64 {
        let op = self.next_op;
        self.next_op += 1;
        self.event(What::Invoke { instance, op, call: call.into() });
        op
    }

    pub(super) fn end(&mut self, op: u64, outcome: Outcome) {
        let instance = self.invoked(op).0;
        self.event(What::Complete { instance, op, outcome });
    }

    pub(super) fn ok(&mut self, op: u64, answer: Answer) {
        self.end(op, Outcome::Ok { answer });
    }

    pub(super) fn info(&mut self, op: u64) {
        self.end(op, Outcome::Info { error: "the deadline passed".to_owned() });
    }

    pub(super) fn fail(&mut self, op: u64, error: &str) {
        self.end(op, Outcome::Fail { error: error.to_owned() });
    }

    pub(super) fn upsert_begins(&mut self, instance: u32, uid: &str, fields: &[&str]) -> u64 {
        let prefix = self.history.header.prefixes[instance as usize].clone();
        let patch = patch(&prefix, uid, self.next_op, fields);
        self.begin(instance, Call::upsert(uid, patch))
    }

    /// An import of these fields: what became of the record.
    pub(super) fn import(&mut self, instance: u32, uid: &str, fields: &[&str], became: Imported) -> u64 {
        let prefix = self.history.header.prefixes[instance as usize].clone();
        let patch = patch(&prefix, uid, self.next_op, fields);
        let call =
            Call::Import { uid: uid.to_owned(), patch, first_revealed_ms: 1, last_updated_ms: 2, preview: false };
        let op = self.begin(instance, call);
        self.ok(op, Answer::Imported { became });
        op
    }

    pub(super) fn written(&mut self, op: u64, placement: Placement) {
        self.ok(op, Answer::Written { placement, stamp: None });
    }

    pub(super) fn stamped(&mut self, op: u64, placement: Placement, stamp: &str) {
        self.ok(op, Answer::Written { placement, stamp: Some(stamp.to_owned()) });
    }

    pub(super) fn upsert(&mut self, instance: u32, uid: &str, fields: &[&str], placement: Placement) -> u64 {
        let op = self.upsert_begins(instance, uid, fields);
        self.written(op, placement);
        op
    }

    pub(super) fn remove_begins(&mut self, instance: u32, uid: &str) -> u64 {
        self.begin(instance, Call::remove(uid))
    }

    pub(super) fn remove(&mut self, instance: u32, uid: &str, placement: Placement) -> u64 {
        let op = self.remove_begins(instance, uid);
        self.written(op, placement);
        op
    }

    pub(super) fn clear(&mut self, instance: u32, uids: &[&str]) -> u64 {
        let op = self.begin(instance, Call::Clear);
        let uids = uids.iter().map(|&uid| uid.to_owned()).collect();
        self.ok(op, Answer::Cleared { placement: Placement::Shared, uids, complete: true });
        op
    }

    pub(super) fn list(&mut self, instance: u32, source: Source, uids: &[&str]) -> u64 {
        let op = self.begin(instance, Call::List);
        self.listed(op, source, uids);
        op
    }

    pub(super) fn listed(&mut self, op: u64, source: Source, uids: &[&str]) {
        self.ok(op, Answer::Listed { source, uids: uids.iter().map(|&uid| uid.to_owned()).collect() });
    }

    pub(super) fn get_begins(&mut self, instance: u32, uid: &str) -> u64 {
        self.begin(instance, Call::get(uid))
    }

    /// A read that shows the fields as the given operations wrote them; none at all is an empty record.
    pub(super) fn got(&mut self, op: u64, source: Source, fields: &[(&str, u64)]) {
        let (instance, uid) = self.invoked(op);
        let prefix = self.history.header.prefixes[instance as usize].clone();
        self.got_record(op, source, record(&prefix, &uid, fields));
    }

    pub(super) fn got_record(&mut self, op: u64, source: Source, record: Json) {
        self.ok(op, Answer::Read { source, record: Some(record.into()) });
    }

    pub(super) fn got_none(&mut self, op: u64, source: Source) {
        self.ok(op, Answer::Read { source, record: None });
    }

    pub(super) fn get(&mut self, instance: u32, uid: &str, source: Source, fields: &[(&str, u64)]) -> u64 {
        let op = self.get_begins(instance, uid);
        self.got(op, source, fields);
        op
    }

    pub(super) fn get_none(&mut self, instance: u32, uid: &str, source: Source) -> u64 {
        let op = self.get_begins(instance, uid);
        self.got_none(op, source);
        op
    }

    /// Redis holds these records, each in its JSON form.
    pub(super) fn redis_holds(&mut self, records: &[StoredRecord]) {
        let key = |record: &StoredRecord| StoredKey {
            key: Raw(format!("{}:{}", record.prefix, record.uid).into_bytes()),
            value: StoredValue::String(Raw(b"bytes".to_vec())),
            expires_at_ms: None,
            records: vec![record.clone()],
            marker: None,
        };
        self.event(What::RedisHolds { keys: records.iter().map(key).collect() });
    }

    /// The store of an instance holds these.
    pub(super) fn store_holds(&mut self, instance: u32, records: &[StoredRecord]) {
        let entry = |record: &StoredRecord| StoredEntry { bytes: Raw(b"bytes".to_vec()), record: record.clone() };
        self.event(What::StoreHolds { instance, entries: records.iter().map(entry).collect() });
    }

    /// The guarantee holds in this history.
    #[track_caller]
    pub(super) fn passes(&self, guarantee: Guarantee) {
        assert_eq!(super::check(guarantee, &self.history), Verdict::Pass);
    }

    /// The guarantee is broken by these operations, and the message says so in these words.
    #[track_caller]
    pub(super) fn violates(&self, guarantee: Guarantee, said: &str, by: &[u64]) {
        match super::check(guarantee, &self.history) {
            Verdict::Violation { message, ops } => {
                assert!(message.contains(said), "{said:?} is not in {message:?}");
                assert_eq!(ops, by, "{message}");
            }
            other => panic!("{guarantee} is not violated: {other:?}"),
        }
    }

    /// Nothing can be said about the guarantee, and the reason contains these words.
    #[track_caller]
    pub(super) fn leaves_unknown(&self, guarantee: Guarantee, said: &str) {
        match super::check(guarantee, &self.history) {
            Verdict::Unknown { why } => assert!(why.contains(said), "{said:?} is not in {why:?}"),
            other => panic!("{guarantee} is not unknown: {other:?}"),
        }
    }

    fn invoked(&self, number: u64) -> (u32, String) {
        let invoked = self.history.events.iter().find_map(|event| match &event.what {
            What::Invoke { instance, op, call } if *op == number => Some((*instance, &**call)),
            _ => None,
        });
        let (instance, call) = invoked.expect("an operation that was begun");
        (instance, call.uids().first().cloned().unwrap_or_default())
    }
}

/// The record with these fields, each as written by the operation beside it.
pub(super) fn record(prefix: &str, uid: &str, fields: &[(&str, u64)]) -> Json {
    let mut shown = Patch::default();
    for &(field, op) in fields {
        let one = patch(prefix, uid, op, &[field]);
        shown.contacts.extend(one.contacts);
        shown.profile.extend(one.profile);
        shown.metadata.extend(one.metadata);
    }
    json!({
        "uid": uid, "contacts": shown.contacts, "profile": shown.profile, "metadata": shown.metadata,
        "first_revealed_at": "2026-01-31T12:00:00.000Z", "last_updated_at": "2026-02-01T08:30:00.000Z"
    })
}

/// The same, as it is stored.
pub(super) fn stored(prefix: &str, uid: &str, fields: &[(&str, u64)]) -> StoredRecord {
    let shows = Some(record(prefix, uid, fields).into());
    StoredRecord {
        prefix: prefix.to_owned(),
        uid: uid.to_owned(),
        shows,
        wrong: None,
        pending: false,
        life: None,
        stamps: None,
    }
}

fn patch(prefix: &str, uid: &str, op: u64, fields: &[&str]) -> Patch {
    let tag = json!([prefix, uid, op]);
    let mut patch = Patch::default();
    for &field in fields {
        if let Some(field) = field.strip_prefix('-') {
            match (field.strip_prefix('@'), field.strip_prefix('#')) {
                (Some(value), _) => patch.without_contacts.push(("email".to_owned(), value.to_owned())),
                (None, Some(field)) => patch.without_metadata.push(field.to_owned()),
                (None, None) => patch.without_profile.push(field.to_owned()),
            }
        } else if let Some(value) = field.strip_prefix('@') {
            patch.contacts.push(json!({"type": "email", "value": value, "label": tag}));
        } else if let Some(field) = field.strip_prefix('#') {
            patch.metadata.insert(field.to_owned(), json!({"tag": tag, "payload": [null, {}]}));
        } else {
            patch.profile.insert(field.to_owned(), tag.clone());
        }
    }
    patch
}
