//! What a log holds, taken in entry by entry while it is read through at opening.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    clocks::ClockOffsets,
    entry::{LogEntry, decode},
    format::Location,
    held::Held,
    scan::{Damage, Take},
    slot::{Slot, mark_all},
};
use crate::{key::Uid, record::NotARecord, stamp::StampHead};

/// What a log holds, while it is read through.
#[derive(Default)]
pub(super) struct Contents {
    pub(super) prefix: Option<String>,
    pub(super) index: BTreeMap<Uid, Slot>,
    pub(super) pending: BTreeSet<Uid>,
    pub(super) ceiling: StampHead,
    pub(super) generation: Option<String>,
    pub(super) clocks: ClockOffsets,
    pub(super) forgot: bool,
    /// Endpoint and database of the Redis that the store is for.
    pub(super) redis: Option<String>,
    ends_closed: bool,
    pub(super) oldest_owed_ms: Option<u64>,
    /// Entries that verify and make no sense were written so: set aside with the rest, for whoever can read them.
    pub(super) unreadable: Vec<(u64, u64)>,
}

impl Take for Contents {
    fn take(&mut self, location: Location, payload: &[u8]) {
        let taken = decode(payload).and_then(|entry| self.take_entry(location, entry).ok());
        if taken.is_none() {
            self.unreadable.push((location.offset, location.bytes()));
        }
    }
}

impl Contents {
    /// Whether the log was closed in order. If something stands behind the entry that says so, it was opened since, and what
    /// was written then is lost.
    pub(super) fn is_clean_end(&self, damage: &Damage) -> bool {
        self.ends_closed && damage.torn_tail_bytes == 0
    }

    fn take_entry(&mut self, location: Location, entry: LogEntry) -> Result<(), NotARecord> {
        self.ends_closed = matches!(entry, LogEntry::Closed);
        match entry {
            LogEntry::Prefix { prefix } => self.prefix = Some(prefix),
            LogEntry::Redis { url } => self.redis = Some(url),
            LogEntry::Ceiling { head } => self.ceiling = self.ceiling.max(StampHead(head)),
            LogEntry::Generation { generation, reclaim_since_ms } => {
                self.generation = Some(generation);
                mark_all(&mut self.index, &mut self.pending, reclaim_since_ms);
            }
            LogEntry::Contact { clock, shift_ms, offset_ms } => self.clocks.met(clock, shift_ms, offset_ms),
            LogEntry::Forgot => self.forgot = true,
            LogEntry::Forget { uid } => {
                self.index.remove(&uid);
                self.pending.remove(&uid);
            }
            LogEntry::Closed => {}
            LogEntry::Record { uid, held } => {
                let held = Held::try_from(held)?;
                if let Some(newest) = held.newest() {
                    // A ceiling that was lost with a damaged entry is no lower than what was written under it.
                    self.ceiling = self.ceiling.max(newest.head());
                    if held.is_owed() {
                        let millis = newest.millis();
                        self.oldest_owed_ms = Some(self.oldest_owed_ms.map_or(millis, |oldest| oldest.min(millis)));
                    }
                }
                if held.is_pending() {
                    self.pending.insert(uid.clone());
                } else {
                    self.pending.remove(&uid);
                }
                self.index.insert(uid, Slot::of(location, false, &held));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        local::entry::{encode, encode_record},
        record::Record,
        stamp::Stamp,
    };

    fn written(at: u64) -> Vec<u8> {
        let stamp: Stamp = format!("{at:016x}{:016x}", 7).parse().unwrap();
        let mut held = Held::default();
        held.join_pending(&Record::tombstone(stamp), None);
        encode_record(&"u".parse().unwrap(), &held)
    }

    fn ceiling_of(payloads: &[Vec<u8>]) -> StampHead {
        let mut contents = Contents::default();
        for payload in payloads {
            contents.take(Location { offset: 0, len: 0 }, payload);
        }
        assert!(contents.unreadable.is_empty());
        contents.ceiling
    }

    #[test]
    fn a_record_is_read_in_whatever_order_its_members_stand() {
        let written = written(9);
        let members: serde_json::Value = serde_json::from_slice(&written).unwrap();
        let turned = format!(r#"{{"held":{},"uid":"u","entry":"record","later":[1]}}"#, members["held"]);
        for payload in [written, turned.into_bytes()] {
            let mut contents = Contents::default();
            contents.take(Location { offset: 0, len: 0 }, &payload);
            assert!(contents.unreadable.is_empty() && contents.index.contains_key(&"u".parse().unwrap()));
        }
    }

    #[test]
    fn r4_the_clock_begins_no_lower_than_any_ceiling_or_stamp_of_the_log_in_any_order() {
        let ceiling = |head| encode(&[LogEntry::Ceiling { head }]).remove(0);
        assert_eq!(ceiling_of(&[ceiling(9), written(5)]), StampHead(9));
        assert_eq!(ceiling_of(&[ceiling(9), ceiling(5)]), StampHead(9));
        // The ceiling under which it was written is damaged.
        assert_eq!(ceiling_of(&[ceiling(5), written(9)]), StampHead(9));
        assert_eq!(ceiling_of(&[written(9), ceiling(5)]), StampHead(9));
        assert_eq!(ceiling_of(&[written(9), written(5)]), StampHead(9));
    }
}
