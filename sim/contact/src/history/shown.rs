//! A record as a reader was shown it. Many reads show the same one: it is in memory once, and is made into text once.

use std::{
    ops::Deref,
    sync::{Arc, OnceLock},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value as Json, value::RawValue};

/// JSON that events share. Equal if the JSON is.
#[derive(Clone, Debug)]
pub struct Shown(Arc<Once>);

#[derive(Debug)]
struct Once {
    json: Json,
    text: OnceLock<Box<RawValue>>,
}

impl From<Json> for Shown {
    fn from(json: Json) -> Self {
        Self(Arc::new(Once { json, text: OnceLock::new() }))
    }
}

impl Deref for Shown {
    type Target = Json;

    fn deref(&self) -> &Json {
        &self.0.json
    }
}

impl PartialEq for Shown {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || **self == **other
    }
}

impl Serialize for Shown {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = || serde_json::value::to_raw_value(&self.0.json).expect("JSON becomes text");
        self.0.text.get_or_init(text).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Shown {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Json::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_written_as_its_json_is() {
        let json: Json =
            serde_json::from_str(r#"{"b": [1e400, "ü\n", null], "a": 123456789012345678901234567890}"#).unwrap();
        let shown = Shown::from(json.clone());
        for _ in 0..2 {
            assert_eq!(serde_json::to_string(&shown).unwrap(), json.to_string());
            assert_eq!(serde_json::to_value(&shown).unwrap(), json);
        }
        assert_eq!(serde_json::from_str::<Shown>(&json.to_string()).unwrap(), shown);
    }
}
