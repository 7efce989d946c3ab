//! How the clocks of caches that were opened on a store compare with Redis's (L3).

use std::collections::{BTreeMap, VecDeque};

use super::entry::LogEntry;

/// How clocks of caches that were opened on this store compare with Redis's.
#[derive(Clone, Debug, Default)]
pub(super) struct ClockOffsets {
    /// By how much the wall clock was behind at the last first contact, in milliseconds.
    pub(super) offset_ms: i64,
    /// Of the last caches that met Redis, oldest first: by how much the clock of each was behind before.
    contacts: VecDeque<(u64, i64)>,
}

impl ClockOffsets {
    /// More are not kept: what was written before a contact is sent soon after it.
    const CONTACTS_MAX: usize = 16;

    pub(super) fn met(&mut self, clock: u64, shift_ms: i64, offset_ms: i64) {
        self.offset_ms = offset_ms;
        if self.contacts.len() == Self::CONTACTS_MAX {
            self.contacts.pop_front();
        }
        self.contacts.push_back((clock, shift_ms));
    }

    /// By how much each was behind.
    pub(super) fn shifts(&self) -> BTreeMap<u64, i64> {
        self.contacts.iter().copied().collect()
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = LogEntry> {
        let offset_ms = self.offset_ms;
        self.contacts.iter().map(move |&(clock, shift_ms)| LogEntry::Contact { clock, shift_ms, offset_ms })
    }
}
