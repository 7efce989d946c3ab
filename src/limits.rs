//! How large a record may be: the limits, and how a larger one is told before it is turned into text.
//!
//! A record larger than the rest of the system was made for hurts everybody: Redis closes the connection on a value above
//! its `proto-max-bulk-len`, runs scripts one at a time, and a slow link is busy for as long as a record takes. So the
//! limits are checked before a write is stamped, stored or sent. A patch of 100 MB is refused after a look at its first
//! megabyte: the check stops where the limit is passed.

use serde_json::{Map, Value as Json};

use crate::{
    contact::{ContactPoint, Patch},
    record::Record,
};

/// The limits of one record, from the settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordLimits {
    pub(crate) bytes_max: u64,
    pub(crate) cells_max: u64,
}

/// A record that would be larger than a limit. Nothing of it was kept or sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the record would have at least {at_least} {unit}, {limit} at most: write less to it, or raise {setting}")]
pub struct TooLarge {
    /// The setting that has the limit: `record_bytes_max` or `record_cells_max`.
    pub setting: &'static str,
    /// What it counts: `bytes` or `cells`.
    pub unit: &'static str,
    /// What the record would have, as far as it was counted.
    pub at_least: u64,
    /// The limit.
    pub limit: u64,
}

/// How large a record is, as Redis holds it: the names and values of its cells, with their stamps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Size {
    bytes: u64,
    cells: u64,
}

impl RecordLimits {
    /// Whether a patch may be within the limits, by no more than a look at it: at most as much of it as the limits allow.
    /// Texts count as long as they are, without what JSON escapes in them.
    ///
    /// # Errors
    /// It is certainly beyond them.
    pub(crate) fn check_patch(self, patch: &Patch) -> Result<(), TooLarge> {
        let without = patch.without_profile.iter().chain(&patch.without_metadata);
        let removed = patch.without_contacts.iter().map(|(kind, value)| kind.len() + value.len());
        let removed = removed.chain(without.map(String::len));
        self.check_parts(&patch.contacts, [&patch.profile, &patch.metadata], removed)
    }

    /// As [`Self::check_patch`], of all that an upsert of these parts writes.
    pub(crate) fn check_parts(
        self,
        contacts: &[ContactPoint],
        maps: [&Map<String, Json>; 2],
        removed: impl Iterator<Item = usize>,
    ) -> Result<(), TooLarge> {
        let mut look = Look { limits: self, size: Size::default() };
        for contact in contacts {
            look.cell(contact.kind.len() + contact.value.len())?;
            for (name, value) in &contact.rest {
                look.bytes(name.len())?;
                look.value(value)?;
            }
        }
        for (name, value) in maps.into_iter().flatten() {
            look.cell(name.len())?;
            look.value(value)?;
        }
        for name_len in removed {
            look.cell(name_len)?;
        }
        Ok(())
    }

    /// Whether a record may become what `written` makes of it, going by what is held of it. A write that leaves it no
    /// larger than it was is always allowed: it may be the way back below the limits.
    pub(crate) fn check_join(self, held: &Record, written: &Record) -> Result<(), TooLarge> {
        let (before, added) = (Size::of(held), Size::of(written));
        if self.check(before.plus(added)).is_ok() {
            return Ok(());
        }
        if written.is_tombstone() {
            return Ok(());
        }
        let replaced = written.cells().keys().filter_map(|name| Some((name, held.cells().get(name)?)));
        let replaced = replaced.fold(Size::default(), |size, (name, cell)| {
            size.plus(Size::of_cell(name.field().len(), cell.value.as_deref().map_or(0, str::len)))
        });
        let after = before.plus(added).minus(replaced);
        if after.bytes <= before.bytes && after.cells <= before.cells { Ok(()) } else { self.check(after) }
    }

    fn check(self, size: Size) -> Result<(), TooLarge> {
        if size.bytes > self.bytes_max {
            let (setting, unit) = ("record_bytes_max", "bytes");
            return Err(TooLarge { setting, unit, at_least: size.bytes, limit: self.bytes_max });
        }
        if size.cells > self.cells_max {
            let (setting, unit) = ("record_cells_max", "cells");
            return Err(TooLarge { setting, unit, at_least: size.cells, limit: self.cells_max });
        }
        Ok(())
    }
}

/// Bytes of a record as Redis holds it.
pub(crate) fn bytes_of(record: &Record) -> u64 {
    Size::of(record).bytes
}

impl Size {
    fn of(record: &Record) -> Self {
        record.cells().iter().fold(Self::default(), |size, (name, cell)| {
            size.plus(Self::of_cell(name.field().len(), cell.value.as_deref().map_or(0, str::len)))
        })
    }

    fn of_cell(name_len: usize, value_len: usize) -> Self {
        const STAMP: u64 = crate::stamp::STAMP_TEXT_LEN as u64;
        Self { bytes: name_len as u64 + STAMP + value_len as u64, cells: 1 }
    }

    fn plus(self, other: Self) -> Self {
        Self { bytes: self.bytes.saturating_add(other.bytes), cells: self.cells.saturating_add(other.cells) }
    }

    fn minus(self, other: Self) -> Self {
        Self { bytes: self.bytes.saturating_sub(other.bytes), cells: self.cells.saturating_sub(other.cells) }
    }
}

/// What was counted of a patch so far.
struct Look {
    limits: RecordLimits,
    size: Size,
}

impl Look {
    fn cell(&mut self, name_len: usize) -> Result<(), TooLarge> {
        self.size = self.size.plus(Size::of_cell(name_len, 0));
        self.limits.check(self.size)
    }

    fn bytes(&mut self, bytes: usize) -> Result<(), TooLarge> {
        self.size.bytes = self.size.bytes.saturating_add(bytes as u64);
        self.limits.check(self.size)
    }

    fn value(&mut self, value: &Json) -> Result<(), TooLarge> {
        // A stack of our own: a value built in memory may be deeper than the thread's stack allows. What goes on it has
        // been counted before, so that it is no longer than the limit either.
        let mut open = vec![value];
        while let Some(value) = open.pop() {
            match value {
                Json::Null | Json::Bool(_) => self.bytes(4)?,
                Json::Number(number) => self.bytes(number.as_str().len())?,
                Json::String(text) => self.bytes(text.len() + 2)?,
                Json::Array(items) => {
                    self.bytes(items.len() + 1)?;
                    open.extend(items);
                }
                Json::Object(map) => {
                    self.bytes(map.len() + 1)?;
                    for (name, value) in map {
                        self.bytes(name.len() + 3)?;
                        open.push(value);
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{contact::Timestamp, record::Life, stamp::Stamp};

    const LIMITS: RecordLimits = RecordLimits { bytes_max: 2000, cells_max: 20 };

    fn field(name: &str, value: Json) -> Patch {
        Patch { profile: Map::from_iter([(name.to_owned(), value)]), ..Patch::default() }
    }

    fn written(patch: &Patch, number: u64) -> Record {
        let stamp: Stamp = format!("{number:032x}").parse().unwrap();
        Record::patched(patch, stamp, Timestamp::from_millis(1), Life::from_now(0, None), None)
    }

    #[test]
    fn a_patch_is_too_large_by_its_bytes_wherever_they_are() {
        let text = "x".repeat(2000);
        let point = |kind: &str, rest| ContactPoint { kind: kind.into(), value: "v".into(), rest };
        let patches = [
            field("x", json!(text)),
            field("x", json!({"a": [1, {text.clone(): null}]})),
            field("x", json!(vec![0; 1000])),
            field("x", serde_json::from_str(&"1".repeat(2000)).unwrap()),
            field(&text, json!(1)),
            Patch { metadata: Map::from_iter([("x".into(), json!(text))]), ..Patch::default() },
            Patch { contacts: vec![point(&text, Map::new())], ..Patch::default() },
            Patch { contacts: vec![point("k", Map::from_iter([("r".into(), json!(text))]))], ..Patch::default() },
            Patch { without_profile: vec![text.clone()], ..Patch::default() },
            Patch { without_contacts: vec![(text.clone(), "v".into())], ..Patch::default() },
        ];
        for patch in patches {
            let error = LIMITS.check_patch(&patch).unwrap_err();
            assert_eq!((error.setting, error.limit), ("record_bytes_max", 2000));
            assert!((2001..5000).contains(&error.at_least), "{error}");
        }
        assert_eq!(LIMITS.check_patch(&field("x", json!("x".repeat(1900)))), Ok(()));
    }

    #[test]
    fn a_patch_is_too_large_by_its_cells() {
        let names = (0..21).map(|number| (number.to_string(), json!(1)));
        let patch = Patch { profile: names.clone().take(20).collect(), ..Patch::default() };
        assert_eq!(LIMITS.check_patch(&patch), Ok(()));
        let patch = Patch { profile: names.collect(), ..Patch::default() };
        let error = LIMITS.check_patch(&patch).unwrap_err().to_string();
        assert_eq!(
            error,
            "the record would have at least 21 cells, 20 at most: write less to it, or raise record_cells_max"
        );
    }

    #[test]
    fn the_look_at_a_patch_never_finds_more_than_is_written() {
        let value = json!({"a": ["\u{0}\"", -1.5, true, null, {}, []], "": {"b": "\u{1f980}"}});
        let mut patch = field("\u{7f}", value.clone());
        patch.contacts =
            vec![ContactPoint { kind: "k".into(), value: "\"".into(), rest: Map::from_iter([("r".into(), value)]) }];
        patch.without_metadata = vec!["gone".into()];
        let size = Size::of(&written(&patch, 1));
        let exactly = RecordLimits { bytes_max: size.bytes, cells_max: size.cells };
        assert_eq!(
            (exactly.check_patch(&patch), exactly.check_join(&Record::default(), &written(&patch, 1))),
            (Ok(()), Ok(()))
        );
        let less = RecordLimits { bytes_max: size.bytes - 1, ..exactly };
        assert!(less.check_join(&Record::default(), &written(&patch, 1)).is_err());
    }

    #[test]
    fn what_is_held_counts_and_what_is_replaced_does_not() {
        let mut held = written(&field("x", json!("x".repeat(1500))), 1);
        let more = written(&field("y", json!("y".repeat(700))), 2);
        assert!(LIMITS.check_join(&held, &more).is_err());
        assert_eq!(LIMITS.check_join(&Record::default(), &more), Ok(()));
        assert_eq!(LIMITS.check_join(&held, &written(&field("x", json!("z".repeat(1800))), 2)), Ok(()));

        // Written when the limits were others.
        held.join(&written(&field("y", json!("y".repeat(3000))), 2));
        assert!(LIMITS.check_join(&held, &written(&field("z", json!(1)), 3)).is_err());
        assert_eq!(LIMITS.check_join(&held, &written(&field("y", json!("shorter")), 3)), Ok(()));
        assert_eq!(LIMITS.check_join(&held, &Record::tombstone(format!("{:032x}", 3).parse().unwrap())), Ok(()));
    }
}
