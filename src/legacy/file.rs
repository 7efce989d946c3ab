//! The file of the cache that came before: one object, from uid to record.
//!
//! It is read as a stream: what is held of it at a time is one record, however large the file is.

use std::{
    cell::Cell,
    fmt,
    io::{self, BufReader, Read},
    ops::ControlFlow,
    rc::Rc,
};

use serde::de::{DeserializeSeed, Error as _, MapAccess, Visitor};
use serde_json::{Deserializer, value::RawValue};

use super::{BadRecord, TextPlace};
use crate::contact::CachedContact;

/// An entry of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its name, as it stands in the file: quoted and escaped as JSON does it.
    pub name: String,
    /// The record, or where in the file it is wrong.
    pub record: Result<CachedContact, BadRecord>,
    /// Bytes of the file up to its end.
    pub end: u64,
}

/// Reads a file to its end and gives each entry to `take`, which may stop the reading. Blocks as `file` does.
///
/// # Errors
/// Where the file cannot be read on, or stops being an object of records. The entries before that were given.
pub fn read(file: impl Read, take: impl FnMut(Entry) -> ControlFlow<()>) -> Result<(), BadRecord> {
    let reader = LegacyReader { file: BufReader::new(file), at: Rc::default() };
    let (mut stopped, at) = (false, reader.at.clone());
    let mut deserializer = Deserializer::from_reader(reader);
    let entries = EntryVisitor { at: &at, take, stopped: &mut stopped };
    let read = entries.deserialize(&mut deserializer).and_then(|()| deserializer.end());
    if stopped { Ok(()) } else { read.map_err(|error| BadRecord::of(&error)) }
}

/// Visits the entries.
struct EntryVisitor<'a, T> {
    at: &'a Cursor,
    take: T,
    stopped: &'a mut bool,
}

impl<'de, T: FnMut(Entry) -> ControlFlow<()>> DeserializeSeed<'de> for EntryVisitor<'_, T> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, T: FnMut(Entry) -> ControlFlow<()>> Visitor<'de> for EntryVisitor<'_, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("one object, from uid to record")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        loop {
            self.at.watch(b",");
            let Some(name) = map.next_key::<Box<RawValue>>()? else { return Ok(()) };
            let name_at = self.at.watch(b":");
            let text = map.next_value::<Box<RawValue>>()?;
            let record_at = self.at.watched.get();
            let record = serde_json::from_str::<String>(name.get())
                .map_err(|error| BadRecord::of(&error).within(name_at))
                .and_then(|name| super::record(&name, text.get()).map_err(|bad| bad.within(record_at)));
            let entry = Entry { name: name.get().to_owned(), record, end: self.at.offset.get() };
            if (self.take)(entry).is_break() {
                *self.stopped = true;
                return Err(A::Error::custom("the reading was stopped"));
            }
        }
    }
}

/// Where the parser is in the file. It reads byte by byte, at most one ahead of what it has taken.
#[derive(Default)]
struct Cursor {
    offset: Cell<u64>,
    place: Cell<TextPlace>,
    /// The first byte since [`Self::watch`] that was no space and none of those to skip.
    watched: Cell<TextPlace>,
    /// While that has not come: what to skip.
    skipping: Cell<Option<&'static [u8]>>,
}

impl Cursor {
    /// Waits for the next byte that is neither white space nor one of these; returns where the last one waited for was.
    fn watch(&self, skip: &'static [u8]) -> TextPlace {
        self.skipping.set(Some(skip));
        self.watched.get()
    }

    fn pass(&self, byte: u8) {
        let place = self.place.get();
        if self.skipping.get().is_some_and(|skip| !byte.is_ascii_whitespace() && !skip.contains(&byte)) {
            self.skipping.set(None);
            self.watched.set(place);
        }
        self.offset.set(self.offset.get() + 1);
        self.place.set(if byte == b'\n' {
            TextPlace { line: place.line + 1, column: 0 }
        } else {
            TextPlace { column: place.column + 1, ..place }
        });
    }
}

struct LegacyReader<R> {
    file: BufReader<R>,
    at: Rc<Cursor>,
}

impl<R: Read> Read for LegacyReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.file.read(buffer)?;
        buffer[..length].iter().for_each(|byte| self.at.pass(*byte));
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"first_revealed_at": "2026-01-01T00:00:00Z", "last_updated_at": "2026-01-01T00:00:00Z"}"#;

    fn outcomes(text: &str) -> (Vec<String>, Option<String>) {
        let mut outcomes = Vec::new();
        let broken = read(text.as_bytes(), |entry| {
            outcomes.push(entry.record.map_or_else(|bad| bad.to_string(), |record| record.uid.to_string()));
            ControlFlow::Continue(())
        });
        (outcomes, broken.err().map(|bad| bad.to_string()))
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

    #[test]
    fn a_place_is_that_of_the_record_whatever_stands_around_it() {
        for (text, places) in [
            ("{\"a\":7,\"b\":{},\n \"c\"\t:\n  []\n, \"\\ud800\" : 1}", &[(1, 6), (1, 13), (3, 4), (4, 10)][..]),
            ("\n\n  {  \"a\"  :  \"x\"  ,  \"b\" : null}", &[(3, 16), (3, 31)]),
        ] {
            let mut found = Vec::new();
            let read = read(text.as_bytes(), |entry| {
                let bad = entry.record.unwrap_err();
                found.push((bad.line, bad.column));
                ControlFlow::Continue(())
            });
            assert_eq!((read, found.as_slice()), (Ok(()), places), "{text}");
        }
    }

    #[test]
    fn the_reading_stops_when_it_is_told_to() {
        let mut taken = 0;
        let read = read(format!("{{\"u1\": {GOOD}, \"u2\": {GOOD}, \"u3\": broken").as_bytes(), |entry| {
            taken += 1;
            if entry.record.unwrap().uid.as_str() == "u2" { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert_eq!((read, taken), (Ok(()), 2));
    }

    #[test]
    fn a_file_is_read_no_further_than_it_is_taken() {
        let given = Rc::new(Cell::new(0));
        let file = Records { made: 0, text: Vec::new(), given: given.clone() };
        let mut entries = 0;
        let read = read(file, |entry| {
            entries += 1;
            let ahead = given.get() - entry.end;
            assert!(ahead <= 8192, "{ahead} bytes were read ahead of entry {entries}");
            ControlFlow::Continue(())
        });
        assert_eq!((read, entries, given.get() > 60 << 20), (Ok(()), Records::COUNT, true));
    }

    /// 64 MiB of records, made as they are read.
    struct Records {
        made: u32,
        text: Vec<u8>,
        given: Rc<Cell<u64>>,
    }

    impl Records {
        const COUNT: u32 = 1024;
    }

    impl Read for Records {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.text.is_empty() && self.made < Self::COUNT {
                self.made += 1;
                let (begin, end) =
                    (if self.made == 1 { "{" } else { "," }, if self.made == Self::COUNT { "}" } else { "" });
                self.text = format!("{begin}\"{}\": {{\"zip\": \"{}\"}}{end}", self.made, "x".repeat(1 << 16)).into();
            }
            let length = buffer.len().min(self.text.len());
            buffer[..length].copy_from_slice(&self.text[..length]);
            self.text.drain(..length);
            self.given.set(self.given.get() + length as u64);
            Ok(length)
        }
    }
}
