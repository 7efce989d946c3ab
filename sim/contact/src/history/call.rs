//! What an instance can be asked. A field that has its default is not written, so that histories and replay files from before
//! it was there read the same.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::Value as Json;

use super::is_false;

/// What is asked of an instance. Everything happens under the instance's own prefix.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "call", rename_all = "snake_case", deny_unknown_fields, remote = "Self")]
pub enum Call {
    /// Merge `patch` into the record.
    Upsert {
        /// Which record.
        uid: String,
        /// What to write.
        patch: Patch,
        /// Into Redis, or not at all.
        #[serde(default, skip_serializing_if = "is_false")]
        shared: bool,
    },
    /// Read a record.
    Get {
        /// Which record.
        uid: String,
        /// How fresh the answer has to be.
        #[serde(default, skip_serializing_if = "Freshness::is_any")]
        freshness: Freshness,
    },
    /// Read several records, each by itself.
    GetMany {
        /// Which records, each once.
        uids: Vec<String>,
        /// How fresh each answer has to be.
        #[serde(default, skip_serializing_if = "Freshness::is_any")]
        freshness: Freshness,
    },
    /// Remove a record.
    Remove {
        /// Which record.
        uid: String,
        /// From Redis, or not at all.
        #[serde(default, skip_serializing_if = "is_false")]
        shared: bool,
    },
    /// Take over a record of another cache: into Redis, or not at all.
    Import {
        /// Which record.
        uid: String,
        /// What it holds; it removes no field.
        patch: Patch,
        /// When it was first revealed, in milliseconds since 1970.
        first_revealed_ms: u64,
        /// When it was last updated, in milliseconds since 1970: of two imports the one updated later wins.
        last_updated_ms: u64,
        /// Say what would become of it, and write nothing.
        #[serde(default, skip_serializing_if = "is_false")]
        preview: bool,
    },
    /// List the uids under the prefix.
    List,
    /// Remove every record under the prefix.
    Clear,
    /// Drain pending writes now.
    Sync,
}

/// How fresh the answer of a read has to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Freshness {
    /// Whatever the instance can tell.
    #[default]
    Any,
    /// Redis's word; or a copy that Redis confirmed within so many milliseconds, with what the instance wrote itself.
    WithinMs(u64),
    /// Redis's word.
    Shared,
}

impl Freshness {
    fn is_any(&self) -> bool {
        *self == Self::Any
    }
}

impl Call {
    /// A read, as fresh as can be told.
    pub fn get(uid: &str) -> Self {
        Self::Get { uid: uid.to_owned(), freshness: Freshness::Any }
    }

    /// A write into Redis or, while that is away, to the disk.
    pub fn upsert(uid: &str, patch: Patch) -> Self {
        Self::Upsert { uid: uid.to_owned(), patch, shared: false }
    }

    /// A removal from Redis or, while that is away, on the disk.
    pub fn remove(uid: &str) -> Self {
        Self::Remove { uid: uid.to_owned(), shared: false }
    }

    /// The records that it names.
    pub fn uids(&self) -> &[String] {
        match self {
            Self::Upsert { uid, .. } | Self::Get { uid, .. } | Self::Remove { uid, .. } | Self::Import { uid, .. } => {
                std::slice::from_ref(uid)
            }
            Self::GetMany { uids, .. } => uids,
            Self::List | Self::Clear | Self::Sync => &[],
        }
    }

    /// What it writes, if it is an upsert or an import.
    pub fn patch(&self) -> Option<&Patch> {
        match self {
            Self::Upsert { patch, .. } | Self::Import { patch, .. } => Some(patch),
            _ => None,
        }
    }

    pub(crate) fn patch_mut(&mut self) -> Option<&mut Patch> {
        match self {
            Self::Upsert { patch, .. } | Self::Import { patch, .. } => Some(patch),
            _ => None,
        }
    }
}

impl Serialize for Call {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

/// The patch apart from the rest: serde's buffers for tagged enums lose integers beyond 64 bits.
impl<'de> Deserialize<'de> for Call {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut json = Json::deserialize(deserializer)?;
        let written = json.get_mut("patch").map(|patch| std::mem::replace(patch, Json::Object(serde_json::Map::new())));
        let mut call = Self::deserialize(json).map_err(de::Error::custom)?;
        if let (Some(patch), Some(written)) = (call.patch_mut(), written) {
            *patch = serde_json::from_value(written).map_err(de::Error::custom)?;
        }
        Ok(call)
    }
}

/// What an upsert writes: the fields of a record as JSON, only those given, and those that it removes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Patch {
    /// Contact points: objects with strings `type` and `value`, and any other fields.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contacts: Vec<Json>,
    /// Profile fields; a null means no change.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub profile: serde_json::Map<String, Json>,
    /// Metadata fields.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub metadata: serde_json::Map<String, Json>,
    /// Contact points to remove, by type and value.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub without_contacts: Vec<(String, String)>,
    /// Profile fields to remove.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub without_profile: Vec<String>,
    /// Metadata fields to remove.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub without_metadata: Vec<String>,
}

impl Patch {
    /// Whether it removes any contact point or field.
    pub fn removes_cells(&self) -> bool {
        !self.without_contacts.is_empty() || !self.without_profile.is_empty() || !self.without_metadata.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_call_from_before_there_were_demands_reads_and_is_written_as_it_was() {
        for json in [
            json!({"call": "get", "uid": "u"}),
            json!({"call": "remove", "uid": "u"}),
            json!({"call": "upsert", "uid": "u", "patch": {"profile": {"name": "A"}}}),
        ] {
            let call: Call = serde_json::from_value(json.clone()).expect("a call");
            assert_eq!(serde_json::to_value(&call).expect("JSON"), json);
        }
        let json = json!({"call": "get", "uid": "u"});
        assert_eq!(serde_json::from_value::<Call>(json).expect("a call"), Call::get("u"));
    }

    #[test]
    fn demands_and_removed_cells_survive_a_round_trip() {
        for json in [
            json!({"call": "get", "uid": "u", "freshness": "shared"}),
            json!({"call": "get_many", "uids": ["u", "v"], "freshness": {"within_ms": 500}}),
            json!({"call": "remove", "uid": "u", "shared": true}),
            json!({"call": "import", "uid": "u", "first_revealed_ms": 1, "last_updated_ms": 2, "patch": {
                "metadata": {"n": serde_json::from_str::<Json>("12345678901234567890123").expect("a number")}
            }}),
            json!({"call": "upsert", "uid": "u", "shared": true, "patch": {
                "profile": {"n": serde_json::from_str::<Json>("12345678901234567890123").expect("a number")},
                "without_contacts": [["tel", "1"]], "without_profile": ["name"], "without_metadata": ["source"]
            }}),
        ] {
            let call: Call = serde_json::from_value(json.clone()).expect("a call");
            assert_eq!(serde_json::to_value(&call).expect("JSON"), json);
        }
    }
}
