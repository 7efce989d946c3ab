//! What the local tier holds of one record: the cells, which of them Redis does not have yet, and how long ago each was
//! seen there.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize, Serializer, ser::SerializeMap};

use crate::record::{CellName, NotARecord, Record};

/// A record with the notes that decide what is sent to Redis.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) record: Record,
    notes: BTreeMap<CellName, Note>,
    /// Whether Redis lacks the times of the record.
    times_pending: bool,
    /// How often cells were marked pending again. An acknowledgement clears only what was sent after the last (R8).
    marked: u64,
    /// Whether the instance may have held more of the record, and forgotten it.
    partial: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Note {
    pending: bool,
    /// When the last request to Redis was sent whose reply covered the cell, by this instance's wall clock (R9).
    confirmed_at_ms: u64,
}

/// What became of copies that Redis turned out to lack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reclaimed {
    /// Some are pending again.
    pub(crate) published_again: bool,
    /// Some were too old for that, and were dropped.
    pub(crate) yielded: bool,
}

/// What was sent to Redis, to be matched with its acknowledgement.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) record: Record,
    marked: u64,
}

/// Bytes of a record, in cells that Redis never acknowledged, and in the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Weight {
    pub(super) owed: u32,
    pub(super) copied: u32,
}

impl Note {
    /// Whether Redis never acknowledged the cell. One that is merely published again does not count.
    fn is_owed(self) -> bool {
        self.pending && self.confirmed_at_ms == 0
    }

    /// Never, if Redis never showed it.
    fn is_confirmed_since(self, since_ms: u64) -> bool {
        self.confirmed_at_ms > 0 && self.confirmed_at_ms >= since_ms
    }
}

impl Held {
    /// Nothing yet of a record that the instance may have held before.
    pub(super) fn forgotten() -> Self {
        Self { partial: true, ..Self::default() }
    }

    /// Whether the instance may have held more of the record, and forgotten it: what is held here alone could go back
    /// behind what was read before.
    pub(crate) fn is_partial(&self) -> bool {
        self.partial
    }

    /// All that Redis holds of the record was joined in.
    pub(crate) fn complete(&mut self) {
        self.partial = false;
    }

    /// Whether it holds a write that Redis never acknowledged. What is merely published again does not count.
    pub(super) fn is_owed(&self) -> bool {
        self.notes.values().any(|note| note.is_owed())
    }

    /// About how many bytes it takes on disk.
    pub(super) fn weight(&self) -> Weight {
        const PER_RECORD: usize = 120;
        const PER_CELL: usize = 60;
        let (mut owed, mut copied) = (0, 0);
        for (name, cell) in self.record.cells() {
            let bytes = PER_CELL + 2 * name.field().len() + cell.value.as_deref().map_or(0, str::len);
            let is_owed = self.notes.get(name).is_some_and(|note| note.is_owed());
            *(if is_owed { &mut owed } else { &mut copied }) += bytes;
        }
        *(if owed > 0 { &mut owed } else { &mut copied }) += PER_RECORD;
        let bytes = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        Weight { owed: bytes(owed), copied: bytes(copied) }
    }

    /// When Redis last confirmed any cell of it; zero if never.
    pub(super) fn newest_confirmed_ms(&self) -> u64 {
        self.notes.values().map(|note| note.confirmed_at_ms).max().unwrap_or(0)
    }

    /// Whether Redis lacks something of it.
    pub(crate) fn is_pending(&self) -> bool {
        self.times_pending || self.notes.values().any(|note| note.pending)
    }

    /// Takes in a write that Redis does not have: pending until it is acknowledged.
    pub(crate) fn join_pending(&mut self, written: &Record) {
        // Whatever it was, it is removed: nothing is missing here.
        self.partial &= !written.cells().contains_key(&CellName::tombstone());
        self.times_pending |= !self.record.times.covers(written.times);
        self.join(written, Note { pending: true, confirmed_at_ms: 0 });
    }

    /// Takes in cells that Redis holds, by a reply to a request sent at `sent_at_ms`.
    ///
    /// A cell that is held already is confirmed anew only if its note is older than `stale_ms`: a read that tells
    /// nothing new should not write to the disk.
    pub(crate) fn join_confirmed(&mut self, confirmed: &Record, sent_at_ms: u64, stale_ms: u64) {
        self.join(confirmed, Note { pending: false, confirmed_at_ms: sent_at_ms });
        for (name, cell) in confirmed.cells() {
            // Not a tombstone: readers that confirm it to each other, and publish it again when Redis has forgotten it,
            // would keep it for ever.
            if !name.is_tombstone()
                && let Some(note) = self.notes.get_mut(name)
                && note.confirmed_at_ms.saturating_add(stale_ms) < sent_at_ms
                && self.record.cells().get(name) == Some(cell)
            {
                note.confirmed_at_ms = sent_at_ms;
            }
        }
    }

    /// Takes in a write that Redis does not have, at this time of Redis's clock.
    ///
    /// If the record has expired, the write must not show the expired cells again: they are dropped. Whether the record has
    /// expired is for Redis to say, so no tombstone of it is sent; a removal that is pending stays so.
    pub(crate) fn join_pending_at(&mut self, written: &Record, now_ms: u64) {
        if let Some(expired) = self.record.expired_at(now_ms) {
            let cells = self.record.cells().iter().filter(|(name, cell)| !name.is_tombstone() && cell.stamp <= expired);
            for name in cells.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
                self.record.forget(&name);
                self.notes.remove(&name);
            }
        }
        self.join_pending(written);
    }

    fn join(&mut self, other: &Record, note: Note) {
        self.record.times.join(other.times);
        let mut buried = false;
        for (name, cell) in other.cells() {
            if self.record.join_cell(name, cell) {
                self.notes.insert(name.clone(), note);
                buried |= name.is_tombstone();
            }
        }
        if buried {
            let cells = self.record.cells();
            self.notes.retain(|name, _| cells.contains_key(name));
        }
    }

    /// R5: Redis answered `reply`, which lacks something of `asked`, what was held when it was asked. The excess becomes
    /// pending again if it was confirmed after `republish_since_ms`; an older copy yields to Redis (R9).
    ///
    /// `behind_replay`: a replay of the record was under way when Redis was asked. Redis executed that first, so what it
    /// lacks all the same was lost since, and the acknowledgement that is still to come clears nothing (R8).
    pub(crate) fn reclaim(
        &mut self,
        asked: &Record,
        reply: &Record,
        republish_since_ms: u64,
        behind_replay: bool,
    ) -> Reclaimed {
        let (mut marked, mut reclaimed) = (false, Reclaimed::default());
        // Also of a removed record: its times show again with the next upsert.
        if !reply.times.covers(asked.times) && !self.times_pending {
            (self.times_pending, marked) = (true, true);
        }
        for (name, cell) in asked.cells().iter().filter(|(name, cell)| !reply.covers_cell(name, cell)) {
            let Some(note) = self.notes.get_mut(name) else { continue };
            if note.pending {
                marked |= behind_replay;
                continue;
            }
            if note.is_confirmed_since(republish_since_ms) {
                (note.pending, marked) = (true, true);
                reclaimed.published_again = true;
            } else if self.record.cells().get(name) == Some(cell) {
                reclaimed.yielded = true;
                self.record.forget(name);
                self.notes.remove(name);
            }
        }
        if self.record.cells().is_empty() {
            *self = Self { partial: self.partial, ..Self::default() };
        } else {
            self.marked += u64::from(marked);
        }
        reclaimed
    }

    /// R6: Redis lost its data. Every copy confirmed after `republish_since_ms` is pending again (R9).
    pub(crate) fn reclaim_all(&mut self, republish_since_ms: u64) {
        for note in self.notes.values_mut() {
            note.pending |= note.is_confirmed_since(republish_since_ms);
            self.times_pending |= note.pending;
        }
        self.marked += 1;
    }

    /// Until when a reply of Redis to a request sent by then, equal to what is held, changes nothing; none if any would.
    pub(crate) fn settled_until_ms(&self, stale_ms: u64) -> Option<u64> {
        let living = self.notes.iter().filter(|(name, _)| !name.is_tombstone());
        let until_ms = living.map(|(_, note)| note.confirmed_at_ms.saturating_add(stale_ms)).min();
        (!self.is_pending() && !self.partial).then(|| until_ms.unwrap_or(u64::MAX))
    }

    /// When the cell that was confirmed longest ago was; none if there is no cell but a tombstone.
    pub(crate) fn oldest_confirmed_ms(&self) -> Option<u64> {
        let notes = self.notes.iter().filter(|(name, note)| !name.is_tombstone() && !note.pending);
        notes.map(|(_, note)| note.confirmed_at_ms).min()
    }

    /// When Redis confirmed the cell that it confirmed longest ago; now, if all of it was written here and is pending.
    /// None if nothing is held, or something of unknown age.
    pub(crate) fn confirmed_ms(&self) -> Option<u64> {
        let ages = self.notes.values().map(|note| if note.pending { u64::MAX } else { note.confirmed_at_ms });
        ages.min().filter(|age| *age > 0)
    }

    /// What to send: the pending cells and, with them, the times.
    pub(crate) fn to_send(&self) -> Sent {
        let mut record = Record::with_times(self.record.times);
        for (name, cell) in self.record.cells() {
            if self.notes.get(name).is_some_and(|note| note.pending) {
                record.join_cell(name, cell);
            }
        }
        Sent { record, marked: self.marked }
    }

    /// R8: Redis acknowledged `sent`. A pending cell is cleared only if its stamp is not above the one sent and nothing
    /// was marked pending again since.
    pub(crate) fn acknowledge(&mut self, sent: &Sent, sent_at_ms: u64) {
        if self.marked != sent.marked {
            return;
        }
        self.times_pending &= !sent.record.times.covers(self.record.times);
        for (name, note) in &mut self.notes {
            let cell = &self.record.cells()[name];
            if note.pending && sent.record.cells().get(name).is_some_and(|sent| sent.stamp >= cell.stamp) {
                *note = Note { pending: false, confirmed_at_ms: sent_at_ms };
            }
        }
    }
}

/// The form on disk, as it is read.
#[derive(Deserialize)]
pub(super) struct HeldText {
    cells: BTreeMap<String, String>,
    #[serde(default)]
    pending: BTreeSet<String>,
    #[serde(default)]
    times_pending: bool,
    #[serde(default)]
    confirmed_at_ms: BTreeMap<String, u64>,
    #[serde(default)]
    marked: u64,
    #[serde(default)]
    partial: bool,
}

/// The same form, written without a detour: every write and every new copy goes through here.
impl Serialize for Held {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let pending: Vec<_> =
            self.notes.iter().filter(|(_, note)| note.pending).map(|(name, _)| name.field()).collect();
        let confirmed = || {
            let confirmed = self.notes.iter().filter(|(_, note)| note.confirmed_at_ms > 0);
            confirmed.map(|(name, note)| (name.field(), note.confirmed_at_ms))
        };
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("cells", &Entries(|| self.record.to_fields()))?;
        if !pending.is_empty() {
            map.serialize_entry("pending", &pending)?;
        }
        if self.times_pending {
            map.serialize_entry("times_pending", &true)?;
        }
        if confirmed().next().is_some() {
            map.serialize_entry("confirmed_at_ms", &Entries(confirmed))?;
        }
        map.serialize_entry("marked", &self.marked)?;
        if self.partial {
            map.serialize_entry("partial", &true)?;
        }
        map.end()
    }
}

/// A map, by what makes an iterator over its entries.
struct Entries<F>(F);

impl<F: Fn() -> I, I: Iterator<Item = (K, V)>, K: Serialize, V: Serialize> Serialize for Entries<F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0())
    }
}

impl TryFrom<HeldText> for Held {
    type Error = NotARecord;

    fn try_from(text: HeldText) -> Result<Self, NotARecord> {
        let record = Record::from_fields(text.cells.iter().map(|(field, cell)| (field.as_str(), cell.as_str())))?;
        let note = |name: &CellName| {
            let field = name.field();
            Note {
                pending: text.pending.contains(field),
                confirmed_at_ms: text.confirmed_at_ms.get(field).copied().unwrap_or(0),
            }
        };
        let notes = record.cells().keys().map(|name| (name.clone(), note(name))).collect();
        Ok(Self { record, notes, times_pending: text.times_pending, marked: text.marked, partial: text.partial })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        contact::Timestamp,
        record::{Cell, Lifetime, Times},
        stamp::Stamp,
    };

    fn stamp(number: u64) -> Stamp {
        format!("{number:032x}").parse().unwrap()
    }

    fn name() -> CellName {
        CellName::profile("name")
    }

    fn record(number: u64) -> Record {
        let mut record = Record::with_times(Times::at(Timestamp::from_millis(number)));
        record.join_cell(&name(), &Cell { stamp: stamp(number), value: Some("1".into()) });
        record
    }

    fn pending(number: u64) -> Held {
        let mut held = Held::default();
        held.join_pending(&record(number));
        held
    }

    fn confirmed(number: u64, at_ms: u64) -> Held {
        let mut held = Held::default();
        held.join_confirmed(&record(number), at_ms, 10);
        held
    }

    #[test]
    fn a_write_is_pending_until_exactly_it_is_acknowledged() {
        let mut held = pending(5);
        let sent = held.to_send();
        held.acknowledge(&sent, 100);
        assert!(!held.is_pending());
    }

    #[test]
    fn a_write_over_a_record_that_has_expired_shows_none_of_it_and_keeps_a_removal_pending() {
        let mut held = Held::default();
        held.join_pending(&Record::tombstone(stamp(4)));
        let mut expiring = record(5);
        let existence = Cell { stamp: stamp(5), value: Some(Lifetime::Estimated(1_000).text().into()) };
        expiring.join_cell(&CellName::existence(), &existence);
        held.join_pending(&expiring);
        let mut written = Record::default();
        written.join_cell(&CellName::profile("other"), &Cell { stamp: stamp(6), value: Some("1".into()) });
        held.join_pending_at(&written, 2_000);
        let sent = held.to_send().record;
        let fields: Vec<_> = sent.cells().keys().map(CellName::field).collect();
        assert_eq!(fields, ["d", "pother"]);
        assert_eq!(sent.newest(), Some(stamp(6)));
    }

    #[test]
    fn r8_an_acknowledgement_of_an_older_stamp_clears_nothing() {
        let mut held = pending(5);
        let sent = held.to_send();
        held.join_pending(&record(6));
        held.acknowledge(&sent, 100);
        assert!(held.is_pending());
    }

    #[test]
    fn r8_an_acknowledgement_sent_before_the_last_marking_clears_nothing() {
        let mut held = pending(5);
        let sent = held.to_send();
        held.reclaim_all(0);
        held.acknowledge(&sent, 100);
        assert!(held.is_pending());
    }

    #[test]
    fn r8_what_redis_lacks_although_it_was_sent_before_is_not_cleared_by_that_acknowledgement() {
        for (behind_replay, pending_after) in [(true, true), (false, false)] {
            let mut held = pending(5);
            let (sent, asked) = (held.to_send(), held.record.clone());
            held.reclaim(&asked, &Record::default(), 50, behind_replay);
            held.acknowledge(&sent, 100);
            assert_eq!(held.is_pending(), pending_after);
        }
    }

    #[test]
    fn r5_what_redis_lacks_of_what_was_held_when_it_was_asked_is_pending_again() {
        let mut held = confirmed(5, 100);
        let asked = held.record.clone();
        held.reclaim(&asked, &Record::default(), 50, false);
        assert!(held.is_pending());
        assert_eq!(held.to_send().record, record(5));
    }

    #[test]
    fn r5_the_times_of_a_removed_record_are_told_to_a_redis_that_forgot_them() {
        let mut held = confirmed(5, 100);
        held.join_confirmed(&Record::tombstone(stamp(6)), 100, 10);
        let asked = held.record.clone();
        held.reclaim(&asked, &Record::tombstone(stamp(6)), 50, false);
        assert_eq!(held.to_send().record.times, record(5).times);
        assert!(held.is_pending());
    }

    #[test]
    fn r7_what_came_after_the_question_is_no_excess() {
        let mut held = confirmed(5, 100);
        held.reclaim(&Record::default(), &Record::default(), 50, false);
        assert!(!held.is_pending());
    }

    #[test]
    fn r9_a_copy_confirmed_too_long_ago_yields_to_redis() {
        let mut held = confirmed(5, 100);
        let asked = held.record.clone();
        let mut reply = Record::with_times(asked.times);
        reply.join_cell(&CellName::existence(), &Cell { stamp: stamp(9), value: Some("1".into()) });
        held.reclaim(&asked, &reply, 101, false);
        assert!(!held.is_pending() && held.record.cells().is_empty());
    }

    #[test]
    fn r9_a_pending_cell_is_published_however_old() {
        let mut held = pending(5);
        held.reclaim_all(u64::MAX);
        assert_eq!(held.to_send().record, record(5));
    }

    #[test]
    fn r6_a_new_generation_marks_young_copies_and_leaves_old_ones() {
        let mut young = confirmed(5, 100);
        young.reclaim_all(100);
        assert_eq!(young.to_send().record, record(5));
        let mut old = confirmed(5, 99);
        old.reclaim_all(100);
        assert!(old.to_send().record.cells().is_empty());
    }

    #[test]
    fn a_read_that_tells_nothing_new_changes_nothing_until_the_copy_is_stale() {
        let mut held = confirmed(5, 100);
        let before = held.clone();
        assert_eq!(held.settled_until_ms(10), Some(110));
        held.join_confirmed(&record(5), 110, 10);
        assert_eq!(held, before);
        held.join_confirmed(&record(5), 111, 10);
        assert_ne!(held, before);
    }

    #[test]
    fn what_is_pending_or_partial_is_never_settled() {
        let mut pending = confirmed(5, 100);
        pending.join_pending(&record(6));
        assert_eq!(pending.settled_until_ms(10), None);
        assert_eq!(Held::forgotten().settled_until_ms(10), None);
        assert_eq!(Held::default().settled_until_ms(10), Some(u64::MAX));
    }

    #[test]
    fn a_write_to_an_expired_record_hides_what_expired_and_leaves_the_verdict_to_redis() {
        let written = |number, value: &str, until| {
            let mut written = record(number);
            let existence = Cell { stamp: stamp(number), value: Some(Lifetime::Until(until).text().into()) };
            written.join_cell(&CellName::existence(), &existence);
            written.join_cell(&CellName::metadata(value), &Cell { stamp: stamp(number), value: Some("1".into()) });
            written
        };
        let mut held = Held::default();
        held.join_confirmed(&written(5, "old", 100), 50, 10);
        held.join_pending_at(&written(6, "new", 200), 150);
        assert!(held.record.cells().contains_key(&CellName::metadata("new")));
        assert!(!held.record.cells().contains_key(&CellName::metadata("old")));
        assert!(!held.to_send().record.cells().contains_key(&CellName::tombstone()));
        // Another instance had written again in time.
        let asked = held.record.clone();
        held.reclaim(&asked, &written(5, "old", 300), 0, false);
        held.join_confirmed(&written(5, "old", 300), 160, 10);
        assert!(!held.to_send().record.cells().contains_key(&CellName::tombstone()));
    }

    #[test]
    fn it_comes_back_from_its_form_on_disk() {
        let mut held = confirmed(5, 100);
        held.join_pending(&record(6));
        held.reclaim_all(0);
        let text = serde_json::to_string(&held).unwrap();
        let back: Held = serde_json::from_str::<HeldText>(&text).unwrap().try_into().unwrap();
        assert_eq!(back, held);
    }
}
