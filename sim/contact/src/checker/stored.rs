//! Records as they are stored at the end of a run, beside records as reads showed them.

use std::fmt;

use serde_json::Value as Json;

use super::operation::{Operation, Seen};
use crate::history::StoredRecord;

/// A record in what is stored.
pub(super) struct Stored<'h> {
    pub(super) place: Place,
    /// Of the event that notes it.
    pub(super) ordinal: u64,
    /// When that was.
    pub(super) at_us: u64,
    pub(super) record: &'h StoredRecord,
    /// As [`Operation::shown`].
    pub(super) shown: Vec<Seen>,
    /// As [`Operation::values`].
    pub(super) values: Vec<(usize, &'h Json)>,
}

/// Where something is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Redis,
    /// The local store of this instance.
    Store(u32),
}

impl Stored<'_> {
    pub(super) fn json(&self) -> Option<&Json> {
        self.record.shows.as_deref()
    }
}

impl fmt::Display for Stored<'_> {
    /// `Redis (event 812)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Place::Redis => write!(f, "Redis (event {})", self.ordinal),
            Place::Store(instance) => write!(f, "the store of instance {instance} (event {})", self.ordinal),
        }
    }
}

/// A record as somebody shows it: a read, or a place where it is stored.
pub(super) struct Showing<'a, 'h> {
    /// Who shows it, for a message.
    pub(super) by: &'a dyn fmt::Display,
    pub(super) json: &'a Json,
    pub(super) shown: &'a [Seen],
    pub(super) values: &'a [(usize, &'h Json)],
    /// What is called later cannot be in it.
    pub(super) ordinal: u64,
    /// The read, if it is one.
    pub(super) read: Option<&'a Operation<'h>>,
}

impl<'h> Operation<'h> {
    /// None if it showed no record.
    pub(super) fn showing(&self) -> Option<Showing<'_, 'h>> {
        let json = self.record_read()?;
        let (shown, values, ordinal) = (&self.shown, &self.values, self.returned());
        Some(Showing { by: self, json, shown, values, ordinal, read: Some(self) })
    }
}

impl<'h> Stored<'h> {
    /// None if there is no record.
    pub(super) fn showing(&self) -> Option<Showing<'_, 'h>> {
        let (shown, values, ordinal) = (&self.shown, &self.values, self.ordinal);
        Some(Showing { by: self, json: self.json()?, shown, values, ordinal, read: None })
    }
}
