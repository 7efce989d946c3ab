//! Histories as JSON Lines: how a line is read, within bounds, and how one that cannot be used is named.

use std::{collections::BTreeSet, fmt, io::BufRead};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::{Value as Json, value::RawValue};

/// The longest line that is read: a record of the largest size that a client may write, many times over.
pub const LINE_BYTES_MAX: u64 = 64 << 20;

/// A history that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HistoryFileError {
    /// The file could not be opened, read or written.
    #[error("failed to {verb} history {file:?}: {cause}")]
    Io {
        /// What was tried.
        verb: &'static str,
        /// The file.
        file: String,
        /// What the operating system said.
        cause: std::io::Error,
    },
    /// A line of it makes no sense.
    #[error("history {file:?}, line {line}: {wrong}; {cure}")]
    Line {
        /// The file.
        file: String,
        /// The line, from 1.
        line: u64,
        /// What is wrong.
        wrong: String,
        /// What to do.
        cure: String,
    },
}

/// What is wrong with a line, and what to do.
pub type Wrong = (String, String);

/// The lines of a file, one JSON value each; blank ones are left out.
pub struct Lines<'f, R> {
    file: &'f str,
    input: R,
    number: u64,
    bytes: Vec<u8>,
}

impl<'f, R: BufRead> Lines<'f, R> {
    /// `file` is its name in errors.
    pub fn new(file: &'f str, input: R) -> Self {
        Self { file, input, number: 0, bytes: Vec::new() }
    }

    /// The next value, if there is one.
    pub fn next_json(&mut self) -> Result<Option<Json>, HistoryFileError> {
        while self.fill()? {
            if !self.bytes.trim_ascii().is_empty() {
                return self.parse().map(Some);
            }
        }
        Ok(None)
    }

    /// The line that was read last, from 1.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// An error in the line that was read last.
    pub fn error(&self, wrong: Wrong) -> HistoryFileError {
        self.error_at(self.number.max(1), wrong)
    }

    /// An error in this line.
    pub fn error_at(&self, line: u64, (wrong, cure): Wrong) -> HistoryFileError {
        HistoryFileError::Line { file: self.file.to_owned(), line, wrong, cure }
    }

    fn fill(&mut self) -> Result<bool, HistoryFileError> {
        self.bytes.clear();
        let mut line = std::io::Read::take(&mut self.input, LINE_BYTES_MAX + 1);
        let read = line.read_until(b'\n', &mut self.bytes);
        read.map_err(|cause| HistoryFileError::Io { verb: "read", file: self.file.to_owned(), cause })?;
        self.number += 1;
        if self.bytes.len() as u64 > LINE_BYTES_MAX {
            let wrong = format!("it is longer than {LINE_BYTES_MAX} bytes");
            return Err(self.error((wrong, "write one event a line".to_owned())));
        }
        Ok(!self.bytes.is_empty())
    }

    fn parse(&self) -> Result<Json, HistoryFileError> {
        let json = serde_json::from_slice(&self.bytes).map_err(|cause| {
            let cut_off = !self.bytes.ends_with(b"\n") && cause.is_eof();
            let start = self.bytes.trim_ascii_start();
            self.error(if start.starts_with(b"{:") || start.starts_with(b"#") {
                let cure = "convert it: one JSON object a line, keywords as texts (\"type\":\"invoke\")";
                ("it is EDN and no JSON".to_owned(), cure.to_owned())
            } else if cut_off {
                (
                    "the file ends within it".to_owned(),
                    "copy the file again, or take the rest of the line out".to_owned(),
                )
            } else {
                (format!("it is no JSON ({cause})"), "write one JSON object a line".to_owned())
            })
        })?;
        let trap = serde_json::from_slice(&self.bytes).ok().and_then(trap);
        if let Some(wrong) = trap {
            return Err(self.error(wrong));
        }
        if !Json::is_object(&json) {
            let cure = "write one JSON object a line, with its fields by name";
            return Err(self.error(("it is no JSON object".to_owned(), cure.to_owned())));
        }
        Ok(json)
    }
}

/// What the JSON library takes for its own: an object whose first field is one of these is read as a number, or as the
/// JSON in a text.
const RESERVED: &str = "$serde_json::private::";

/// The fields of a JSON object as they stand, also those that stand there twice.
struct Fields<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;

        impl<'de> Visitor<'de> for All {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(All)
    }
}

/// An object somewhere in this JSON that readers take for different things.
pub fn trap(json: &RawValue) -> Option<Wrong> {
    let text = json.get();
    if text.starts_with('[') {
        return serde_json::from_str::<Vec<&RawValue>>(text).ok()?.into_iter().find_map(trap);
    }
    if !text.starts_with('{') {
        return None;
    }
    let Fields(fields) = serde_json::from_str(text).ok()?;
    let mut names = BTreeSet::new();
    if let Some((again, _)) = fields.iter().find(|(name, _)| !names.insert(name)) {
        let cure = "write each field once: readers differ in which of two counts";
        return Some((format!("an object in it has the field {again:?} twice"), cure.to_owned()));
    }
    if let Some((name, _)) = fields.iter().find(|(name, _)| name.starts_with(RESERVED)) {
        let cure = "give it another name: the JSON library reads such an object as a bare number or as raw JSON";
        return Some((format!("an object in it has the field {name:?}"), cure.to_owned()));
    }
    fields.into_iter().find_map(|(_, value)| trap(value))
}

/// A field that the reader did not take in, by its path: `given` is the line, `understood` what was made of it. What is
/// empty may be left out when it is written again.
pub fn surplus(given: &Json, understood: &Json) -> Option<String> {
    match (given, understood) {
        (Json::Object(given), Json::Object(understood)) => given.iter().find_map(|(field, value)| {
            let Some(other) = understood.get(field) else { return (!is_empty(value)).then(|| field.clone()) };
            surplus(value, other).map(|inner| format!("{field}.{inner}"))
        }),
        (Json::Array(given), Json::Array(understood)) => {
            let mut pairs = given.iter().zip(understood).enumerate();
            pairs.find_map(|(index, (given, other))| surplus(given, other).map(|inner| format!("{index}.{inner}")))
        }
        _ => None,
    }
}

fn is_empty(value: &Json) -> bool {
    match value {
        Json::Null => true,
        Json::Array(items) => items.is_empty(),
        Json::Object(fields) => fields.is_empty(),
        Json::Bool(_) | Json::Number(_) | Json::String(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_stands_twice_is_named_however_deep() {
        let read = |line: &str| Lines::new("h.jsonl", line.as_bytes()).next_json().map_err(|error| error.to_string());
        let wrong = r#"history "h.jsonl", line 1: an object in it has the field "f" twice; write each field once: readers differ in which of two counts"#;
        for line in [r#"{"f":1,"g":2,"f":1}"#, r#"{"g":[0,{"a":{"\u0066":1, "f" : {}}}]}"#, r#" {"f":1,"\u0066":2}"#] {
            assert_eq!(read(line).unwrap_err(), wrong);
        }
        let line = r#"{"f":{"f":[{"f":18446744073709551617},{"f":1e400}]}}"#;
        assert_eq!(read(line).unwrap().unwrap().to_string(), line.replace("1e400", "1e+400"));
    }
}
