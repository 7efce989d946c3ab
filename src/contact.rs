//! Contact records as an application sees them: what is read, what an upsert asks for, and which of it can be kept.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::{Map, Value as Json};

use crate::{key::Uid, reserved};

/// Deepest nesting of lists and maps within one field. `serde_json` reads 128 levels; the record around a field takes
/// a few.
pub const NESTING_MAX: usize = 100;

/// A contact record, as it is read.
///
/// Its JSON form is
/// `{"uid", "contacts": [{"type", "value", ..}], "profile": {..}, "metadata": {..}, "first_revealed_at",
/// "last_updated_at"}`; the order of keys has no meaning, the order of contact points has.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CachedContact {
    /// The record's name.
    pub uid: Uid,
    /// The ways to reach the contact, in order; no two of the same type and value.
    pub contacts: Vec<ContactPoint>,
    /// The contact's profile.
    pub profile: Map<String, Json>,
    /// What the application noted about the record.
    pub metadata: Map<String, Json>,
    /// When the record was first written.
    pub first_revealed_at: Timestamp,
    /// When the record was last written.
    pub last_updated_at: Timestamp,
}

/// One way to reach a contact. Type and value identify it within its record.
#[derive(Clone, PartialEq)]
pub struct ContactPoint {
    /// For example `email`; `type` in JSON.
    pub kind: String,
    /// For example an address.
    pub value: String,
    /// All other fields, for example `label`.
    pub rest: Map<String, Json>,
}

/// What an upsert asks for. Contact points are united with those that the record has, by type and value; profile and
/// metadata are merged field by field, the field given winning.
#[derive(Clone, Default, PartialEq)]
pub struct Patch {
    /// Contact points to add, or to replace.
    pub contacts: Vec<ContactPoint>,
    /// Profile fields to set. A null at the top level means no change; nulls below are kept.
    pub profile: Map<String, Json>,
    /// Metadata fields to set; nulls are kept.
    pub metadata: Map<String, Json>,
    /// Contact points to remove, by type and value.
    pub without_contacts: Vec<(String, String)>,
    /// Profile fields to remove.
    pub without_profile: Vec<String>,
    /// Metadata fields to remove.
    pub without_metadata: Vec<String>,
}

/// Something that cannot be kept exactly, and is therefore not kept at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place} {reason}")]
pub struct Refusal {
    place: String,
    reason: String,
}

impl Patch {
    /// Whether every part of it would come back as it was written.
    ///
    /// # Errors
    /// Names the first part that would not: a contact point by its number, from one, since its value is the contact's
    /// data.
    pub fn check(&self) -> Result<(), Refusal> {
        let mut names = std::collections::BTreeSet::new();
        for (index, contact) in self.contacts.iter().enumerate() {
            if !names.insert((contact.kind.as_str(), contact.value.as_str())) {
                return Err(refusal(contact_point(index), "is the same as one before it: give it once"));
            }
            contact.check(index)?;
        }
        for (index, (kind, value)) in self.without_contacts.iter().enumerate() {
            if !names.insert((kind, value)) {
                let place = format!("contact point {} of `without_contacts`", index + 1);
                return Err(refusal(place, "is set, or removed, before: name it once"));
            }
        }
        for (map, what, without) in [
            (&self.profile, "profile field", &self.without_profile),
            (&self.metadata, "metadata field", &self.without_metadata),
        ] {
            let without: std::collections::BTreeSet<_> = without.iter().collect();
            if reserved::is_key_of(map) {
                return Err(refusal(format!("a {what}"), "has a reserved name: rename it"));
            }
            for (name, value) in map {
                check_value(value, || format!("{what} {name:?}"))?;
                if without.contains(name) {
                    return Err(refusal(format!("{what} {name:?}"), "is both set and removed: do one of them"));
                }
            }
        }
        Ok(())
    }

    /// Whether a text of JSON means what it says once it is parsed. `serde_json` reads
    /// `{"$serde_json::private::Number":"1"}` as the number 1, after which [`Self::check`] sees a number: an application
    /// that takes JSON from others asks this first.
    ///
    /// # Errors
    /// Says at which byte the reserved name begins.
    pub fn check_text(json: &str) -> Result<(), Refusal> {
        match reserved::first_key_in(json) {
            Some(at) => Err(refusal(format!("the field at byte {at}"), "has a reserved name: rename it")),
            None => Ok(()),
        }
    }
}

/// How an error names a contact point.
fn contact_point(index: usize) -> String {
    format!("contact point {}", index + 1)
}

/// What an upsert would ask for to write all of a record. Its times are no part of a patch.
impl From<CachedContact> for Patch {
    fn from(record: CachedContact) -> Self {
        let CachedContact { contacts, profile, metadata, .. } = record;
        Self { contacts, profile, metadata, ..Self::default() }
    }
}

impl ContactPoint {
    fn check(&self, index: usize) -> Result<(), Refusal> {
        let place = || contact_point(index);
        if self.rest.contains_key("type") || self.rest.contains_key("value") {
            return Err(refusal(place(), "has another `type` or `value` in `rest`: leave it out"));
        }
        if reserved::is_key_of(&self.rest) {
            return Err(refusal(place(), "uses a reserved field name: rename it"));
        }
        self.rest.values().try_for_each(|value| check_value(value, place))
    }
}

/// Without the contact's data, as the others: what is printed for debugging ends up in logs.
impl fmt::Debug for CachedContact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CachedContact")
            .field("uid", &self.uid)
            .field("contacts", &self.contacts.len())
            .field("profile", &self.profile.len())
            .field("metadata", &self.metadata.len())
            .field("first_revealed_at", &self.first_revealed_at)
            .field("last_updated_at", &self.last_updated_at)
            .finish()
    }
}

impl fmt::Debug for ContactPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContactPoint").field("rest", &self.rest.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Patch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Patch")
            .field("contacts", &self.contacts.len())
            .field("profile", &self.profile.len())
            .field("metadata", &self.metadata.len())
            .field("without_contacts", &self.without_contacts.len())
            .field("without_profile", &self.without_profile.len())
            .field("without_metadata", &self.without_metadata.len())
            .finish()
    }
}

impl Serialize for ContactPoint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(
            [("type", &Json::from(self.kind.as_str())), ("value", &Json::from(self.value.as_str()))]
                .into_iter()
                .chain(self.rest.iter().map(|(name, value)| (name.as_str(), value))),
        )
    }
}

impl<'de> Deserialize<'de> for ContactPoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut rest = Map::deserialize(deserializer)?;
        let mut text = |name: &'static str| match rest.remove(name) {
            Some(Json::String(text)) => Ok(text),
            Some(_) => Err(de::Error::custom(format_args!("the {name} of a contact point must be a string"))),
            None => Err(de::Error::missing_field(name)),
        };
        Ok(Self { kind: text("type")?, value: text("value")?, rest })
    }
}

fn refusal(place: String, reason: &str) -> Refusal {
    Refusal { place, reason: reason.to_owned() }
}

fn check_value(value: &Json, place: impl Fn() -> String) -> Result<(), Refusal> {
    // A stack of our own: a value built in memory may be deeper than the thread's stack allows.
    let mut open = vec![(value, 0)];
    while let Some((value, depth)) = open.pop() {
        if depth > NESTING_MAX {
            return Err(refusal(place(), &format!("is nested deeper than {NESTING_MAX} levels: flatten it")));
        }
        match value {
            Json::Array(items) => open.extend(items.iter().map(|item| (item, depth + 1))),
            Json::Object(map) if reserved::is_key_of(map) => {
                return Err(refusal(place(), "contains a map with a reserved field name: rename it"));
            }
            Json::Object(map) => open.extend(map.values().map(|item| (item, depth + 1))),
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {}
        }
    }
    Ok(())
}

/// A moment, in whole milliseconds since the Unix epoch; in JSON `2026-01-31T12:00:00.000Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(u64);

/// 9999-12-30T22:00:00.999Z, the latest time that `jiff` reads (`jiff::Timestamp::MAX`): RFC 3339 has four digits for a year at every offset from UTC.
const TIMESTAMP_MS_MAX: u64 = 253_402_207_200_999;

impl Timestamp {
    /// Milliseconds after 9999-12-30T22:00:00.999Z become that moment: it is the latest that can be read back.
    pub fn from_millis(millis: u64) -> Self {
        Self(millis.min(TIMESTAMP_MS_MAX))
    }

    /// Milliseconds since the Unix epoch.
    pub fn millis(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = i64::try_from(self.0).unwrap_or(i64::MAX);
        let moment = jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::MAX);
        write!(f, "{moment:.3}")
    }
}

/// A text that is no moment that can be kept.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a moment in whole milliseconds between 1970 and 9999, such as 2026-01-31T12:00:00.000Z")]
pub struct ParseTimestampError(());

impl FromStr for Timestamp {
    type Err = ParseTimestampError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseTimestampError(());
        let moment: jiff::Timestamp = text.parse().map_err(|_| error())?;
        if moment.as_nanosecond() % 1_000_000 != 0 {
            return Err(error());
        }
        let millis = u64::try_from(moment.as_millisecond()).map_err(|_| error())?;
        (millis <= TIMESTAMP_MS_MAX).then_some(Self(millis)).ok_or_else(error)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Uid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

macro_rules! deserialize_from_text {
    ($($type:ty),*) => {$(
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    )*};
}

deserialize_from_text!(Timestamp, Uid);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const RECORD: &str = r#"{"uid": "u1", "contacts": [{"type": "email", "value": "a@x.org", "label": "work"}],
        "profile": {"name": "A", "company": {"name": "X"}}, "metadata": {"source": "api", "version": 2},
        "first_revealed_at": "2026-01-31T12:00:00.000Z", "last_updated_at": "2026-02-01T08:30:00.000Z"}"#;

    #[test]
    fn a_record_becomes_exactly_its_json_and_back() {
        let record: CachedContact = serde_json::from_str(RECORD).unwrap();
        assert_eq!(serde_json::to_value(&record).unwrap(), serde_json::from_str::<Json>(RECORD).unwrap());
        assert_eq!(record.contacts[0].rest["label"], "work");
        assert_eq!(record.first_revealed_at.millis(), 1_769_860_800_000);
    }

    #[test]
    fn numbers_keep_every_digit() {
        let text = "[9007199254740993,12345678901234567890123,1.10,-0.0,1e400]";
        let value: Json = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&value).unwrap(), text.replace("1e400", "1e+400"));
    }

    #[test]
    fn a_contact_point_without_type_or_with_a_number_for_a_value_is_an_error_that_says_so() {
        let error = |json: Json| serde_json::from_value::<ContactPoint>(json).unwrap_err().to_string();
        assert_eq!(error(json!({"value": "v"})), "missing field `type`");
        assert!(
            error(json!({"type": "phone", "value": 123})).contains("the value of a contact point must be a string")
        );
    }

    #[test]
    fn a_patch_that_could_not_come_back_equal_is_refused_with_its_place() {
        let deep = (0..=NESTING_MAX).fold(json!(1), |inner, _| json!([inner]));
        let refused = |patch: Patch| patch.check().unwrap_err().to_string();
        let profile = |value: Json| Patch { profile: Map::from_iter([("x".into(), value)]), ..Patch::default() };
        assert_eq!(refused(profile(deep)), r#"profile field "x" is nested deeper than 100 levels: flatten it"#);
        let reserved = "$serde_json::private::Number";
        assert!(refused(profile(json!({reserved: "1"}))).contains("reserved field name"));
        let named = Patch { metadata: Map::from_iter([(reserved.into(), json!("1"))]), ..Patch::default() };
        assert_eq!(refused(named), "a metadata field has a reserved name: rename it");
        let point = ContactPoint { kind: "email".into(), value: "a".into(), rest: Map::new() };
        let twice = Patch { contacts: vec![point.clone(), point], ..Patch::default() };
        assert_eq!(refused(twice), "contact point 2 is the same as one before it: give it once");
        let text = Patch::check_text(r#"{"a":{"$serde_json::private::Number":"1"}}"#).unwrap_err().to_string();
        assert_eq!(text, "the field at byte 6 has a reserved name: rename it");
    }

    #[test]
    fn nothing_of_a_contact_is_printed_for_debugging() {
        let record: CachedContact = serde_json::from_str(&RECORD.replace("company", "secret")).unwrap();
        let printed = format!("{record:?} {:?} {:?}", record.contacts, Patch::from(record.clone()));
        assert!(printed.contains("u1"), "{printed}");
        for data in ["a@x.org", "work", "\"A\"", "secret", "api", "email"] {
            assert!(!printed.contains(data), "{data} in {printed}");
        }
    }

    #[test]
    fn a_value_at_the_nesting_limit_is_kept() {
        let deep = (0..NESTING_MAX).fold(json!(1), |inner, _| json!([inner]));
        let patch = Patch { metadata: Map::from_iter([("x".into(), deep.clone())]), ..Patch::default() };
        assert_eq!(patch.check(), Ok(()));
        assert_eq!(serde_json::from_str::<Json>(&deep.to_string()).unwrap(), deep);
    }

    #[test]
    fn moments_beyond_milliseconds_or_before_1970_are_refused() {
        for text in ["2026-01-31T12:00:00.0001Z", "1969-12-31T23:59:59.999Z", "yesterday", ""] {
            assert!(text.parse::<Timestamp>().is_err(), "{text}");
        }
        assert_eq!("2026-01-31T13:00:00+01:00".parse::<Timestamp>().unwrap().to_string(), "2026-01-31T12:00:00.000Z");
    }
}
