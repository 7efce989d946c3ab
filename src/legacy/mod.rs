//! The records of the cache that came before this one, in its two forms: the file `revealed_contacts.json` ([`mod@file`])
//! and keys in Redis ([`keys`]). They are given to [`ContactCache::import`](crate::ContactCache::import).
//!
//! Each record is an object like [`CachedContact`], with what Python leaves open: `contacts`, `profile` and `metadata`
//! may be null or missing, `uid` too (its key names it); times may lack a zone (then they are UTC) and may be finer than
//! a millisecond (the rest is cut off). What cannot be kept exactly otherwise is an error.

pub mod file;
pub mod keys;

use serde::{Deserialize, Deserializer, de};
use serde_json::{Map, Value as Json};

use crate::{
    contact::{CachedContact, ContactPoint, Patch, Timestamp},
    reserved,
    shown::{Line, without_values},
};

/// A record that cannot be taken over: where, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {}", Line(reason))]
pub struct BadRecord {
    /// In the file or value, from one.
    pub line: usize,
    /// In bytes, from one.
    pub column: usize,
    /// What is wrong with it, without the values that it has.
    pub reason: String,
}

/// A place in a text: line from one, column in bytes from zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TextPlace {
    line: usize,
    column: usize,
}

impl Default for TextPlace {
    fn default() -> Self {
        Self { line: 1, column: 0 }
    }
}

impl TextPlace {
    /// That of a byte.
    fn of(text: &str, at: usize) -> Self {
        let before = &text[..at];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self { line: 1 + before.matches('\n').count(), column: at - line_start }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LegacyForm {
    uid: Option<String>,
    contacts: Option<Vec<ContactPoint>>,
    profile: Option<Map<String, Json>>,
    metadata: Option<Map<String, Json>>,
    first_revealed_at: LegacyMoment,
    last_updated_at: LegacyMoment,
}

struct LegacyMoment(Timestamp);

impl<'de> Deserialize<'de> for LegacyMoment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let zoned = text.parse::<jiff::Timestamp>().ok();
        let moment = zoned.or_else(|| {
            let civil = text.parse::<jiff::civil::DateTime>().ok()?;
            jiff::tz::Offset::UTC.to_timestamp(civil).ok()
        });
        let millis = moment.and_then(|moment| u64::try_from(moment.as_millisecond()).ok());
        let kept = millis.map(Timestamp::from_millis).filter(|kept| Some(kept.millis()) == millis);
        let wrong = || de::Error::custom("it is not a moment between 1970 and 9999");
        kept.map(Self).ok_or_else(wrong)
    }
}

/// The record of this name that stands in `text`.
///
/// # Errors
/// Says where in `text`, and why.
pub fn record(name: &str, text: &str) -> Result<CachedContact, BadRecord> {
    if let Some(at) = reserved::first_key_in(text) {
        let TextPlace { line, column } = TextPlace::of(text, at);
        let reason = "the field has a reserved name, with which serde_json marks numbers: rename it".to_owned();
        return Err(BadRecord { line, column: column + 1, reason });
    }
    let form: LegacyForm = serde_json::from_str(text).map_err(|error| BadRecord::of(&error))?;
    let at_start = |reason: String| BadRecord { line: 1, column: 1, reason };
    // A list of the fields' values would be read as well.
    if !text.trim_start().starts_with('{') {
        return Err(at_start("it is no object".to_owned()));
    }
    if form.uid.as_ref().is_some_and(|uid| uid != name) {
        return Err(at_start(format!("it says uid {:?}, and is filed under {name:?}", form.uid.unwrap_or_default())));
    }
    let record = CachedContact {
        uid: name.parse().map_err(|error: crate::NameError| at_start(error.to_string()))?,
        contacts: form.contacts.unwrap_or_default(),
        profile: form.profile.unwrap_or_default(),
        metadata: form.metadata.unwrap_or_default(),
        first_revealed_at: form.first_revealed_at.0,
        last_updated_at: form.last_updated_at.0,
    };
    if record.first_revealed_at > record.last_updated_at {
        return Err(at_start("first_revealed_at is later than last_updated_at".to_owned()));
    }
    Patch::from(record.clone()).check().map_err(|refusal| at_start(refusal.to_string()))?;
    Ok(record)
}

impl BadRecord {
    fn of(error: &serde_json::Error) -> Self {
        let (line, column) = (error.line(), error.column());
        let text = error.to_string();
        let reason = text.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&text);
        Self { line: line.max(1), column: column.max(1), reason: without_values(reason) }
    }

    /// The same, in the text that the record's own begins in at this place.
    fn within(self, begin: TextPlace) -> Self {
        let column = if self.line == 1 { self.column + begin.column } else { self.column };
        Self { line: self.line + begin.line - 1, column, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: &str =
        r#""first_revealed_at": "2026-01-31T12:00:00", "last_updated_at": "2026-02-01T09:30:00.123999+01:00""#;

    #[test]
    fn a_record_as_python_wrote_it_is_taken() {
        let text = format!(r#"{{"uid": "u", "contacts": null, "profile": {{"n": 12345678901234567890123}}, {TIMES}}}"#);
        let record = record("u", &text).unwrap();
        assert_eq!(record.first_revealed_at.to_string(), "2026-01-31T12:00:00.000Z", "without a zone it is UTC");
        assert_eq!(record.last_updated_at.to_string(), "2026-02-01T08:30:00.123Z", "cut off, not rounded");
        assert_eq!(record.profile["n"].to_string(), "12345678901234567890123");
        assert!(record.contacts.is_empty() && record.metadata.is_empty());
    }

    #[test]
    fn what_cannot_be_kept_exactly_is_an_error_with_its_place() {
        let early = r#"{"first_revealed_at": "1969-01-01T00:00:00Z", "last_updated_at": "2026-01-01T00:00:00Z"}"#;
        let backwards = r#"{"first_revealed_at": "2026-01-02", "last_updated_at": "2026-01-01"}"#;
        for (text, said) in [
            ("7".to_owned(), "line 1, column 1: invalid type: integer, expected"),
            (r#"["u", [], {}, {}, "2026-01-01", "2026-01-01"]"#.to_owned(), "line 1, column 1: it is no object"),
            (format!(r#"{{"uid": "v", {TIMES}}}"#), r#"says uid "v", and is filed under "u""#),
            (
                format!(r#"{{"contacts": [{{"type": "phone", "value": 7}}], {TIMES}}}"#),
                "the value of a contact point must be a string",
            ),
            (
                format!("{{\n \"profile\": {{\"$serde_json::private::Number\": \"1\"}}, {TIMES}}}"),
                "line 2, column 14: the field has",
            ),
            (format!("{{\n\"zip\": 1, {TIMES}}}"), "line 2, column 5: unknown field `zip`"),
            (r#"{"uid": "u"}"#.to_owned(), "missing field `first_revealed_at`"),
            (early.to_owned(), "is not a moment between 1970 and 9999"),
            (backwards.to_owned(), "first_revealed_at is later than last_updated_at"),
            (format!(r#"{{"profile": {{"a": "\ud800"}}, {TIMES}}}"#), "unexpected end of hex escape"),
        ] {
            let error = record("u", &text).unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
