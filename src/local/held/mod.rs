//! What the local tier holds of one record: its lives, which of their cells Redis does not have yet, and how long ago each was
//! seen there. Almost always there is one life. A write after its estimated end begins another, and the one before is kept
//! apart until Redis has said which of them are over (L4).

use std::borrow::Cow;

use super::lived::{CellNote, Estimate, Lived, Reclaimed, Shifts};
use crate::{
    record::{Cell, CellName, Life, Merged, Record, SentLife},
    stamp::Stamp,
};

/// A record with the notes that decide what is sent to Redis.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// The latest life, with the tombstone and the times of the record.
    pub(super) latest: Lived,
    /// Those before it that Redis has not said are over, oldest first.
    pub(super) earlier: Vec<Lived>,
    /// Whether Redis lacks the times of the record.
    pub(super) times_pending: bool,
    /// How often cells were marked pending again. An acknowledgement clears only what was sent after the last (R8).
    pub(super) marked: u64,
    /// Whether the instance may have held more of the record, and forgotten it.
    pub(super) partial: bool,
}

/// When Redis was asked, and what else decides what its reply means.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asking {
    /// By this instance's wall clock, in milliseconds.
    pub(crate) sent_at_ms: u64,
    /// A replay of the record was under way when Redis was asked. Redis executed that first, so what it lacks all the same was
    /// lost since, and the acknowledgement that is still to come clears nothing (R8).
    pub(crate) behind_replay: bool,
    /// Redis's clock by the estimate, in milliseconds.
    pub(crate) now_ms: u64,
    /// A life that ended by then and is not in Redis was not lost there. By the monotonic clock, ahead by the longest that a reply
    /// takes: so far can the estimate be behind. The wall clock may have gone further and be wrong: a life that is over by that clock
    /// alone is published again, and Redis decides.
    pub(crate) ended_by_ms: u64,
    /// Copies confirmed since then are published again; older ones yield to Redis (R9).
    pub(crate) republish_since_ms: u64,
    /// See [`Lived::confirm`].
    pub(crate) stale_ms: u64,
}

/// What was sent to Redis, to be matched with its acknowledgement.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) record: Record,
    pub(crate) life: SentLife,
    marked: u64,
}

/// Bytes of a record, in cells that Redis never acknowledged, and in the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Weight {
    pub(super) owed: u32,
    pub(super) copied: u32,
}

impl Held {
    /// Nothing yet of a record that the instance may have held before.
    pub(super) fn forgotten() -> Self {
        Self { partial: true, ..Self::default() }
    }

    /// The latest life, with the tombstone and the times.
    pub(crate) fn record(&self) -> &Record {
        self.latest.record()
    }

    /// The record at this time of Redis's clock: the latest life, joined with those before it that are the same as far as can
    /// be told without Redis.
    pub(crate) fn shown_at(&self, now_ms: u64) -> Cow<'_, Record> {
        let mut shown = Cow::Borrowed(self.record());
        for earlier in self.earlier.iter().rev() {
            let same = match (shown.life(), earlier.life()) {
                (Some(shown), Some(life)) if shown.overlaps(life) => true,
                (_, Some(life)) => !life.is_over_at(now_ms),
                (_, None) => false,
            };
            if same {
                shown.to_mut().join(earlier.record());
            }
        }
        shown
    }

    /// Until when there is something to show, in milliseconds of Redis's clock; zero if there is nothing.
    pub(crate) fn alive_until_ms(&self) -> u64 {
        self.lives().map(|life| life.record().alive_until_ms()).max().unwrap_or(0)
    }

    /// The largest stamp in it.
    pub(crate) fn newest(&self) -> Option<Stamp> {
        self.lives().filter_map(|life| life.record().newest()).max()
    }

    /// Whether the instance may have held more of the record, and forgotten it: what is held here alone could go back
    /// behind what was read before.
    pub(crate) fn is_partial(&self) -> bool {
        self.partial
    }

    /// Whether nothing is held that would be missed.
    pub(super) fn is_blank(&self) -> bool {
        self.record().is_empty() && self.earlier.is_empty()
    }

    /// Whether it holds a write that Redis never acknowledged. What is merely published again does not count.
    pub(super) fn is_owed(&self) -> bool {
        self.notes().any(|(_, note)| note.is_owed())
    }

    /// About how many bytes it takes on disk.
    pub(super) fn weight(&self) -> Weight {
        const PER_LIFE: usize = 120;
        const PER_CELL: usize = 60;
        let mut weight = Weight::default();
        for life in self.lives() {
            let (mut owed, mut copied) = (0, 0);
            for (name, cell) in life.record().cells() {
                let bytes = PER_CELL + 2 * name.field().len() + cell.value.as_deref().map_or(0, str::len);
                let is_owed = life.notes().get(name).is_some_and(|note| note.is_owed());
                *(if is_owed { &mut owed } else { &mut copied }) += bytes;
            }
            *(if owed > 0 { &mut owed } else { &mut copied }) += PER_LIFE;
            let bytes = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
            weight.owed = weight.owed.saturating_add(bytes(owed));
            weight.copied = weight.copied.saturating_add(bytes(copied));
        }
        weight
    }

    /// When Redis last confirmed any cell of it; zero if never.
    pub(super) fn newest_confirmed_ms(&self) -> u64 {
        self.notes().map(|(_, note)| note.confirmed_at_ms).max().unwrap_or(0)
    }

    /// Whether Redis lacks something of it.
    pub(crate) fn is_pending(&self) -> bool {
        self.times_pending || self.lives().any(Lived::is_pending)
    }

    /// Takes in a write that Redis does not have: pending until it is acknowledged. An upsert comes with the life that it asks
    /// for; one after the estimated end of the latest life begins another, which shows none of the cells before it. Whether that
    /// life is over is for Redis to say: it is kept (L2).
    pub(crate) fn join_pending(&mut self, written: &Record, estimate: Option<Estimate>) {
        if let Some(tombstone) = written.cells().get(&CellName::tombstone()) {
            // Whatever it was, it is removed: nothing is missing here.
            self.partial = false;
            self.bury_earlier(tombstone);
        }
        if let Some(estimate) = estimate
            && self.latest.is_apart_from(estimate)
        {
            self.leave_latest();
        }
        self.times_pending |= !self.record().times.covers(written.times);
        if let Some(estimate) = estimate
            && self.latest.life().is_some_and(|latest| estimate.life.is_before(latest))
        {
            return self.join_before(written, estimate);
        }
        self.latest.join_written(written, estimate);
    }

    /// Takes in a write that was stamped long ago, and given up only now: a life has begun since its own was over.
    fn join_before(&mut self, written: &Record, estimate: Estimate) {
        let mut before = Lived::default();
        before.join_written(written, Some(estimate));
        if let Some(tombstone) = self.record().cells().get(&CellName::tombstone()) {
            before.bury(tombstone);
        }
        self.latest.join_times(written.times);
        self.earlier.push(before);
        self.drop_empty();
    }

    /// Takes in cells that Redis holds since a write, with the life that it told. Copies of a life that ended before are dropped
    /// (L5): a pending write that overlaps both lives would carry them over.
    pub(crate) fn join_placed(&mut self, placed: &Record, asking: Asking) {
        if placed.life().is_some() {
            self.drop_expired(placed, asking.ended_by_ms);
        }
        self.join_confirmed(placed, asking.sent_at_ms, asking.stale_ms);
    }

    /// Takes in cells that Redis holds, by a reply to a request sent at `sent_at_ms`, with the life that it told.
    pub(super) fn join_confirmed(&mut self, confirmed: &Record, sent_at_ms: u64, stale_ms: u64) {
        if let Some(life) = confirmed.life() {
            self.enter(life);
        }
        // Asked before the removal is joined in: this very request confirms it.
        let (is_overtaken, is_told_before) =
            (self.latest.is_confirmed_at(sent_at_ms), self.latest.is_told_before(sent_at_ms));
        if let Some(tombstone) = confirmed.cells().get(&CellName::tombstone()) {
            let is_news = !self.record().covers_cell(&CellName::tombstone(), tombstone);
            self.bury_earlier(tombstone);
            self.latest.join_told(&Record::tombstone(tombstone.stamp), sent_at_ms);
            if let Some(life) = confirmed.life().filter(|_| is_news && !is_overtaken) {
                // The life told before may be the one that the removal ended.
                self.latest.replace_told(life);
            }
        }
        if self.is_latest_after(confirmed.life()) {
            if !is_told_before {
                // A reply that was overtaken: its cells are of a life before.
                return;
            }
            // Redis's clock was set back, and the life that it told then is no more.
            self.leave_latest();
        }
        self.latest.join_told(confirmed, sent_at_ms);
        self.latest.confirm(confirmed, sent_at_ms, stale_ms);
    }

    /// L5: Redis holds this life of the record. Copies of those that ended before it are dropped, what overlaps it is the same.
    fn enter(&mut self, life: Life) {
        if self.latest.life().is_some_and(|latest| latest.is_before(life)) {
            self.leave_latest();
        }
        if self.earlier.is_empty() {
            return;
        }
        for mut earlier in std::mem::take(&mut self.earlier) {
            match earlier.life() {
                Some(held) if held.is_before(life) => {
                    earlier.drop_confirmed(&Record::default());
                    if !earlier.record().cells().is_empty() {
                        self.earlier.push(earlier);
                    }
                }
                Some(held) if held.overlaps(life) && self.latest.life().is_none_or(|latest| latest.overlaps(life)) => {
                    self.latest.absorb(&earlier);
                }
                Some(_) => self.earlier.push(earlier),
                None => {}
            }
        }
    }

    /// Whether this life was over before the latest one began.
    fn is_latest_after(&self, life: Option<Life>) -> bool {
        self.latest.life().zip(life).is_some_and(|(latest, life)| life.is_before(latest))
    }

    /// The latest life becomes one of the earlier ones.
    fn leave_latest(&mut self) {
        let left = self.latest.split_off();
        if left.life().is_some() {
            self.earlier.push(left);
        }
    }

    fn bury_earlier(&mut self, tombstone: &Cell) {
        for earlier in &mut self.earlier {
            earlier.bury(tombstone);
        }
        self.drop_empty();
    }

    /// L3: corrects what was estimated before its author met Redis.
    pub(crate) fn correct(&mut self, shifts: &Shifts) {
        for life in self.earlier.iter_mut().chain([&mut self.latest]) {
            life.correct(shifts);
        }
    }

    /// Whether [`Self::correct`] may change something.
    pub(crate) fn is_provisional(&self) -> bool {
        self.lives().any(|life| life.estimate().is_some_and(|estimate| estimate.clock.is_some()))
    }

    /// Takes in all that Redis holds of the record.
    ///
    /// R5: if that lacks something of `asked`, what was held when it was asked, the excess becomes pending again if it was
    /// confirmed lately; an older copy yields to Redis (R9). L5: copies of a life that is over are dropped instead.
    pub(crate) fn take_reply(&mut self, asked: &Self, reply: &Record, asking: Asking) -> Reclaimed {
        let is_overtaken = self.latest.life() != asked.latest.life();
        // A life that ended a moment ago in Redis was not lost there.
        self.drop_expired(reply, asking.ended_by_ms);
        if let Some(life) = reply.life() {
            self.enter(life);
        }
        let mut reclaimed = Reclaimed::default();
        // Also of a removed record: its times show again with the next upsert.
        let lacks_times = !reply.times.covers(asked.record().times) && !self.times_pending;
        let times_yield = lacks_times && asked.newest_confirmed_ms() < asking.republish_since_ms;
        if lacks_times && !times_yield {
            (self.times_pending, reclaimed.marked) = (true, true);
        }
        for life in self.earlier.iter_mut().chain([&mut self.latest]) {
            for asked in asked.lives() {
                let since_ms = asking.republish_since_ms;
                reclaimed = reclaimed.and(life.reclaim(asked.record(), reply, since_ms, asking.behind_replay));
            }
        }
        let lacks_life = self.latest.lacks_life(&asked.latest, reply, asking.republish_since_ms);
        // R9: times have no age of their own, so they are as old as the cells. They stay if anything is pending, or newer.
        if times_yield && !self.is_pending() && self.record().times == asked.record().times {
            self.latest.yield_times(reply.times);
        }
        self.drop_empty();
        let is_empty = self.record().cells().is_empty() && self.earlier.is_empty();
        if is_empty {
            *self = Self::default();
        }
        if !is_overtaken && self.is_latest_after(reply.life()) {
            // Redis's clock was set back: the life that it tells now stands beside those told and estimated before.
            self.leave_latest();
        }
        self.join_confirmed(reply, asking.sent_at_ms, asking.stale_ms);
        reclaimed.marked |= lacks_life && self.latest.reclaim_life();
        self.marked += u64::from(reclaimed.marked && !is_empty);
        if let Some(life) = reply.life()
            && !self.is_pending()
            && reply.covers(self.record())
        {
            self.latest.replace_told(life);
        }
        // All that Redis holds of the record was joined in.
        self.partial = false;
        reclaimed
    }

    /// Redis holds this of the record: copies of lives that it has deleted have expired.
    fn drop_expired(&mut self, present: &Record, now_ms: u64) {
        for life in self.earlier.iter_mut().chain([&mut self.latest]) {
            if life.has_expired(present.life(), now_ms) {
                life.drop_confirmed(present);
            }
        }
        self.drop_empty();
    }

    /// R6: Redis lost its data. Every copy confirmed after `republish_since_ms` is pending again (R9).
    pub(crate) fn reclaim_all(&mut self, republish_since_ms: u64) {
        for life in self.earlier.iter_mut().chain([&mut self.latest]) {
            self.times_pending |= life.reclaim_all(republish_since_ms);
        }
        self.marked += 1;
    }

    /// Until when a reply of Redis to a request sent by then, equal to what is held, changes nothing; none if any would.
    pub(crate) fn settled_until_ms(&self, stale_ms: u64) -> Option<u64> {
        let living = self.latest.notes().iter().filter(|(name, _)| !name.is_tombstone());
        let until_ms = living.map(|(_, note)| note.confirmed_at_ms.saturating_add(stale_ms)).min();
        (!self.is_pending() && !self.partial && self.earlier.is_empty()).then(|| until_ms.unwrap_or(u64::MAX))
    }

    /// When the cell that was confirmed longest ago was; none if there is no cell but a tombstone.
    pub(crate) fn oldest_confirmed_ms(&self) -> Option<u64> {
        let notes = self.notes().filter(|(name, note)| !name.is_tombstone() && !note.pending);
        notes.map(|(_, note)| note.confirmed_at_ms).min()
    }

    /// When Redis confirmed the cell that it confirmed longest ago; now, if all of it was written here and is pending.
    /// None if nothing is held, or something of unknown age.
    pub(crate) fn confirmed_ms(&self) -> Option<u64> {
        let ages = self.notes().map(|(_, note)| if note.pending { u64::MAX } else { note.confirmed_at_ms });
        ages.min().filter(|age| *age > 0)
    }

    /// What to send, oldest life first: the pending cells and, with them, the times. A removal goes with the first: it covers
    /// by its stamp, and nothing of a life that it ended may come to live on as part of the next.
    pub(crate) fn to_send(&self, now_ms: u64) -> Vec<Sent> {
        let tombstone = CellName::tombstone();
        let removal = self.record().cells().get(&tombstone).filter(|_| self.latest.notes()[&tombstone].pending);
        let mut all = Vec::new();
        for life in self.earlier.iter().filter(|life| life.is_pending()) {
            for (mut record, life) in life.to_send(now_ms) {
                if let Some(removal) = removal {
                    record.join_cell(&tombstone, removal);
                }
                all.push((record, life));
            }
        }
        for (latest, life) in self.latest.to_send(now_ms) {
            if all.is_empty() || !latest.cells().is_empty() {
                all.push((latest, life));
            }
        }
        let sent = |(mut record, life): (Record, SentLife)| {
            record.join_times(self.record().times);
            Sent { record, life, marked: self.marked }
        };
        all.into_iter().map(sent).collect()
    }

    /// R8: Redis merged `sent`. A pending cell is cleared only if its stamp is not above the one sent and nothing was marked
    /// pending again since. What Redis did not take in, because something larger or later stands there, is dropped.
    pub(crate) fn acknowledge(&mut self, sent: &Sent, merged: &Merged, asking: Asking) {
        let (Merged::Applied(told) | Merged::Outdone(told)) = merged else { return };
        if self.marked == sent.marked {
            self.times_pending &= !sent.record.times.covers(self.record().times);
            // The removal, at least, is the latest's.
            self.latest.acknowledge_removal(&sent.record, asking.sent_at_ms);
            let of_earlier = self.earlier.iter_mut().find(|earlier| earlier.holds(&sent.record));
            let acknowledged = of_earlier.unwrap_or(&mut self.latest);
            let applied = matches!(merged, Merged::Applied(_));
            let present = told.life().or_else(|| sent.life.union().filter(|_| applied));
            if acknowledged.has_expired(present, asking.ended_by_ms) {
                acknowledged.drop_confirmed(if applied { &sent.record } else { told });
            }
            let is_overtaken = acknowledged.is_confirmed_at(asking.sent_at_ms);
            acknowledged.acknowledge(&sent.record, asking.sent_at_ms);
            // Redis may hold no life because of a removal: that is not the end of this one.
            let over = sent.life.union().is_some_and(|sent| {
                present.map_or_else(|| sent.is_over_at(asking.now_ms), |present| sent.is_before(present))
            });
            if over {
                // So are the copies beside it.
                acknowledged.drop_confirmed(told);
            } else if let Some(present) = present {
                acknowledged.settle(sent.life, present, is_overtaken);
            }
            if !applied {
                acknowledged.drop_outdone(&sent.record, told);
            }
            self.drop_empty();
        }
        let mut confirmed = told.clone();
        if let (Merged::Applied(_), None, Some(life)) = (merged, told.life(), sent.life.union()) {
            // Nothing else was to be told: it lives as it was sent.
            confirmed.join(&sent.record);
            confirmed.set_life(life);
        }
        self.join_placed(&confirmed, asking);
    }

    fn drop_empty(&mut self) {
        self.earlier.retain(|earlier| !earlier.record().cells().is_empty());
    }

    fn lives(&self) -> impl Iterator<Item = &Lived> {
        self.earlier.iter().chain([&self.latest])
    }

    fn notes(&self) -> impl Iterator<Item = (&CellName, &CellNote)> {
        self.lives().flat_map(Lived::notes)
    }
}

#[cfg(test)]
mod tests;
