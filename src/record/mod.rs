//! Records as the tiers keep them: a map of stamped cells, joined cell by cell.
//!
//! The larger stamp wins; equal stamps compare value bytes. So joins commute, are associative and idempotent: a retried,
//! late or doubled write does no harm, and two instances that wrote different fields lose nothing. A tombstone is a cell
//! too: every cell not above it is dead. The cells are
//!
//! | field of the Redis hash | cell | value |
//! | --- | --- | --- |
//! | `e` | existence: written by every upsert | from when until when the record lives, see [`Life`] |
//! | `d` | tombstone: written by a removal | empty |
//! | `c["type","value"]` | a contact point | `[[head,index],{rest}]`, the first part its place in the list |
//! | `p<name>` | a profile field | its JSON |
//! | `m<name>` | a metadata field | its JSON |
//!
//! each stored as `<stamp><value>`, an empty value meaning that the cell was removed. Beside them, outside stamps and
//! tombstones, `f` and `l` hold `first_revealed_at` (the minimum) and `last_updated_at` (the maximum) as 12 hexadecimal
//! digits. The life of a record stands in its existence cell and is joined apart from that cell's stamp, by union (L1).

mod cell;
mod exchange;
mod life;

use std::{collections::BTreeMap, sync::Arc};

use serde::{Serialize, de::IgnoredAny};
use serde_json::{Map, Value as Json};

use self::cell::CellSubject;
pub(crate) use self::{
    cell::{Cell, CellName},
    exchange::{Estimated, Merged, SentLife},
    life::Life,
};
use crate::{
    contact::{CachedContact, ContactPoint, Patch, Timestamp},
    key::Uid,
    stamp::Stamp,
};

/// When a record was first and last written, outside stamps and tombstones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Times {
    pub(crate) first: Option<Timestamp>,
    pub(crate) last: Option<Timestamp>,
}

/// A record, of one life. Always in canonical form: no cell at or below the tombstone, and a life if, and only if, it has an
/// existence cell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Record {
    cells: BTreeMap<CellName, Cell>,
    life: Option<Life>,
    pub(crate) times: Times,
}

/// Characters of a field's name in errors.
const FIELD_CHARS_SHOWN: usize = 64;

/// A hash in Redis that is no record of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("field {} is not one of a contact record: {reason}", shown_field(field))]
pub(crate) struct NotARecord {
    field: String,
    reason: &'static str,
}

/// A field as errors and logs name it. The name of a contact point is the contact's data, and is left out; so is the end
/// of a long one, which this client did not make up.
pub(crate) fn shown_field(field: &str) -> String {
    if field.starts_with("c[") {
        return "c[..] (a contact point)".to_owned();
    }
    format!("{:?}", field.chars().take(FIELD_CHARS_SHOWN).collect::<String>())
}

impl Times {
    pub(crate) fn at(moment: Timestamp) -> Self {
        Self { first: Some(moment), last: Some(moment) }
    }

    pub(crate) fn join(&mut self, other: Self) {
        self.first = [self.first, other.first].into_iter().flatten().min();
        self.last = self.last.max(other.last);
    }

    /// Whether a join with `other` would change nothing here.
    pub(crate) fn covers(self, other: Self) -> bool {
        let mut joined = self;
        joined.join(other);
        joined == self
    }
}

impl Record {
    /// A record without cells.
    pub(crate) fn with_times(times: Times) -> Self {
        Self { times, ..Self::default() }
    }

    /// Whether there is nothing in it, not even times.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The cells, the tombstone among them.
    pub(crate) fn cells(&self) -> &BTreeMap<CellName, Cell> {
        &self.cells
    }

    /// From when until when it lives; none if there is no record: never written, or removed since.
    pub(crate) fn life(&self) -> Option<Life> {
        self.life
    }

    /// Until when there is a record to show, in milliseconds of Redis's clock; zero if there is none.
    pub(crate) fn alive_until_ms(&self) -> u64 {
        self.life.map_or(0, Life::end_ms)
    }

    /// Whether there is a record to show at this time of Redis's clock.
    pub(crate) fn is_alive_at(&self, now_ms: u64) -> bool {
        self.alive_until_ms() > now_ms
    }

    /// The same cells with this life, if it is known to be another.
    pub(crate) fn living(mut self, life: Option<Life>) -> Self {
        if let Some(life) = life {
            self.set_life(life);
        }
        self
    }

    pub(crate) fn join_times(&mut self, times: Times) {
        self.times.join(times);
    }

    /// Replaces the life of a record that exists.
    pub(crate) fn set_life(&mut self, life: Life) {
        if self.existence().is_some() {
            self.life = Some(life);
        }
    }

    /// The cell that every upsert writes; none if the record was removed.
    pub(crate) fn existence(&self) -> Option<&Cell> {
        self.cells.get(CellName::EXISTENCE)
    }

    /// Whether it holds a tombstone that covers any cell of `other`.
    pub(crate) fn buries_any(&self, other: &Self) -> bool {
        other.cells.values().any(|cell| self.is_buried(cell))
    }

    /// The largest stamp in it.
    pub(crate) fn newest(&self) -> Option<Stamp> {
        self.cells.values().map(|cell| cell.stamp).max()
    }

    /// Takes one cell in; the larger of it and what is there stays. Says whether that changed anything.
    pub(crate) fn join_cell(&mut self, name: &CellName, cell: &Cell) -> bool {
        if self.covers_cell(name, cell) {
            return false;
        }
        self.cells.insert(name.clone(), cell.clone());
        if name.is_tombstone() {
            self.cells.retain(|name, held| name.is_tombstone() || held.stamp > cell.stamp);
            self.life = self.life.filter(|_| self.cells.contains_key(CellName::EXISTENCE));
        }
        true
    }

    /// Takes another record in, cell by cell. Their lives become one: whether they are is for the caller to know (L4).
    pub(crate) fn join(&mut self, other: &Self) {
        self.times.join(other.times);
        for (name, cell) in &other.cells {
            self.join_cell(name, cell);
        }
        let exists = other.existence().is_some_and(|existence| !self.is_buried(existence));
        if let Some(life) = other.life.filter(|_| exists) {
            self.life = Some(self.life.map_or(life, |own| own.union(life)));
        }
    }

    /// Whether the tombstone covers the cell.
    fn is_buried(&self, cell: &Cell) -> bool {
        self.cells.get(CellName::TOMBSTONE).is_some_and(|tombstone| tombstone.stamp >= cell.stamp)
    }

    /// Whether a join with this cell would change nothing.
    pub(crate) fn covers_cell(&self, name: &CellName, cell: &Cell) -> bool {
        let dead = !name.is_tombstone() && self.is_buried(cell);
        dead || self.cells.get(name).is_some_and(|held| held >= cell)
    }

    /// Whether a join with `other` would change nothing.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        self.times.covers(other.times) && other.cells.iter().all(|(name, cell)| self.covers_cell(name, cell))
    }

    /// Drops a cell. Only for a copy that yields to Redis (R9), or whose time is over.
    pub(crate) fn forget(&mut self, name: &CellName) {
        self.cells.remove(name);
        if name.is_existence() {
            self.life = None;
        }
    }

    /// The cells of one of its lives that are left behind when it begins another: all but the tombstone, without the times.
    pub(crate) fn split_off_life(&mut self) -> Self {
        let mut left = Self { cells: std::mem::take(&mut self.cells), life: self.life.take(), ..Self::default() };
        if let Some(tombstone) = left.cells.remove(CellName::TOMBSTONE) {
            self.cells.insert(CellName::tombstone(), tombstone);
        }
        left
    }

    /// Whether it is a removal and no more.
    pub(crate) fn is_tombstone(&self) -> bool {
        self.cells.keys().all(CellName::is_tombstone)
    }

    /// What a removal writes.
    pub(crate) fn tombstone(stamp: Stamp) -> Self {
        let mut record = Self::default();
        record.cells.insert(CellName::tombstone(), Cell { stamp, value: None });
        record
    }

    /// What an upsert writes: the cells of `patch`, all under one stamp. A contact point that `seen` shows keeps its
    /// place in the list, a new one goes behind all that its writer could have seen.
    pub(crate) fn patched(patch: &Patch, stamp: Stamp, now: Timestamp, life: Life, seen: Option<&Self>) -> Self {
        let mut record = Self::with_times(Times::at(now));
        let mut put = |name, value: Option<Arc<str>>| record.cells.insert(name, Cell { stamp, value });
        put(CellName::existence(), None);
        for (index, contact) in (0_u64..).zip(&patch.contacts) {
            let name = CellName::contact(&contact.kind, &contact.value);
            let place = seen.and_then(|seen| seen.place(&name)).unwrap_or((stamp.head().0, index));
            put(name, Some(json_text(&(place, &contact.rest)).into()));
        }
        for (kind, value) in &patch.without_contacts {
            put(CellName::contact(kind, value), None);
        }
        for (name, value) in patch.profile.iter().filter(|(_, value)| !value.is_null()) {
            put(CellName::profile(name), Some(json_text(value).into()));
        }
        for name in &patch.without_profile {
            put(CellName::profile(name), None);
        }
        for (name, value) in &patch.metadata {
            put(CellName::metadata(name), Some(json_text(value).into()));
        }
        for name in &patch.without_metadata {
            put(CellName::metadata(name), None);
        }
        record.life = Some(life);
        record
    }

    /// What an import of this record writes.
    pub(crate) fn imported(contact: &CachedContact, life: Life) -> Self {
        let (first, last) = (contact.first_revealed_at, contact.last_updated_at);
        let mut record = Self::patched(&contact.clone().into(), Stamp::imported(last), last, life, None);
        record.times = Times { first: Some(first), last: Some(last) };
        record
    }

    /// The place of a contact point in the list.
    fn place(&self, name: &CellName) -> Option<(u64, u64)> {
        let (place, IgnoredAny) = serde_json::from_str(self.cells.get(name)?.value.as_deref()?).ok()?;
        Some(place)
    }

    /// The record as an application sees it at this time of Redis's clock; none if there is none.
    ///
    /// # Errors
    /// A cell whose value was not written by this client.
    pub(crate) fn view(&self, uid: &Uid, now_ms: u64) -> Result<Option<CachedContact>, NotARecord> {
        if !self.is_alive_at(now_ms) {
            return Ok(None);
        }
        let (mut contacts, mut profile, mut metadata) = (Vec::new(), Map::new(), Map::new());
        for (name, cell) in &self.cells {
            let Some(value) = cell.value.as_deref() else { continue };
            let broken = || NotARecord { field: name.field().to_owned(), reason: "its value cannot be read" };
            match name.subject() {
                CellSubject::Existence | CellSubject::Tombstone => {}
                CellSubject::Contact(kind, point) => {
                    let (place, rest) = place_and_rest(value).ok_or_else(broken)?;
                    contacts.push((place, ContactPoint { kind, value: point, rest }));
                }
                CellSubject::Profile(name) => {
                    profile.insert(name.to_owned(), serde_json::from_str(value).map_err(|_| broken())?);
                }
                CellSubject::Metadata(name) => {
                    metadata.insert(name.to_owned(), serde_json::from_str(value).map_err(|_| broken())?);
                }
            }
        }
        // Stable: points of equal place stay in the order of their names, on every instance.
        contacts.sort_by_key(|(place, _)| *place);
        Ok(Some(CachedContact {
            uid: uid.clone(),
            contacts: contacts.into_iter().map(|(_, contact)| contact).collect(),
            profile,
            metadata,
            first_revealed_at: self.times.first.unwrap_or(Timestamp::from_millis(0)),
            last_updated_at: self.times.last.unwrap_or(Timestamp::from_millis(0)),
        }))
    }

    /// The cells and times as fields of a hash.
    pub(crate) fn to_fields(&self) -> impl Iterator<Item = (&str, String)> {
        let times = [("f", self.times.first), ("l", self.times.last)];
        let times = times.into_iter().filter_map(|(field, time)| Some((field, time_text(time?))));
        self.cells.iter().map(|(name, cell)| (name.field(), self.cell_text(name, cell))).chain(times)
    }

    /// A cell as Redis and the local store hold it.
    fn cell_text(&self, name: &CellName, cell: &Cell) -> String {
        if name.is_existence() {
            return self.life.expect("a record that exists has a life").text_behind(cell.stamp);
        }
        cell.text()
    }

    /// The record of a hash. Fields may come in any order.
    ///
    /// # Errors
    /// Names the first field that no version of this client writes.
    pub(crate) fn from_fields<'a>(fields: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Self, NotARecord> {
        let mut record = Self::default();
        for (field, text) in fields {
            let wrong = |reason| NotARecord { field: field.to_owned(), reason };
            match field {
                "f" => record.times.first = Some(time_from_text(text).ok_or_else(|| wrong("its time cannot be read"))?),
                "l" => record.times.last = Some(time_from_text(text).ok_or_else(|| wrong("its time cannot be read"))?),
                _ => {
                    let name = CellName::from_field(field).ok_or_else(|| wrong("its name is unknown"))?;
                    let mut cell = Cell::from_text(text).ok_or_else(|| wrong("it does not begin with a stamp"))?;
                    if name.is_existence() {
                        let life = cell.value.take().and_then(|text| Life::from_text(&text));
                        let life = life.ok_or_else(|| wrong("it does not say until when the record lives"))?;
                        if record.join_cell(&name, &cell) {
                            record.life = Some(life);
                        }
                        continue;
                    }
                    record.join_cell(&name, &cell);
                }
            }
        }
        Ok(record)
    }
}

/// 12 hexadecimal digits: 48 bits, like the milliseconds of a stamp.
pub(crate) fn time_text(time: Timestamp) -> String {
    format!("{:012x}", time.millis())
}

fn time_from_text(text: &str) -> Option<Timestamp> {
    (text.len() == 12).then(|| u64::from_str_radix(text, 16).ok().map(Timestamp::from_millis))?
}

fn json_text(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("maps with text for keys become JSON")
}

fn place_and_rest(value: &str) -> Option<((u64, u64), Map<String, Json>)> {
    serde_json::from_str(value).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stamp(number: u128) -> Stamp {
        format!("{number:032x}").parse().unwrap()
    }

    /// Few names, stamps and values, so that collisions are common.
    fn records() -> impl Strategy<Value = Record> {
        let name = prop_oneof![
            Just(CellName::tombstone()),
            "[ab]".prop_map(|name| CellName::profile(&name)),
            "[ab]".prop_map(|name| CellName::metadata(&name)),
            "[ab]".prop_map(|value| CellName::contact("email", &value)),
        ];
        let value = prop_oneof![Just(None), "[12]".prop_map(|v| Some(v.into()))];
        let life = (0_u64..9, proptest::option::of(0_u64..9)).prop_map(|(now, ttl)| Life::from_now(now, ttl));
        let existence = Just((CellName::existence(), None));
        let cell = (0_u128..6, prop_oneof![3 => (name, value), 1 => existence])
            .prop_map(|(n, (name, value))| (name, Cell { stamp: stamp(n), value }));
        let times = (proptest::option::of(0_u64..9), proptest::option::of(0_u64..9)).prop_map(|(first, last)| Times {
            first: first.map(Timestamp::from_millis),
            last: last.map(Timestamp::from_millis),
        });
        (proptest::collection::vec(cell, 0..8), times, life).prop_map(|(cells, times, life)| {
            let mut record = Record { times, ..Record::default() };
            for (name, cell) in cells {
                record.join_cell(&name, &cell);
            }
            record.set_life(life);
            record
        })
    }

    fn joined(a: &Record, b: &Record) -> Record {
        let mut joined = a.clone();
        joined.join(b);
        joined
    }

    /// Which life a removal cuts off depends on the order in which it comes: it may end sooner, never what outlives it.
    fn without_life(mut record: Record) -> Record {
        record.life = None;
        record
    }

    proptest! {
        #[test]
        fn joins_commute_associate_and_repeat_without_effect(a in records(), b in records(), c in records()) {
            prop_assert_eq!(without_life(joined(&a, &b)), without_life(joined(&b, &a)));
            let [left, right] = [joined(&joined(&a, &b), &c), joined(&a, &joined(&b, &c))];
            prop_assert_eq!(left.life.is_some(), right.life.is_some());
            prop_assert_eq!(without_life(left), without_life(right));
            prop_assert_eq!(joined(&a, &a), a.clone());
            prop_assert!(joined(&a, &b).covers(&a));
            prop_assert_eq!(a.covers(&b), without_life(joined(&a, &b)) == without_life(a));
        }

        #[test]
        fn without_removals_lives_join_by_union_in_any_order(a in records(), b in records(), c in records()) {
            let living = [a, b, c].map(|mut record| {
                record.forget(&CellName::tombstone());
                record
            });
            let [a, b, c] = living;
            prop_assert_eq!(joined(&a, &b), joined(&b, &a));
            prop_assert_eq!(joined(&joined(&a, &b), &c), joined(&a, &joined(&b, &c)));
        }

        #[test]
        fn a_record_comes_back_from_its_fields(a in records()) {
            let fields: Vec<_> = a.to_fields().collect();
            let back = Record::from_fields(fields.iter().map(|(f, v)| (*f, v.as_str()))).unwrap();
            prop_assert_eq!(back, a);
        }

        #[test]
        fn every_name_comes_back_from_its_field(kind in ".{0,6}", value in ".{0,6}") {
            for name in [
                CellName::contact(&kind, &value),
                CellName::profile(&kind),
                CellName::metadata(&value),
            ] {
                prop_assert_eq!(CellName::from_field(name.field()), Some(name));
            }
        }
    }

    fn upsert(json: &Json, stamp_number: u128, seen: Option<&Record>) -> Record {
        let contacts = serde_json::from_value(json["contacts"].clone()).unwrap();
        let map = |name: &str| json[name].as_object().cloned().unwrap_or_default();
        let patch = Patch { contacts, profile: map("profile"), metadata: map("metadata"), ..Patch::default() };
        Record::patched(&patch, stamp(stamp_number << 64), Timestamp::from_millis(5), Life::from_now(5, None), seen)
    }

    fn view(record: &Record) -> Option<CachedContact> {
        record.view(&"u".parse().unwrap(), 1000).unwrap()
    }

    #[test]
    fn fields_merge_one_by_one_and_a_null_profile_field_means_no_change() {
        let first = serde_json::json!({"contacts": [], "profile": {"name": "A", "age": 1}, "metadata": {"x": null}});
        let second = serde_json::json!({"contacts": [], "profile": {"name": null, "age": 2}});
        let record = joined(&upsert(&first, 1, None), &upsert(&second, 2, None));
        let seen = view(&record).unwrap();
        assert_eq!(Json::from(seen.profile), serde_json::json!({"name": "A", "age": 2}));
        assert_eq!(Json::from(seen.metadata), serde_json::json!({"x": null}));
    }

    #[test]
    fn a_contact_point_keeps_its_place_when_its_writer_has_seen_it() {
        let point = |value: &str| serde_json::json!({"type": "email", "value": value});
        let first = upsert(&serde_json::json!({"contacts": [point("b"), point("a")]}), 1, None);
        let again = upsert(&serde_json::json!({"contacts": [point("c"), point("b")]}), 2, Some(&first));
        let order: Vec<_> = view(&joined(&first, &again)).unwrap().contacts.into_iter().map(|c| c.value).collect();
        assert_eq!(order, ["b", "a", "c"]);
    }

    #[test]
    fn a_contact_point_can_be_removed_by_one_who_has_not_seen_it() {
        let there = upsert(&serde_json::json!({"contacts": [{"type": "email", "value": "a"}]}), 1, None);
        let mut patch = Patch::default();
        patch.without_contacts.push(("email".to_owned(), "a".to_owned()));
        for seen in [None, Some(&there)] {
            let removal =
                Record::patched(&patch, stamp(2 << 64), Timestamp::from_millis(2), Life::from_now(5, None), seen);
            assert!(view(&joined(&there, &removal)).unwrap().contacts.is_empty());
        }
    }

    #[test]
    fn a_removed_record_is_gone_until_a_later_upsert_and_without_its_old_cells() {
        let mut record = upsert(&serde_json::json!({"contacts": [], "profile": {"name": "A"}}), 1, None);
        record.join(&Record::tombstone(stamp(2 << 64)));
        assert_eq!(view(&record), None);
        record.join(&upsert(&serde_json::json!({"contacts": [], "profile": {"late": 1}}), 1, None));
        assert_eq!(view(&record), None, "a late write below the tombstone stays dead");
        record.join(&upsert(&serde_json::json!({"contacts": [], "metadata": {"x": 1}}), 3, None));
        assert_eq!(Json::from(view(&record).unwrap().profile), serde_json::json!({}));
    }

    #[test]
    fn an_import_fills_gaps_widens_the_times_and_wins_over_nothing() {
        let json = serde_json::json!({"uid": "u", "contacts": [{"type": "email", "value": "a"}], "metadata": {},
            "profile": {"name": "old", "age": 1, "none": null},
            "first_revealed_at": "1970-01-01T00:00:00.001Z", "last_updated_at": "2099-01-01T00:00:00.000Z"});
        let import = Record::imported(&serde_json::from_value(json).unwrap(), Life::from_now(5, None));
        let there = upsert(&serde_json::json!({"contacts": [], "profile": {"name": "new"}}), 1, None);
        let seen = view(&joined(&there, &import)).unwrap();
        assert_eq!(Json::from(seen.profile), serde_json::json!({"name": "new", "age": 1}));
        assert_eq!((seen.contacts.len(), seen.first_revealed_at.millis()), (1, 1));
        assert_eq!(seen.last_updated_at.to_string(), "2099-01-01T00:00:00.000Z");
        assert_eq!(view(&joined(&Record::tombstone(stamp(1 << 64)), &import)), None, "removed stays removed");
    }

    #[test]
    fn a_record_with_nothing_in_it_exists() {
        let record = upsert(&serde_json::json!({"contacts": []}), 1, None);
        assert!(view(&record).unwrap().contacts.is_empty());
    }

    #[test]
    fn l1_an_upsert_extends_a_life_and_none_shortens_it() {
        let living = |number: u128, now_ms, ttl_ms| {
            let life = Life::from_now(now_ms, Some(ttl_ms));
            Record::patched(&Patch::default(), stamp(number << 64), Timestamp::from_millis(5), life, None)
        };
        let first = living(1, 1000, 1000);
        assert!(first.is_alive_at(1999) && !first.is_alive_at(2000));
        for shorter in [living(2, 1100, 100), living(0, 900, 50)] {
            assert_eq!(joined(&first, &shorter).alive_until_ms(), 2000);
        }
        assert_eq!(joined(&first, &living(0, 1500, 1000)).alive_until_ms(), 2500, "however late it arrives");
        let removed = joined(&first, &Record::tombstone(stamp(2 << 64)));
        assert_eq!(removed.life(), None);
        assert_eq!(joined(&removed, &living(3, 1900, 5)).life(), Some(Life::from_now(1900, Some(5))));
        assert_eq!(joined(&removed, &living(1, 1900, 5)).life(), None, "a write below the removal begins none");
    }

    #[test]
    fn a_hash_that_is_no_record_is_named_by_its_field() {
        let error = Record::from_fields([("zip", "x")].into_iter()).unwrap_err();
        assert_eq!(error.to_string(), r#"field "zip" is not one of a contact record: its name is unknown"#);
        assert!(Record::from_fields([("pname", "short")].into_iter()).is_err());
        for lifetime in ["", "3", "11", "2123", "2zzzzzzzzzzzz", "4"] {
            let cell = format!("{}{lifetime}", stamp(1));
            assert!(Record::from_fields([("e", cell.as_str())].into_iter()).is_err(), "{lifetime}");
        }
    }
}
