//! G1: what is written comes back equal, from every tier.
//!
//! Each value that a read shows equals, as JSON with its numbers digit for digit, what the write named by its tag wrote
//! into that cell; the record has the documented form; and contact points stand in the order in which they were
//! written. Values without a tag of this record are for G7. The same holds for what is stored at the end of a run in Redis and
//! in the local stores, which has the documented form, and where every value names its write.

use std::collections::BTreeSet;

use serde_json::Value as Json;

use super::{
    Account, Excuse, Verdict,
    cells::RecordCell,
    operation::{EXISTENCE, Operation, Seen, numbers},
    operations::Operations,
    record::RecordHistory,
    stored::Showing,
    timestamp,
};
use crate::history::What;

pub(super) fn check(run: &Operations<'_>, account: &mut Account) -> Verdict {
    if let Some(violation) = run.history.events.iter().find_map(|event| wrong_marker(&event.what)) {
        return violation;
    }
    for record in &run.records {
        let mut right: Option<(&Json, u64)> = None;
        for read in record.reads.iter().map(|&op| &run.all[op]) {
            let Some(showing) = read.showing() else { continue };
            let json = showing.json;
            account.count(showing.shown.contains(&Seen::Stray).then_some(Excuse::MissingTag));
            // What was right once is right at any later time: no write that was called before becomes uncalled.
            if right.is_some_and(|(same, returned)| std::ptr::eq(same, json) && returned <= read.returned()) {
                continue;
            }
            if let Some(violation) = wrong(run, record, &showing) {
                return violation;
            }
            right = Some((json, read.returned()));
        }
        for stored in &record.stored {
            if let Some(wrong) = &stored.record.wrong {
                let message = format!("{record}: {stored} holds what is not of the documented form: {wrong}");
                return Verdict::Violation { message, ops: Vec::new() };
            }
            account.count(None);
            if let Some(violation) = stored.showing().and_then(|showing| wrong(run, record, &showing)) {
                return violation;
            }
        }
    }
    Verdict::Pass
}

fn wrong_marker(what: &What) -> Option<Verdict> {
    let What::RedisHolds { keys } = what else { return None };
    let wrong =
        keys.iter().filter_map(|key| key.marker.as_ref()).find_map(|marker| Some((marker, marker.wrong.as_ref()?)));
    let (marker, wrong) = wrong?;
    let message = format!("in the end the marker of prefix {:?} is not of the documented form: {wrong}", marker.prefix);
    Some(Verdict::Violation { message, ops: Vec::new() })
}

fn wrong<'h>(run: &Operations<'h>, record: &RecordHistory<'h>, showing: &Showing<'_, 'h>) -> Option<Verdict> {
    let (message, by) = match form(record, showing.json) {
        Err(wrong) => (format!("{record}: {} {wrong}", showing.by), None),
        Ok(()) => values(run, record, showing).and_then(|()| order(run, record, showing)).err()?,
    };
    let ops: Vec<_> = showing.read.into_iter().chain(by).collect();
    Some(Verdict::Violation { message, ops: numbers(&ops) })
}

/// What is wrong with what is shown, and the write that shows it.
type WrongShowing<'a, 'h> = (String, Option<&'a Operation<'h>>);

/// The documented form of a record, whatever its values.
fn form(record: &RecordHistory<'_>, json: &Json) -> Result<(), String> {
    let fields = json.as_object().ok_or_else(|| format!("answered {json}, which is no record"))?;
    let known = ["uid", "contacts", "profile", "metadata", "first_revealed_at", "last_updated_at"];
    if let Some(field) = fields.keys().find(|field| !known.contains(&field.as_str())) {
        return Err(format!("shows the field {field:?}, which a record does not have"));
    }
    if json.get("uid").and_then(Json::as_str) != Some(record.uid) {
        return Err(format!("shows the uid {}", json.get("uid").unwrap_or(&Json::Null)));
    }
    for field in ["profile", "metadata"] {
        if fields.get(field).is_some_and(|value| !value.is_object()) {
            return Err(format!("shows {} as {field}, which is no object", fields[field]));
        }
    }
    let mut points = BTreeSet::new();
    if let Some(contacts) = fields.get("contacts") {
        for contact in contacts.as_array().ok_or_else(|| format!("shows {contacts} as contacts, which is no list"))? {
            let text = |field: &str| contact.get(field).and_then(Json::as_str);
            let point = text("type").zip(text("value"));
            let point = point.ok_or_else(|| format!("shows the contact {contact} without type and value"))?;
            if !points.insert(point) {
                return Err(format!("shows the contact {point:?} twice"));
            }
        }
    }
    let time = |field: &str| {
        let value = fields.get(field).and_then(Json::as_str);
        value.filter(|text| timestamp::millis(text).is_some()).ok_or_else(|| {
            format!("shows {} as {field}, not YYYY-MM-DDTHH:MM:SS.mmmZ", fields.get(field).unwrap_or(&Json::Null))
        })
    };
    let (first, last) = (time("first_revealed_at")?, time("last_updated_at")?);
    if first > last {
        return Err(format!("was first revealed at {first}, after its last update at {last}"));
    }
    Ok(())
}

fn values<'a, 'h>(
    run: &'a Operations<'h>,
    record: &RecordHistory<'h>,
    read: &Showing<'_, 'h>,
) -> Result<(), WrongShowing<'a, 'h>> {
    let by = read.by;
    if run.writers(record, EXISTENCE).all(|(_, op)| op.called > read.ordinal) {
        return Err((format!("{record}: {by} shows one, which nobody had written"), None));
    }
    for &(cell, value) in read.values {
        let place = || format!("{}: {by} shows {value}", record.name(cell));
        let tag = match read.shown[cell] {
            Seen::Tagged(tag) => tag,
            // In what is stored it may also be a value of its own record in a form of its own.
            Seen::Stray if read.read.is_none() => {
                return Err((format!("{}, which names no write to it", place()), None));
            }
            Seen::Stray | Seen::Absent | Seen::Present => continue,
        };
        let Some(writer) = record.writers.get(&(cell, tag)).map(|&op| &run.all[op]) else {
            return Err((format!("{}, which nobody wrote", place()), None));
        };
        if !writer.may_have_effect() || writer.called > read.ordinal {
            return Err((format!("{}, but {writer} cannot have written it", place()), Some(writer)));
        }
        let mut written = writer.writes.to(cell).map(|(_, write)| write.value);
        if writer.writes.to(cell).all(|(_, write)| write.value != value) {
            let written = written.next().unwrap_or(&Json::Null);
            return Err((format!("{}, but {writer} wrote {written}", place()), Some(writer)));
        }
    }
    Ok(())
}

/// The contact points of one upsert in the order of its patch; only those that no other upsert may have given a place.
fn order<'a, 'h>(
    run: &'a Operations<'h>,
    record: &RecordHistory<'h>,
    read: &Showing<'_, 'h>,
) -> Result<(), WrongShowing<'a, 'h>> {
    let mut last: Vec<(usize, usize, usize)> = Vec::new();
    let is_contact = |cell: usize| matches!(record.cells[cell], RecordCell::Contact { .. });
    for cell in read.values.iter().map(|&(cell, _)| cell).take_while(|&cell| is_contact(cell)) {
        let Seen::Tagged(tag) = read.shown[cell] else { continue };
        let Some(&index) = record.writers.get(&(cell, tag)) else { continue };
        let writer = &run.all[index];
        let mut places = writer.writes.to(cell);
        let (Some((place, _)), None) = (places.next(), places.next()) else { continue };
        if run.writers(record, cell).count() != 1 {
            continue;
        }
        match last.iter_mut().find(|(other, ..)| *other == index) {
            None => last.push((index, place, cell)),
            Some((_, before, other)) if *before > place => {
                let (one, two) = (record.cells[*other], record.cells[cell]);
                let wrong =
                    format!("{record}: {} shows {one} before {two}, but {writer} wrote them the other way", read.by);
                return Err((wrong, Some(writer)));
            }
            Some(before) => *before = (index, place, cell),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Number, json};

    use super::*;
    use crate::{
        checker::{
            Guarantee::Fidelity,
            fixture::{Story, record, stored},
        },
        history::{
            Call,
            Placement::{Local, Shared},
            Source, StoredRecord,
        },
    };

    /// One upsert of hostile values, then a read that shows them after `change`.
    fn hostile(change: impl FnOnce(&mut Json)) -> Story {
        let mut story = Story::new(&["p"]);
        let number: Number = serde_json::from_str("12345678901234567890123.10").expect("a number");
        let tag = json!(["p", "u", 1]);
        let mut shown = record("p", "u", &[]);
        shown["contacts"] = json!([
            {"type": "tel", "value": "2", "label": tag, "extra": [[], {}, null]},
            {"type": "tel", "value": "1", "label": {"tag": tag, "payload": "\u{0}\u{1f600}"}}
        ]);
        shown["profile"] = json!({"name": {"tag": tag, "payload": number}});
        let patch = json!({"contacts": shown["contacts"], "profile": shown["profile"]});
        let patch = serde_json::from_value(patch).expect("a patch");
        let write = story.begin(0, Call::upsert("u", patch));
        story.written(write, Shared);
        change(&mut shown);
        let read = story.get_begins(0, "u");
        story.got_record(read, Source::Merged, shown);
        story
    }

    #[test]
    fn what_was_written_comes_back_equal() {
        hostile(|_| ()).passes(Fidelity);
    }

    #[test]
    fn a_number_that_loses_digits_is_a_violation() {
        let story = hostile(|shown| shown["profile"]["name"]["payload"] = json!(12_345_678_901_234_567_890_123.10));
        story.violates(Fidelity, "profile field \"name\" of record \"u\"", &[1, 2]);
        story.violates(Fidelity, "12345678901234567890123.10", &[1, 2]);
    }

    #[test]
    fn a_changed_field_of_a_contact_is_a_violation() {
        let story = hostile(|shown| shown["contacts"][0]["extra"] = json!([{}, {}, null]));
        story.violates(Fidelity, "contact (\"tel\", \"2\")", &[1, 2]);
    }

    #[test]
    fn contacts_in_another_order_are_a_violation() {
        let story = hostile(|shown| shown["contacts"].as_array_mut().expect("contacts").reverse());
        story.violates(Fidelity, "wrote them the other way", &[1, 2]);
    }

    #[test]
    fn a_contact_that_another_write_may_have_placed_is_free() {
        let mut story = Story::new(&["p"]);
        let other = story.upsert_begins(0, "u", &["@b"]);
        story.info(other);
        let write = story.upsert(0, "u", &["@a", "@b"], Local);
        story.get(0, "u", Source::Local, &[("@b", write), ("@a", write)]);
        story.passes(Fidelity);
    }

    #[test]
    fn a_value_that_nobody_wrote_is_a_violation() {
        let mut story = Story::new(&["p"]);
        let write = story.upsert(0, "u", &["name"], Shared);
        let read = story.get(0, "u", Source::Local, &[("company", write)]);
        story.violates(Fidelity, "profile field \"company\"", &[read]);
        story.violates(Fidelity, "which nobody wrote", &[read]);
    }

    #[test]
    fn a_value_that_was_refused_is_a_violation() {
        let mut story = Story::new(&["p"]);
        story.upsert(0, "u", &["@a"], Shared);
        let refused = story.upsert_begins(0, "u", &["name"]);
        story.fail(refused, "refused: too large");
        let read = story.get(0, "u", Source::Local, &[("name", refused)]);
        story.violates(Fidelity, "cannot have written it", &[refused, read]);
    }

    #[test]
    fn a_record_that_nobody_wrote_is_a_violation() {
        let mut story = Story::new(&["p"]);
        let read = story.get(0, "u", Source::Local, &[]);
        story.upsert(0, "u", &["name"], Shared);
        story.violates(Fidelity, "nobody had written", &[read]);
    }

    #[test]
    fn what_is_stored_otherwise_than_it_was_written_is_a_violation() {
        let mut story = Story::new(&["p"]);
        let write = story.upsert(0, "u", &["name", "@x"], Shared);
        let right = [stored("p", "u", &[("name", write), ("@x", write)])];
        story.redis_holds(&right);
        story.store_holds(0, &right);
        story.passes(Fidelity);

        let mut longer = record("p", "u", &[("@x", write)]);
        longer["contacts"][0]["label"] = json!({"tag": ["p", "u", write], "payload": 1});
        story.store_holds(0, &[StoredRecord { shows: Some(longer.into()), ..right[0].clone() }]);
        story.violates(Fidelity, "under prefix \"p\": the store of instance 0 (event 4) shows", &[write]);
    }

    #[test]
    fn a_stored_value_without_the_tag_of_its_write_is_a_violation() {
        let mut story = Story::new(&["p"]);
        let write = story.upsert(0, "u", &["name"], Shared);
        let mut quoted = record("p", "u", &[("name", write)]);
        quoted["profile"]["name"] = json!(quoted["profile"]["name"].to_string());
        story.redis_holds(&[StoredRecord { shows: Some(quoted.into()), ..stored("p", "u", &[]) }]);
        story.violates(Fidelity, "which names no write to it", &[]);
    }

    #[test]
    fn what_is_stored_in_another_form_is_a_violation() {
        let mut story = Story::new(&["p"]);
        story.upsert(0, "u", &["name"], Shared);
        let wrong = Some("it is a string".to_owned());
        story.redis_holds(&[StoredRecord { wrong, shows: None, ..stored("p", "u", &[]) }]);
        story.violates(Fidelity, "Redis (event 2) holds what is not of the documented form: it is a string", &[]);
    }

    #[test]
    fn what_is_stored_and_nobody_wrote_is_a_violation() {
        let mut story = Story::new(&["p"]);
        let write = story.upsert(0, "u", &["name"], Shared);
        story.redis_holds(&[stored("p", "u", &[("name", write), ("company", write)])]);
        story.violates(Fidelity, "Redis (event 2) shows [\"p\",\"u\",1], which nobody wrote", &[]);
    }

    #[test]
    fn a_record_of_another_form_is_a_violation() {
        let cases = [
            ("uid", json!("v"), "shows the uid \"v\""),
            ("stamp", json!(1), "shows the field \"stamp\""),
            ("profile", json!([]), "which is no object"),
            ("contacts", json!({}), "which is no list"),
            ("contacts", json!([{"type": "tel"}]), "without type and value"),
            ("contacts", json!([{"type": "a", "value": "b"}, {"type": "a", "value": "b"}]), "twice"),
            ("first_revealed_at", json!("2026-01-31T12:00:00Z"), "as first_revealed_at"),
            ("first_revealed_at", json!("2026-02-29T12:00:00.000Z"), "as first_revealed_at"),
            ("last_updated_at", json!("2025-01-01T00:00:00.000Z"), "after its last update"),
        ];
        for (field, value, said) in cases {
            hostile(|shown| shown[field] = value).violates(Fidelity, said, &[2]);
        }
    }
}
