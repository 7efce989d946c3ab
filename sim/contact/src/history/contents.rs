//! What is stored at the end of a run, byte for byte, in Redis and in the local stores; and what the bed makes of it.
//!
//! The bed reads the bytes by the documented form of what it finds there, with code of its own: the subject's code would
//! agree with its own mistakes.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::Shown;

/// Bytes as they are stored. In JSON a text, or `{"hex": "00ff"}` if they are none.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Raw(pub Vec<u8>);

/// A key of Redis and what it holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredKey {
    /// The key.
    pub key: Raw,
    /// What it holds.
    pub value: StoredValue,
    /// When it expires, in milliseconds since the epoch of the server's clock; none if never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at_ms: Option<u64>,
    /// The records that it holds: none if it holds something else, several if the subject's keys are ambiguous.
    pub records: Vec<StoredRecord>,
    /// That it is the marker of the data of a prefix, if the subject has such keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub marker: Option<StoredMarker>,
}

/// A key that tells one state of Redis's data from the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredMarker {
    /// The key prefix whose it is.
    pub prefix: String,
    /// Why it is not of the documented form, if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wrong: Option<String>,
}

/// What a key of Redis holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StoredValue {
    /// A string.
    String(Raw),
    /// The fields of a hash and their values, in the order of the fields.
    Hash(Vec<(Raw, Raw)>),
    /// The elements of a list, from left to right.
    List(Vec<Raw>),
    /// The members of a set, in the order of their bytes.
    Set(Vec<Raw>),
    /// The members of a sorted set, in the order of their bytes, and their scores as Redis writes them: JSON has no infinity.
    SortedSet(Vec<(Raw, String)>),
}

/// What a local store holds of a record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredEntry {
    /// As it stands in the file, which may hold more around it.
    pub bytes: Raw,
    /// The record.
    pub record: StoredRecord,
}

/// A record in what is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredRecord {
    /// The key prefix that it is under.
    pub prefix: String,
    /// Its uid.
    pub uid: String,
    /// The record in its JSON form, as of [`super::Answer::Read`]; none if there is none: removed, or expired.
    pub shows: Option<Shown>,
    /// Why it is no record of the documented form, if it is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wrong: Option<String>,
    /// It holds a write that Redis does not have, by its own word.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pending: bool,
    /// The life in it, if it has one, over or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub life: Option<StoredLife>,
    /// Under which stamps Redis holds it, if it has stamps there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stamps: Option<Stamps>,
}

/// From when until when a record lives, in milliseconds since 1970 of Redis's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredLife {
    /// The first moment of it.
    pub begins_ms: u64,
    /// The first moment after it; `None` if it has no end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_ms: Option<u64>,
}

impl fmt::Display for StoredLife {
    /// `from 17 to 20`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ends_ms {
            Some(ends_ms) => write!(f, "from {} to {ends_ms}", self.begins_ms),
            None => write!(f, "from {} on", self.begins_ms),
        }
    }
}

/// The stamps of a record in Redis: text that compares as the stamps do. Cells without a value have theirs as well.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stamps {
    /// Of the removal that it remembers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub removed: Option<String>,
    /// Of its existence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub existence: Option<String>,
    /// Of its contact points.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub contacts: Vec<StampedContact>,
    /// Of the fields of its profile.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub profile: BTreeMap<String, String>,
    /// Of the fields of its metadata.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

/// The stamp of a contact point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StampedContact {
    /// The `type` of the contact point.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its `value`.
    pub value: String,
    /// The stamp.
    pub stamp: String,
}

impl Serialize for Raw {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => Hex { hex: hex::encode(&self.0) }.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match WrittenContents::deserialize(deserializer)? {
            WrittenContents::Text(text) => Ok(Self(text.into_bytes())),
            WrittenContents::Hex(Hex { hex }) => match hex::decode(&hex) {
                Ok(bytes) if std::str::from_utf8(&bytes).is_err() => Ok(Self(bytes)),
                Ok(_) => Err(de::Error::custom(format!("the bytes {hex} are a text: write them as one"))),
                Err(cause) => Err(de::Error::custom(format!("{hex:?} is no hexadecimal text: {cause}"))),
            },
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Hex {
    hex: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum WrittenContents {
    Text(String),
    Hex(Hex),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_a_text_where_they_can_be_one_and_come_back() {
        for (bytes, json) in [(b"a\"\n".as_slice(), r#""a\"\n""#), (b"", r#""""#), (b"\xff\x00", r#"{"hex":"ff00"}"#)] {
            let raw = Raw(bytes.to_vec());
            assert_eq!(serde_json::to_string(&raw).unwrap(), json);
            assert_eq!(serde_json::from_str::<Raw>(json).unwrap(), raw);
        }
    }

    #[test]
    fn bytes_that_are_written_otherwise_are_refused() {
        for json in
            [r#"{"hex":"ff0"}"#, r#"{"hex":"+f"}"#, r#"{"hex":"zz"}"#, r#"{"hex":"61"}"#, "7", r#"{"hex":"ff","x":1}"#]
        {
            assert!(serde_json::from_str::<Raw>(json).is_err(), "{json}");
        }
    }
}
