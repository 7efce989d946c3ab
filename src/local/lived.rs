//! What is held of one life of a record: its cells, which of them Redis does not have yet, how long ago each was seen there,
//! and from when until when it lives (docs/PROTOCOL.md, L1 to L6).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::record::{Cell, CellName, Estimated, Life, Record, SentLife, Times};

/// A life of a record, as far as it is held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Lived {
    /// Its life is the union of the two below.
    record: Record,
    notes: BTreeMap<CellName, CellNote>,
    /// The life that Redis told.
    told: Option<Life>,
    /// The life that writes ask for which Redis did not acknowledge.
    estimate: Option<Estimate>,
}

/// Of a cell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct CellNote {
    pub(super) pending: bool,
    /// When the last request to Redis was sent whose reply covered the cell, by this instance's wall clock (R9).
    pub(super) confirmed_at_ms: u64,
}

/// A life by the estimate of Redis's clock at the time of writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Estimate {
    pub(crate) life: Life,
    /// The longest time to live of the writes; none for one without an end.
    pub(crate) ttl_ms: Option<u64>,
    /// Set by an opened cache that had not met Redis yet: which one. Its estimate is corrected when it does (L3).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) clock: Option<u64>,
    /// By how much that cache took its wall clock to be behind Redis's, in milliseconds: it may end without having met it. Clients of before did
    /// not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) offset_ms: Option<i64>,
    /// How much further the wall clock of that cache had gone than its monotonic clock by then, in milliseconds, by which the estimate was
    /// made (L6): its machine had been asleep, or the clock was set. Zero if that is too little to matter.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) ahead_ms: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// By how much a wall clock may go ahead of a monotonic clock, in milliseconds, before that is taken for a sleep or a step.
pub(crate) const CLOCK_DOUBT_MS: u64 = 1000;

/// By how much the clocks of opened caches were behind Redis's, before they met it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shifts {
    /// In milliseconds, of those that have met it since.
    pub(crate) by_clock: BTreeMap<u64, i64>,
    /// The others are compared with the one that has met it last; `None` before the first contact.
    pub(crate) last: Option<Offsets>,
}

/// By how much the wall clock of the one that has met Redis last was behind, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offsets {
    /// As it took it to be before.
    pub(crate) before_ms: i64,
    /// As Redis then told.
    pub(crate) told_ms: i64,
}

/// What became of copies that Redis turned out to lack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reclaimed {
    /// Some are pending again.
    pub(crate) published_again: bool,
    /// Some were too old for that, and were dropped.
    pub(crate) yielded: bool,
    /// An acknowledgement that is still to come clears nothing (R8).
    pub(super) marked: bool,
}

impl CellNote {
    pub(super) const PENDING: Self = Self { pending: true, confirmed_at_ms: 0 };

    pub(super) fn confirmed(at_ms: u64) -> Self {
        Self { pending: false, confirmed_at_ms: at_ms }
    }

    /// Whether Redis never acknowledged the cell. One that is merely published again does not count.
    pub(super) fn is_owed(self) -> bool {
        self.pending && self.confirmed_at_ms == 0
    }

    /// Never, if Redis never showed it.
    fn is_confirmed_since(self, since_ms: u64) -> bool {
        self.confirmed_at_ms > 0 && self.confirmed_at_ms >= since_ms
    }
}

impl Estimate {
    fn union(self, other: Self) -> Self {
        Self {
            life: self.life.union(other.life),
            ttl_ms: self.ttl_ms.zip(other.ttl_ms).map(|(own, others)| own.max(others)),
            // Of two clocks only lives without an end come together: the shift of their begin does not matter.
            clock: self.clock.filter(|_| self.clock == other.clock),
            offset_ms: self.offset_ms.filter(|_| self.clock == other.clock),
            ahead_ms: self.ahead_ms.max(other.ahead_ms),
        }
    }
}

impl Shifts {
    /// The shift of an estimate. One that never met Redis is corrected by the wall clock: from the offset that it assumed to the offset that Redis
    /// told last.
    fn of(&self, estimate: Estimate) -> Option<i64> {
        let by_last = || self.last.map(|last| last.told_ms.wrapping_sub(estimate.offset_ms.unwrap_or(last.before_ms)));
        // The shift of a clock is by its monotonic clock.
        let of_clock = |shift_ms: &i64| shift_ms.saturating_sub_unsigned(estimate.ahead_ms);
        self.by_clock.get(&estimate.clock?).map(of_clock).or_else(by_last)
    }
}

impl Lived {
    /// Cells with their notes, and the life as it was told if that is not the life of the record itself.
    pub(super) fn restored(
        record: Record,
        notes: BTreeMap<CellName, CellNote>,
        told: Option<Life>,
        estimate: Option<Estimate>,
    ) -> Self {
        let told = told.or_else(|| record.life().filter(|_| estimate.is_none()));
        Self { record, notes, told, estimate }
    }

    pub(super) fn record(&self) -> &Record {
        &self.record
    }

    pub(super) fn life(&self) -> Option<Life> {
        self.record.life()
    }

    pub(super) fn notes(&self) -> &BTreeMap<CellName, CellNote> {
        &self.notes
    }

    /// The life as Redis told it, if writes ask for another.
    pub(super) fn told_beside_estimate(&self) -> Option<Life> {
        self.told.filter(|_| self.estimate_beside_life().is_some())
    }

    pub(super) fn estimate(&self) -> Option<Estimate> {
        self.estimate
    }

    /// The estimate, unless the life says as much: one without an end is neither corrected nor bounded.
    pub(super) fn estimate_beside_life(&self) -> Option<Estimate> {
        self.estimate.filter(|estimate| estimate.life.has_end() || self.told.is_some_and(Life::has_end))
    }

    pub(super) fn is_pending(&self) -> bool {
        self.notes.values().any(|note| note.pending) || self.is_life_pending()
    }

    /// Whether Redis lacks cells that have a life.
    fn owes_cells(&self) -> bool {
        self.notes.iter().any(|(name, note)| note.pending && !name.is_tombstone())
    }

    /// Whether Redis lacks a part of the interval that writes asked for: it has to hear of that even if larger stamps than theirs
    /// stand in all of their cells (L1).
    fn is_life_pending(&self) -> bool {
        is_lacking(self.estimate, self.told)
    }

    /// Whether a write with this estimate begins another life: this one is over by then (L4), or the two are by different
    /// clocks, so that only Redis can tell whether they overlap.
    pub(super) fn is_apart_from(&self, estimate: Estimate) -> bool {
        let ends = self.life().filter(|life| life.has_end());
        ends.is_some_and(|life| {
            let (clock, ahead_ms) = self.estimate.map_or((None, 0), |held| (held.clock, held.ahead_ms));
            let is_by_another = clock != estimate.clock || ahead_ms.abs_diff(estimate.ahead_ms) > CLOCK_DOUBT_MS;
            life.is_over_at(estimate.life.begin_ms()) || is_by_another
        })
    }

    /// Takes its cells out, but for the tombstone and the times, which are the record's.
    pub(super) fn split_off(&mut self) -> Self {
        let record = self.record.split_off_life();
        let mut notes = std::mem::take(&mut self.notes);
        if let Some(note) = notes.remove(&CellName::tombstone()) {
            self.notes.insert(CellName::tombstone(), note);
        }
        Self { record, notes, told: self.told.take(), estimate: self.estimate.take() }
    }

    pub(super) fn join_times(&mut self, times: Times) {
        self.record.join_times(times);
    }

    /// These are the times, whatever they were.
    pub(super) fn yield_times(&mut self, times: Times) {
        self.record.times = times;
    }

    /// Takes in the cells of a write that Redis does not have, with the life that it asks for.
    pub(super) fn join_written(&mut self, written: &Record, estimate: Option<Estimate>) {
        let asked = self.estimate.into_iter().chain(estimate).reduce(Estimate::union);
        self.join(written, CellNote::PENDING, is_lacking(asked, self.told));
        if let Some(estimate) = estimate {
            self.extend_estimate(estimate);
        }
    }

    /// Takes in cells that Redis holds, by a reply to a request sent at `sent_at_ms`, with the life that it told.
    pub(super) fn join_told(&mut self, told: &Record, sent_at_ms: u64) {
        let life = self.told.into_iter().chain(told.life()).reduce(Life::union);
        self.join(told, CellNote::confirmed(sent_at_ms), is_lacking(self.estimate, life));
        if let Some(life) = told.life() {
            self.extend_told(life);
        }
    }

    /// Takes in cells. `asks` says whether Redis lacks a part of the interval that writes asked for.
    fn join(&mut self, other: &Record, note: CellNote, asks: bool) {
        self.record.join_times(other.times);
        let mut is_buried = false;
        for (name, cell) in other.cells() {
            let is_news = self.join_cell(name, cell, note, asks);
            is_buried |= is_news && name.is_tombstone();
        }
        if is_buried {
            self.drop_stray_notes();
        }
    }

    /// Says whether the cell won. Where one won over a pending one, it asks for the life that that one asked for (L1): if the
    /// life has ended in Redis meanwhile, the next would begin without it.
    fn join_cell(&mut self, name: &CellName, cell: &Cell, note: CellNote, asks: bool) -> bool {
        let before = self.notes.get(name).copied();
        let is_news = self.record.join_cell(name, cell);
        let held = self.record.cells().get(name);
        let won_over = if is_news { before } else { held.filter(|held| held.stamp > cell.stamp).map(|_| note) };
        if asks && won_over.is_some_and(CellNote::is_owed) && !name.is_tombstone() {
            self.notes.insert(name.clone(), CellNote::PENDING);
        } else if is_news {
            self.notes.insert(name.clone(), note);
        }
        is_news
    }

    /// Takes in what is held of a life that turned out to be the same.
    pub(super) fn absorb(&mut self, other: &Self) {
        let told = self.told.into_iter().chain(other.told).reduce(Life::union);
        let asked = self.estimate.into_iter().chain(other.estimate).reduce(Estimate::union);
        for (name, cell) in other.record.cells() {
            self.join_cell(name, cell, other.notes.get(name).copied().unwrap_or_default(), is_lacking(asked, told));
        }
        if let Some(told) = other.told {
            self.extend_told(told);
        }
        if let Some(estimate) = other.estimate {
            self.extend_estimate(estimate);
        }
    }

    /// Drops what a removal covers.
    pub(super) fn bury(&mut self, tombstone: &Cell) {
        self.record.join_cell(&CellName::tombstone(), tombstone);
        self.record.forget(&CellName::tombstone());
        self.drop_stray_notes();
    }

    pub(super) fn extend_told(&mut self, told: Life) {
        self.told = Some(self.told.map_or(told, |before| before.union(told)));
        self.refresh_life();
    }

    pub(super) fn replace_told(&mut self, told: Life) {
        self.told = Some(told);
        self.refresh_life();
    }

    pub(super) fn extend_estimate(&mut self, estimate: Estimate) {
        self.estimate = Some(self.estimate.map_or(estimate, |before| before.union(estimate)));
        self.refresh_life();
    }

    /// L3: corrects an estimate that was made before its author met Redis.
    pub(super) fn correct(&mut self, shifts: &Shifts) {
        let Some(estimate) = &mut self.estimate else { return };
        if let Some(by_ms) = shifts.of(*estimate) {
            estimate.life = estimate.life.shifted(by_ms);
            (estimate.clock, estimate.offset_ms, estimate.ahead_ms) = (None, None, 0);
            self.refresh_life();
        }
    }

    fn refresh_life(&mut self) {
        match self.sent_life().union() {
            Some(life) if self.record.existence().is_some() => self.record.set_life(life),
            _ => (self.told, self.estimate) = (None, None),
        }
    }

    fn sent_life(&self) -> SentLife {
        let estimated = self.estimate.map(|Estimate { life, ttl_ms, .. }| Estimated { life, ttl_ms });
        SentLife { told: self.told, estimated }
    }

    /// Whether Redis, which holds the record with this life or not at all, has deleted the life that it told: it was over at
    /// `now_ms`, and the present one, if any, is another. A life that goes on never begins later than it did, nor ends before it
    /// began. What writes of this instance ask for beyond that, Redis had not heard of.
    pub(super) fn has_expired(&self, present: Option<Life>, now_ms: u64) -> bool {
        let is_another =
            |told: Life| present.is_none_or(|present| present.begin_ms() > told.begin_ms() || present.is_before(told));
        self.told.is_some_and(|told| told.is_over_at(now_ms) && is_another(told))
    }

    /// Whether all of it was confirmed by requests that were sent before this moment of the instance's wall clock.
    pub(super) fn is_told_before(&self, sent_at_ms: u64) -> bool {
        self.notes.values().all(|note| !note.is_owed()) && !self.is_confirmed_at(sent_at_ms)
    }

    /// Whether some of it was confirmed by a request that was sent then or later.
    pub(super) fn is_confirmed_at(&self, sent_at_ms: u64) -> bool {
        self.notes.values().any(|note| note.confirmed_at_ms >= sent_at_ms)
    }

    /// Drops the cells that Redis has confirmed, but for those that it shows: their life is over (L5).
    pub(super) fn drop_confirmed(&mut self, shown: &Record) {
        let confirmed = self.notes.iter().filter(|(name, note)| {
            let shown = shown.cells().get(*name).is_some_and(|shown| self.record.cells().get(*name) == Some(shown));
            !note.pending && !name.is_tombstone() && !shown
        });
        let keep_existence = self.owes_cells();
        for name in confirmed.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            // What is sent carries its life, in the existence cell.
            if !(keep_existence && name.is_existence()) {
                self.forget(&name);
            }
        }
        self.told = None;
        self.refresh_life();
    }

    pub(super) fn forget(&mut self, name: &CellName) {
        self.record.forget(name);
        self.notes.remove(name);
        if name.is_existence() {
            (self.told, self.estimate) = (None, None);
        }
    }

    fn drop_stray_notes(&mut self) {
        let cells = self.record.cells();
        self.notes.retain(|name, _| cells.contains_key(name));
        if self.record.existence().is_none() {
            (self.told, self.estimate) = (None, None);
        }
    }

    /// A reply to a request sent then covers these cells. One held already is confirmed anew only if its note is older than
    /// `stale_ms`: a read that tells nothing new should not write to the disk.
    pub(super) fn confirm(&mut self, confirmed: &Record, sent_at_ms: u64, stale_ms: u64) {
        let asks = self.is_life_pending();
        for (name, cell) in confirmed.cells() {
            // Not a tombstone: readers that confirm it to each other, and publish it again when Redis has forgotten it,
            // would keep it for ever. Not a cell that asks for a life which Redis lacks: it stays owed.
            if !name.is_tombstone()
                && let Some(note) = self.notes.get_mut(name)
                && !(asks && note.is_owed())
                && note.confirmed_at_ms.saturating_add(stale_ms) < sent_at_ms
                && self.record.cells().get(name) == Some(cell)
            {
                note.confirmed_at_ms = sent_at_ms;
            }
        }
    }

    /// R5: of `asked`, what was held when Redis was asked, it lacks these cells. See
    /// [`Held::take_reply`](super::Held::take_reply).
    pub(super) fn reclaim(&mut self, asked: &Record, reply: &Record, since_ms: u64, behind_replay: bool) -> Reclaimed {
        let mut reclaimed = Reclaimed::default();
        let newest_ms = self.notes.values().map(|note| note.confirmed_at_ms).max().unwrap_or(0);
        for (name, cell) in asked.cells().iter().filter(|(name, cell)| !reply.covers_cell(name, cell)) {
            let Some(note) = self.notes.get_mut(name) else { continue };
            if note.pending {
                reclaimed.marked |= behind_replay;
                continue;
            }
            // A newer one came meanwhile (R7).
            if self.record.cells().get(name) != Some(cell) {
                continue;
            }
            // The existence cell is as young as any: without it the others have no life.
            let confirmed = if name.is_existence() { CellNote::confirmed(newest_ms) } else { *note };
            if confirmed.is_confirmed_since(since_ms) {
                note.pending = true;
                (reclaimed.marked, reclaimed.published_again) = (true, true);
            } else {
                reclaimed.yielded = true;
                self.forget(name);
            }
        }
        reclaimed
    }

    /// R6: every copy confirmed since then is pending again (R9). Says whether anything is pending.
    pub(super) fn reclaim_all(&mut self, since_ms: u64) -> bool {
        for note in self.notes.values_mut() {
            note.pending |= note.is_confirmed_since(since_ms);
        }
        self.is_pending()
    }

    /// The pending cells, with the existence cell if they have a life; in two parts where the life that Redis told is over at
    /// `now_ms`: what is published again has that life (L5), what was written since has its own.
    pub(super) fn to_send(&self, now_ms: u64) -> Vec<(Record, SentLife)> {
        let SentLife { told, estimated } = self.sent_life();
        match (told, estimated) {
            (Some(over), Some(_)) if over.is_over_at(now_ms) => {
                let parts = [(true, SentLife { told, estimated: None }), (false, SentLife { told: None, estimated })];
                let parts = parts.map(|(again, life)| {
                    self.pending_cells(life, |name, note| name.is_tombstone() || note.is_owed() != again)
                });
                parts.into_iter().filter(|(record, _)| !record.cells().is_empty()).collect()
            }
            _ => vec![self.pending_cells(self.sent_life(), |_, _| true)],
        }
    }

    fn pending_cells(&self, life: SentLife, of: impl Fn(&CellName, CellNote) -> bool) -> (Record, SentLife) {
        let mut record = Record::default();
        for (name, cell) in self.record.cells() {
            if self.notes.get(name).is_some_and(|note| note.pending && of(name, *note)) {
                record.join_cell(name, cell);
            }
        }
        let has_living = record.cells().keys().any(|name| !name.is_tombstone());
        let asks = life.estimated.is_some() && self.is_life_pending();
        let (Some(existence), Some(sent), true) = (self.record.existence(), life.union(), has_living || asks) else {
            return (record, SentLife::default());
        };
        // The existence cell comes along with any other: it carries the life.
        record.join_cell(&CellName::existence(), existence);
        record.set_life(sent);
        (record, life)
    }

    /// Whether the cells of `sent` that have a life are these.
    pub(super) fn holds(&self, sent: &Record) -> bool {
        let mut living = sent.cells().iter().filter(|(name, _)| !name.is_tombstone()).peekable();
        living.peek().is_some() && living.all(|(name, cell)| self.record.cells().get(name) == Some(cell))
    }

    /// As [`Self::acknowledge`], of the tombstone alone.
    pub(super) fn acknowledge_removal(&mut self, sent: &Record, sent_at_ms: u64) {
        if let Some(tombstone) = sent.cells().get(&CellName::tombstone()) {
            self.acknowledge(&Record::tombstone(tombstone.stamp), sent_at_ms);
        }
    }

    /// R8: Redis acknowledged `sent`: pending cells of it that are not above it are confirmed.
    pub(super) fn acknowledge(&mut self, sent: &Record, sent_at_ms: u64) {
        for (name, note) in &mut self.notes {
            let cell = &self.record.cells()[name];
            if note.pending && sent.cells().get(name).is_some_and(|sent| sent.stamp >= cell.stamp) {
                *note = CellNote::confirmed(sent_at_ms);
            }
        }
    }

    /// Redis holds what was sent of it, with this life, as part of the present one. If the answer to a later request was taken in
    /// before, that one's life was longer.
    pub(super) fn settle(&mut self, sent: SentLife, present: Life, is_overtaken: bool) {
        let owes = self.owes_cells();
        let heard =
            sent.estimated.is_some_and(|sent| self.estimate.is_none_or(|estimate| sent.life.contains(estimate.life)));
        if heard && !owes {
            self.estimate = None;
        }
        if is_overtaken {
            self.extend_told(present);
        } else {
            self.replace_told(present);
        }
    }

    /// R5: the life in a reply ends before the one that Redis had told when it was asked: its extension was lost, and is to be
    /// published again, unless it was confirmed too long ago (R9). A life never shrinks otherwise, but for a removal.
    pub(super) fn lacks_life(&self, asked: &Self, reply: &Record, since_ms: u64) -> bool {
        // One that had not been seen: the life told before it may be that of what it ended.
        let removed = reply
            .cells()
            .get(&CellName::tombstone())
            .is_some_and(|removal| !asked.record.covers_cell(&CellName::tombstone(), removal));
        let lacks = asked.told.zip(reply.life()).is_some_and(|(asked, reply)| {
            asked.overlaps(reply)
                && reply.end_ms() < asked.end_ms()
                && self.told.is_some_and(|told| told.contains(asked))
        });
        let mut living = self.notes.iter().filter(|(name, _)| !name.is_tombstone());
        lacks && !removed && living.any(|(_, note)| note.is_confirmed_since(since_ms))
    }

    /// Marks this life to be published again, since Redis lacks a part of it. Says whether a cell was marked. Call it after the reply is joined in:
    /// another write may have outdone all cells that were held, and its cells bring the life then.
    pub(super) fn reclaim_life(&mut self) -> bool {
        let mut marked = false;
        // All of it: if the life has ended in Redis meanwhile, its existence alone would begin an empty record.
        let notes = self.notes.iter_mut().filter(|(name, _)| !name.is_tombstone());
        for (_, note) in notes.filter(|(_, note)| !note.pending) {
            (note.pending, marked) = (true, true);
        }
        marked
    }

    /// Redis did not take in all of `sent`, and has no more of it than it told.
    pub(super) fn drop_outdone(&mut self, sent: &Record, told: &Record) {
        // Pending cells are sent with their life, in the existence cell.
        let keep_existence = self.owes_cells();
        let lacking = sent.cells().iter().filter(|(name, cell)| !told.covers_cell(name, cell));
        for (name, cell) in lacking.filter(|(name, _)| !(keep_existence && name.is_existence())) {
            if self.record.cells().get(name) == Some(cell) && !self.notes.get(name).is_some_and(|note| note.pending) {
                self.forget(name);
            }
        }
    }
}

/// Whether the life that Redis told lacks a part of the life that was asked for.
fn is_lacking(asked: Option<Estimate>, told: Option<Life>) -> bool {
    asked.is_some_and(|asked| told.is_none_or(|told| !told.contains(asked.life)))
}

impl Reclaimed {
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            published_again: self.published_again || other.published_again,
            yielded: self.yielded || other.yielded,
            marked: self.marked || other.marked,
        }
    }
}
