//! What is held of a record in its form on disk: part of the entries of the log (docs/FORMATS.md).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize, Serializer, ser::SerializeMap};

use super::{
    held::Held,
    lived::{CellNote, Estimate, Lived},
};
use crate::record::{CellName, Life, NotARecord, Record};

/// The form on disk, as it is read. Formats before 4 have one life, which stands in the existence cell.
#[derive(Deserialize)]
pub(super) struct HeldText {
    cells: BTreeMap<String, String>,
    #[serde(default)]
    pending: BTreeSet<String>,
    #[serde(default)]
    confirmed_at_ms: BTreeMap<String, u64>,
    #[serde(default)]
    told: Option<Life>,
    #[serde(default)]
    estimate: Option<Estimate>,
    #[serde(default)]
    earlier: Vec<LivedText>,
    #[serde(default)]
    times_pending: bool,
    #[serde(default)]
    marked: u64,
    #[serde(default)]
    partial: bool,
}

/// One life of it.
#[derive(Deserialize)]
struct LivedText {
    cells: BTreeMap<String, String>,
    #[serde(default)]
    pending: BTreeSet<String>,
    #[serde(default)]
    confirmed_at_ms: BTreeMap<String, u64>,
    #[serde(default)]
    told: Option<Life>,
    #[serde(default)]
    estimate: Option<Estimate>,
}

/// The same form, written without a detour: every write and every new copy goes through here.
impl Serialize for Held {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        serialize_life(&self.latest, &mut map)?;
        if !self.earlier.is_empty() {
            map.serialize_entry("earlier", &self.earlier)?;
        }
        if self.times_pending {
            map.serialize_entry("times_pending", &true)?;
        }
        map.serialize_entry("marked", &self.marked)?;
        if self.partial {
            map.serialize_entry("partial", &true)?;
        }
        map.end()
    }
}

impl Serialize for Lived {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        serialize_life(self, &mut map)?;
        map.end()
    }
}

fn serialize_life<M: SerializeMap>(life: &Lived, map: &mut M) -> Result<(), M::Error> {
    let pending: Vec<_> = life.notes().iter().filter(|(_, note)| note.pending).map(|(name, _)| name.field()).collect();
    let confirmed = || {
        let confirmed = life.notes().iter().filter(|(_, note)| note.confirmed_at_ms > 0);
        confirmed.map(|(name, note)| (name.field(), note.confirmed_at_ms))
    };
    map.serialize_entry("cells", &MapEntries(|| life.record().to_fields()))?;
    if !pending.is_empty() {
        map.serialize_entry("pending", &pending)?;
    }
    if confirmed().next().is_some() {
        map.serialize_entry("confirmed_at_ms", &MapEntries(confirmed))?;
    }
    if let Some(told) = life.told_beside_estimate() {
        map.serialize_entry("told", &told)?;
    }
    if let Some(estimate) = life.estimate_beside_life() {
        map.serialize_entry("estimate", &estimate)?;
    }
    Ok(())
}

/// A map, by what makes an iterator over its entries.
struct MapEntries<F>(F);

impl<F: Fn() -> I, I: Iterator<Item = (K, V)>, K: Serialize, V: Serialize> Serialize for MapEntries<F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0())
    }
}

impl TryFrom<HeldText> for Held {
    type Error = NotARecord;

    fn try_from(text: HeldText) -> Result<Self, NotARecord> {
        let HeldText { cells, pending, confirmed_at_ms, told, estimate, .. } = text;
        let latest = LivedText { cells, pending, confirmed_at_ms, told, estimate };
        Ok(Self {
            latest: latest.try_into()?,
            earlier: text.earlier.into_iter().map(Lived::try_from).collect::<Result<_, _>>()?,
            times_pending: text.times_pending,
            marked: text.marked,
            partial: text.partial,
        })
    }
}

impl TryFrom<LivedText> for Lived {
    type Error = NotARecord;

    fn try_from(text: LivedText) -> Result<Self, NotARecord> {
        let record = Record::from_fields(text.cells.iter().map(|(field, cell)| (field.as_str(), cell.as_str())))?;
        let note = |name: &CellName| {
            let field = name.field();
            CellNote {
                pending: text.pending.contains(field),
                confirmed_at_ms: text.confirmed_at_ms.get(field).copied().unwrap_or(0),
            }
        };
        let notes = record.cells().keys().map(|name| (name.clone(), note(name))).collect();
        Ok(Self::restored(record, notes, text.told, text.estimate))
    }
}
