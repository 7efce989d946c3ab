//! The file of the cache that came before: one object, from uid to record.

use std::{fmt, str};

use serde::de::{DeserializeSeed, MapAccess, Visitor};
use serde_json::{Deserializer, value::RawValue};

use super::BadRecord;
use crate::contact::CachedContact;

/// The entries of a file, found and not yet read.
#[derive(Debug)]
pub struct Entries<'a> {
    text: &'a str,
    /// Byte offset and text of each name, and of its record.
    found: Vec<[(usize, &'a str); 2]>,
    /// Where the file stops being an object of records: nothing from there on is among the entries.
    pub broken: Option<BadRecord>,
}

impl<'a> Entries<'a> {
    /// Finds the entries of a file.
    pub fn find(text: &'a str) -> Self {
        let mut entries = Self { text, found: Vec::new(), broken: None };
        let mut deserializer = Deserializer::from_str(text);
        let found = Collect(&mut entries).deserialize(&mut deserializer).and_then(|()| deserializer.end());
        entries.broken = found.err().map(|error| BadRecord::of(&error));
        entries
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.found.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Each entry: its name as it stands in the file, and the record, or where in the file it is wrong.
    pub fn records(&self) -> impl Iterator<Item = (&'a str, Result<CachedContact, BadRecord>)> {
        self.found.iter().map(|[(name_at, name), (record_at, record)]| {
            let parsed = serde_json::from_str::<String>(name)
                .map_err(|error| BadRecord::of(&error).within(self.text, *name_at))
                .and_then(|name| super::record(&name, record).map_err(|bad| bad.within(self.text, *record_at)));
            (*name, parsed)
        })
    }
}

struct Collect<'e, 'a>(&'e mut Entries<'a>);

impl<'a> DeserializeSeed<'a> for Collect<'_, 'a> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'a> Visitor<'a> for Collect<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("one object, from uid to record")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some((name, record)) = map.next_entry::<&'a RawValue, &'a RawValue>()? {
            // Both are parts of the text.
            let place = |part: &'a str| (part.as_ptr().addr() - self.0.text.as_ptr().addr(), part);
            self.0.found.push([place(name.get()), place(record.get())]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"first_revealed_at": "2026-01-01T00:00:00Z", "last_updated_at": "2026-01-01T00:00:00Z"}"#;

    fn outcomes(text: &str) -> (Vec<String>, Option<String>) {
        let entries = Entries::find(text);
        let outcome = |(_, parsed): (&str, Result<CachedContact, BadRecord>)| {
            parsed.map_or_else(|bad| bad.to_string(), |record| record.uid.to_string())
        };
        (entries.records().map(outcome).collect(), entries.broken.as_ref().map(ToString::to_string))
    }

    #[test]
    fn a_bad_record_in_the_middle_is_named_by_its_place_in_the_file_and_the_others_are_read() {
        let text = format!(
            "{{\n \"u\\u0031\": {GOOD},\n \"u2\": {{\n  \"zip\": 1}}, \"\\ud800\": {GOOD},\n \"u3\": {GOOD}\n}}\n"
        );
        let (read, broken) = outcomes(&text);
        assert_eq!((read[0].as_str(), read[3].as_str(), broken), ("u1", "u3", None));
        assert!(read[1].starts_with("line 4, column 7: unknown field `zip`"), "{}", read[1]);
        assert!(read[2].starts_with("line 4, column "), "{}", read[2]);
    }

    #[test]
    fn what_stands_before_the_end_of_a_file_that_was_cut_short_is_read() {
        let (read, broken) = outcomes(&format!("{{\"u1\": {GOOD},\n\"u2\": {{\"cont"));
        assert_eq!(
            (read, broken.as_deref()),
            (vec!["u1".into()], Some("line 2, column 12: EOF while parsing a string"))
        );
    }

    #[test]
    fn a_file_that_is_no_object_says_what_it_should_be() {
        for text in ["", "[]", "7", "{} {}"] {
            let (read, broken) = outcomes(text);
            assert!(read.is_empty() && broken.is_some(), "{text}");
        }
        assert!(outcomes("[]").1.unwrap().contains("expected one object, from uid to record"));
    }
}
