//! The cells of a record: their names, their values, and until when the record lives, which stands in one of them.

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
pub(super) enum Subject<'a> {
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

/// Until when a record lives: the value of its existence cell.
///
/// Every upsert writes that cell, under the same stamp as its other cells, so its stamp is the largest of a record and
/// its deadline is the last writer's. Past it the record is as good as removed at that stamp: the merge script puts a
/// tombstone there as soon as it meets one. The deadline is in milliseconds of Redis's clock, set by the script from the
/// time to live sent. A writer that cannot ask Redis goes by its own estimate until then, and of the two values under
/// one stamp Redis's wins, being the larger text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lifetime {
    /// `0` and 12 hexadecimal digits: by the writer's estimate of Redis's clock.
    Estimated(u64),
    /// `1`: for ever.
    Unbounded,
    /// `2` and 12 hexadecimal digits: by Redis's clock.
    Until(u64),
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

    pub(super) fn subject(&self) -> Subject<'_> {
        let field = self.field();
        match field.split_at_checked(1) {
            Some(("p", name)) => Subject::Profile(name),
            Some(("m", name)) => Subject::Metadata(name),
            Some(("e", _)) => Subject::Existence,
            Some(("d", _)) => Subject::Tombstone,
            _ => {
                let (kind, value) = contact(field).expect("a name is one of the five");
                Subject::Contact(kind, value)
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

    /// Until when the record lives, if this is its existence cell.
    pub(crate) fn lifetime(&self) -> Option<Lifetime> {
        Lifetime::from_text(self.value.as_deref()?)
    }

    pub(crate) fn from_text(text: &str) -> Option<Self> {
        let (stamp, value) = text.split_at_checked(STAMP_TEXT_LEN)?;
        Some(Self { stamp: stamp.parse().ok()?, value: (!value.is_empty()).then(|| value.into()) })
    }
}

impl Lifetime {
    /// What the existence cell holds.
    pub(crate) fn text(self) -> String {
        match self {
            Self::Estimated(deadline_ms) => format!("0{deadline_ms:012x}"),
            Self::Unbounded => "1".to_owned(),
            Self::Until(deadline_ms) => format!("2{deadline_ms:012x}"),
        }
    }

    pub(crate) fn from_text(text: &str) -> Option<Self> {
        let deadline = |digits: &str| (digits.len() == 12).then(|| u64::from_str_radix(digits, 16).ok())?;
        match text.split_at_checked(1)? {
            ("0", digits) => Some(Self::Estimated(deadline(digits)?)),
            ("1", "") => Some(Self::Unbounded),
            ("2", digits) => Some(Self::Until(deadline(digits)?)),
            _ => None,
        }
    }

    /// The deadline, in milliseconds of Redis's clock; the end of time if there is none.
    pub(super) fn deadline_ms(self) -> u64 {
        match self {
            Self::Estimated(deadline_ms) | Self::Until(deadline_ms) => deadline_ms,
            Self::Unbounded => u64::MAX,
        }
    }
}
