//! The cells of a record: their names and their values.

use std::{
    borrow::Borrow,
    sync::{Arc, LazyLock},
};

use super::json_text;
use crate::stamp::{STAMP_TEXT_LEN, Stamp};

/// The name of a cell within its record: the field of the Redis hash. Cloning is cheap.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CellName(Arc<str>);

/// What a cell is about.
pub(super) enum CellSubject<'a> {
    Existence,
    Tombstone,
    Contact(String, String),
    Profile(&'a str),
    Metadata(&'a str),
}

/// A stamped value; none if the cell was removed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cell {
    pub(crate) stamp: Stamp,
    pub(crate) value: Option<Arc<str>>,
}

impl CellName {
    pub(super) const EXISTENCE: &'static str = "e";
    pub(super) const TOMBSTONE: &'static str = "d";

    pub(crate) fn existence() -> Self {
        static NAME: LazyLock<CellName> = LazyLock::new(|| CellName(CellName::EXISTENCE.into()));
        NAME.clone()
    }

    pub(crate) fn tombstone() -> Self {
        static NAME: LazyLock<CellName> = LazyLock::new(|| CellName(CellName::TOMBSTONE.into()));
        NAME.clone()
    }

    pub(crate) fn contact(kind: &str, value: &str) -> Self {
        Self(format!("c{}", json_text(&(kind, value))).into())
    }

    pub(crate) fn profile(name: &str) -> Self {
        Self(["p", name].concat().into())
    }

    pub(crate) fn metadata(name: &str) -> Self {
        Self(["m", name].concat().into())
    }

    pub(crate) fn is_existence(&self) -> bool {
        self.field() == Self::EXISTENCE
    }

    pub(crate) fn is_tombstone(&self) -> bool {
        self.field() == Self::TOMBSTONE
    }

    /// The field of the Redis hash.
    pub(crate) fn field(&self) -> &str {
        &self.0
    }

    pub(super) fn from_field(field: &str) -> Option<Self> {
        match field {
            Self::EXISTENCE => return Some(Self::existence()),
            Self::TOMBSTONE => return Some(Self::tombstone()),
            _ => {}
        }
        if field.starts_with('c') {
            // There are several ways to write a pair in JSON: only ours, or one point would have several names.
            let (kind, value) = contact(field)?;
            return Some(Self::contact(&kind, &value)).filter(|name| name.field() == field);
        }
        field.starts_with(['p', 'm']).then(|| Self(field.into()))
    }

    pub(super) fn subject(&self) -> CellSubject<'_> {
        let field = self.field();
        match field.split_at_checked(1) {
            Some(("p", name)) => CellSubject::Profile(name),
            Some(("m", name)) => CellSubject::Metadata(name),
            Some(("e", _)) => CellSubject::Existence,
            Some(("d", _)) => CellSubject::Tombstone,
            _ => {
                let (kind, value) = contact(field).expect("a name is one of the five");
                CellSubject::Contact(kind, value)
            }
        }
    }
}

/// As a key of maps, a name is its field.
impl Borrow<str> for CellName {
    fn borrow(&self) -> &str {
        self.field()
    }
}

/// Kind and value of a contact point, from the name of its cell.
fn contact(field: &str) -> Option<(String, String)> {
    serde_json::from_str(field.strip_prefix('c')?).ok()
}

impl Cell {
    /// `<stamp><value>`, as Redis and the local store hold it.
    pub(crate) fn text(&self) -> String {
        let value = self.value.as_deref().unwrap_or_default();
        let mut text = String::with_capacity(STAMP_TEXT_LEN + value.len());
        text.push_str(&self.stamp.text());
        text.push_str(value);
        text
    }

    pub(crate) fn from_text(text: &str) -> Option<Self> {
        let (stamp, value) = text.split_at_checked(STAMP_TEXT_LEN)?;
        Some(Self { stamp: stamp.parse().ok()?, value: (!value.is_empty()).then(|| value.into()) })
    }
}
