//! What an instance holds of the record: its lives, what of them Redis does not have yet, and the tombstone. It survives a
//! crash, as far as it was synced.

use crate::{
    interval::{Interval, Time, union},
    redis::{CELLS, Cells, EXISTENCE, Merge, MergeMode, ModelStamp, ScriptReply, Whole},
    rules::{Bounds, BrokenRule},
};

/// A cell, or the tombstone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct HeldCell {
    /// Zero if there is none.
    pub stamp: ModelStamp,
    /// Whether it is to be sent.
    pub pending: bool,
    /// When the last request was sent whose reply covered it (R9).
    pub confirmed_at: Time,
}

/// One life of the record, as far as it is held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ModelLife {
    /// Its cells.
    pub cells: [HeldCell; CELLS],
    /// The interval that Redis told.
    pub told: Option<Interval>,
    /// The interval that writes ask for which Redis has not acknowledged.
    pub written: Option<Interval>,
    /// Which process estimated it that had not met Redis yet (L3).
    pub provisional: Option<u8>,
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Store {
    /// The lives that are not known to be over, oldest first. The last is the current one.
    pub lives: Vec<ModelLife>,
    /// Of the last removal that was seen.
    pub tombstone: HeldCell,
}

/// When Redis was asked, and the clock of the moment.
#[derive(Clone, Copy, Debug)]
pub struct AskedWhen<'a> {
    /// What was held then (R7).
    pub asked: &'a Store,
    /// When that was.
    pub sent_at: Time,
    /// Redis's clock by the estimate, now.
    pub now: Time,
    /// A replay was under way, so that what Redis lacks was lost since (R8).
    pub behind_replay: bool,
}

impl HeldCell {
    const fn confirmed(stamp: ModelStamp, confirmed_at: Time) -> Self {
        Self { stamp, pending: false, confirmed_at }
    }

    const fn pending(stamp: ModelStamp) -> Self {
        Self { stamp, pending: true, confirmed_at: 0 }
    }

    /// R5, R9: Redis lacks the copy. It is published again if it is young, and else dropped.
    fn reclaim(&mut self, bounds: &Bounds, now: Time) -> bool {
        let young = self.is_young(bounds, now);
        if young && !bounds.has(BrokenRule::NotReclaimed) {
            self.pending = true;
        } else {
            *self = Self::default();
        }
        young
    }

    fn is_young(self, bounds: &Bounds, now: Time) -> bool {
        self.confirmed_at + bounds.republish_within > now
    }
}

impl ModelLife {
    /// From when until when it lives, as far as is known.
    pub fn interval(&self) -> Option<Interval> {
        union(self.told, self.written)
    }

    fn is_empty(&self) -> bool {
        self.cells.iter().all(|cell| cell.stamp == 0)
    }

    fn is_pending(&self) -> bool {
        self.cells.iter().any(|cell| cell.pending)
    }

    /// What of it is sent. The existence goes along: it carries the life.
    fn pending(&self) -> Cells {
        let mut pending = self.cells.map(|cell| if cell.pending { cell.stamp } else { 0 });
        pending[EXISTENCE] = self.cells[EXISTENCE].stamp;
        pending
    }

    /// What asks for a life that Redis lacks stays pending, whatever its cells: an upsert extends the life even if others
    /// have won over all of it (L1), and an interval that Redis has lost is excess like a cell (R5, R9).
    fn compare(&mut self, bounds: &Bounds, present: Interval, now: Time) {
        let lacks = |interval: Option<Interval>| interval.is_some_and(|interval| !present.contains(interval));
        if lacks(self.written) && !bounds.has(BrokenRule::OutdoneNotAsked) {
            self.cells[EXISTENCE].pending = true;
        }
        if lacks(self.told) && !bounds.has(BrokenRule::IntervalNotReclaimed) {
            // As a whole: if the life has ended in Redis meanwhile, its existence alone would begin an empty record.
            for cell in self.cells.iter_mut().filter(|cell| cell.stamp > 0 && cell.is_young(bounds, now)) {
                cell.pending = true;
            }
        }
        if !self.is_pending() {
            (self.told, self.written) = (Some(present), None);
        }
    }

    fn bury(&mut self, tombstone: ModelStamp) {
        for cell in &mut self.cells {
            if cell.stamp <= tombstone {
                *cell = HeldCell::default();
            }
        }
    }

    /// L5: its copies are of a life that is over. What is pending waits for the word of Redis.
    fn drop_copies(&mut self) {
        let existence = self.cells[EXISTENCE];
        for cell in &mut self.cells {
            if !cell.pending {
                *cell = HeldCell::default();
            }
        }
        if self.is_pending() {
            self.cells[EXISTENCE] = existence;
        }
    }

    fn absorb(&mut self, other: &Self) {
        for (cell, others) in self.cells.iter_mut().zip(other.cells) {
            // L1: the winner asks for the life that either asked for.
            let pending = cell.pending || (others.pending && others.stamp > 0);
            if others.stamp > cell.stamp {
                *cell = others;
            }
            cell.pending = pending;
        }
        self.told = union(self.told, other.told);
        self.written = union(self.written, other.written);
    }
}

impl Store {
    /// Whether Redis lacks something of it.
    pub fn is_pending(&self) -> bool {
        self.tombstone.pending || self.lives.iter().any(ModelLife::is_pending)
    }

    /// The largest stamp in it.
    pub fn newest(&self) -> ModelStamp {
        let cells = self.lives.iter().flat_map(|life| life.cells.iter().map(|cell| cell.stamp));
        cells.max().unwrap_or_default().max(self.tombstone.stamp)
    }

    /// What a local read shows: the latest life that is not over by the estimate, joined with those before it that overlap it.
    pub fn shown_at(&self, now: Time) -> Cells {
        let mut shown: Option<ModelLife> = None;
        for life in self.lives.iter().rev() {
            let Some(interval) = life.interval() else { continue };
            match &mut shown {
                Some(shown) if shown.interval().is_some_and(|shown| shown.overlaps(interval)) => shown.absorb(life),
                Some(shown) if !interval.is_over_at(now) => shown.absorb(life),
                None if !interval.is_over_at(now) => shown = Some(*life),
                _ => {}
            }
        }
        shown.map_or(Cells::default(), |life| life.cells.map(|cell| cell.stamp))
    }

    /// Takes in an upsert that Redis does not have. `clock` is of a process that has not met Redis yet.
    pub fn upsert(&mut self, bounds: &Bounds, cell: usize, stamp: ModelStamp, life: Interval, clock: Option<u8>) {
        let apart = self.lives.last().is_some_and(|last| {
            let ended = last.interval().is_some_and(|last| last.end <= life.begin);
            let later = last.interval().is_some_and(|last| life.is_before(last));
            let late = later && !bounds.has(BrokenRule::LateWriteJoined);
            ended || late || (last.provisional != clock && !bounds.has(BrokenRule::ProvisionalJoined))
        });
        if self.lives.is_empty() || (apart && !bounds.has(BrokenRule::LivesInOne)) {
            if bounds.has(BrokenRule::PendingForgotten) {
                self.lives.clear();
            }
            // One that was made before the present life began belongs before it.
            let later = |held: &ModelLife| {
                held.provisional == clock && held.interval().is_some_and(|held| life.is_before(held))
            };
            let at = self.lives.iter().position(later).unwrap_or(self.lives.len());
            let at = if bounds.has(BrokenRule::LateWriteJoined) { self.lives.len() } else { at };
            self.lives.insert(at, ModelLife { provisional: clock, ..ModelLife::default() });
            return self.lives[at].upsert(cell, stamp, life);
        }
        if let Some(last) = self.lives.last_mut() {
            last.upsert(cell, stamp, life);
        }
    }

    /// Takes in a removal that Redis does not have.
    pub fn remove(&mut self, stamp: ModelStamp) {
        self.bury(HeldCell::pending(stamp));
    }

    fn bury(&mut self, tombstone: HeldCell) {
        if tombstone.stamp > self.tombstone.stamp {
            self.tombstone = tombstone;
        }
        for life in &mut self.lives {
            life.bury(tombstone.stamp);
        }
        self.drop_empty();
    }

    fn drop_empty(&mut self) {
        self.lives.retain(|life| !life.is_empty());
    }

    /// L3: the clock of the process was so much behind Redis's, before it met it.
    pub fn correct(&mut self, by: Time) {
        for life in self.lives.iter_mut().filter(|life| life.provisional.is_some()) {
            life.written = life.written.map(|written| written.shifted(by));
            life.provisional = None;
        }
    }

    /// What to send, oldest life first, each with its interval. A removal goes with the first.
    pub fn to_send(&self, bounds: &Bounds, now: Time) -> Vec<Merge> {
        let mut tombstone = if self.tombstone.pending { self.tombstone.stamp } else { 0 };
        let mut all = Vec::new();
        for life in self.lives.iter().filter(|life| life.is_pending()) {
            let sending = Interval::from_now(now, bounds.ttl);
            let written = if bounds.has(BrokenRule::IntervalOfSending) { Some(sending) } else { life.written };
            all.push(Merge { mode: MergeMode::Each, cells: life.pending(), tombstone, told: life.told, written });
            tombstone = 0;
        }
        if all.is_empty() && tombstone > 0 {
            all.push(Merge { mode: MergeMode::Each, cells: Cells::default(), tombstone, told: None, written: None });
        }
        all
    }

    /// L5: Redis holds this life. Copies of those that ended before it are dropped, those that overlap it are the same life.
    fn enter(&mut self, bounds: &Bounds, present: Interval) {
        let mut same: Option<ModelLife> = None;
        let mut lives = Vec::with_capacity(self.lives.len() + 1);
        let mut later = Vec::new();
        for mut life in std::mem::take(&mut self.lives) {
            match life.interval() {
                Some(held) if held.is_before(present) && !bounds.has(BrokenRule::CopiesOfEndedJoined) => {
                    life.drop_copies();
                    lives.push(life);
                }
                Some(held) if present.is_before(held) => later.push(life),
                _ => match &mut same {
                    Some(same) => same.absorb(&life),
                    None => same = Some(life),
                },
            }
        }
        lives.push(same.unwrap_or_default());
        if let Some(life) = lives.last_mut() {
            life.told = union(life.told, Some(present));
        }
        lives.append(&mut later);
        self.lives = lives;
    }

    /// Takes in cells that Redis holds, by a reply to a request sent then.
    pub fn confirm(&mut self, bounds: &Bounds, whole: &Whole, sent_at: Time, now: Time) {
        let removed = whole.tombstone > self.tombstone.stamp;
        if removed {
            self.bury(HeldCell::confirmed(whole.tombstone, sent_at));
        } else {
            self.bury(self.tombstone);
        }
        let Some(present) = whole.life else { return };
        self.enter(bounds, present);
        let Some(life) = self.lives.iter_mut().find(|life| life.told.is_some_and(|told| told.overlaps(present))) else {
            return;
        };
        if removed {
            // L1: the life told before may be the one that the removal ended.
            life.told = Some(present);
        }
        let lacks = life.written.is_some_and(|written| !present.contains(written));
        for (cell, stamp) in life.cells.iter_mut().zip(whole.cells) {
            if stamp > cell.stamp {
                // L1: a cell that won over a pending one asks for the life that the loser asked for.
                let asks =
                    cell.pending && !bounds.has(BrokenRule::WinnerNotAsked) && !bounds.has(BrokenRule::OutdoneNotAsked);
                *cell = HeldCell { pending: asks && lacks, ..HeldCell::confirmed(stamp, sent_at) };
            } else if stamp == cell.stamp && stamp > 0 && !cell.pending {
                cell.confirmed_at = cell.confirmed_at.max(sent_at);
            }
        }
        life.compare(bounds, present, now);
        self.bury(self.tombstone);
    }

    /// Takes in a read. R5: what Redis lacks of what was held when it was asked is pending again, if it was confirmed lately
    /// (R9). Says whether an acknowledgement that is still to come clears nothing (R8).
    pub fn take_reply(&mut self, bounds: &Bounds, whole: &Whole, asking: AskedWhen<'_>) -> bool {
        match whole.life {
            Some(present) => self.enter(bounds, present),
            None => {
                for life in &mut self.lives {
                    if life.interval().is_some_and(|life| life.is_over_at(asking.now)) {
                        life.drop_copies();
                    }
                }
            }
        }
        let mut marked = false;
        for life in &mut self.lives {
            // The existence is as young as any: without it the others have no life.
            let newest = life.cells.iter().map(|cell| cell.confirmed_at).max().unwrap_or_default();
            life.cells[EXISTENCE].confirmed_at = newest;
        }
        for cell in 0..CELLS {
            for held in self.lives.iter_mut().map(|life| &mut life.cells[cell]) {
                let was_held = asking.asked.lives.iter().any(|life| life.cells[cell].stamp == held.stamp);
                if held.stamp == 0 || !was_held || whole.covers(cell, held.stamp) {
                    continue;
                }
                if bounds.has(BrokenRule::OldCopiesPublished) {
                    held.confirmed_at = asking.now;
                }
                marked |= if held.pending { asking.behind_replay } else { held.reclaim(bounds, asking.now) };
            }
        }
        let was_held = asking.asked.tombstone.stamp == self.tombstone.stamp;
        if was_held && whole.tombstone < self.tombstone.stamp {
            let held = &mut self.tombstone;
            marked |= if held.pending { asking.behind_replay } else { held.reclaim(bounds, asking.now) };
        }
        self.drop_empty();
        self.confirm(bounds, whole, asking.sent_at, asking.now);
        marked
    }

    /// R6, R9: Redis lost its data. Young copies are pending again.
    pub fn reclaim_all(&mut self, bounds: &Bounds, now: Time) {
        let cells = self.lives.iter_mut().flat_map(|life| &mut life.cells).chain([&mut self.tombstone]);
        for held in cells.filter(|held| held.stamp > 0 && !held.pending) {
            held.pending = held.is_young(bounds, now);
        }
    }

    /// R8: Redis answered to what was sent. What is pending above it stays pending.
    pub fn acknowledge(&mut self, bounds: &Bounds, sent: &Merge, reply: &ScriptReply, sent_at: Time) {
        let all = bounds.has(BrokenRule::AcknowledgesAll);
        if self.tombstone.pending && (sent.tombstone >= self.tombstone.stamp || all) {
            self.tombstone = HeldCell::confirmed(self.tombstone.stamp, sent_at);
        }
        let (ScriptReply::Applied(present) | ScriptReply::Outdone(Whole { life: present, .. })) = *reply else {
            return;
        };
        let over = sent.life().filter(|life| present.is_none_or(|present| life.is_before(present)));
        for life in &mut self.lives {
            let mut is_sent = false;
            for (cell, stamp) in life.cells.iter_mut().zip(sent.cells) {
                if cell.pending && (stamp == cell.stamp || all) {
                    *cell = HeldCell::confirmed(cell.stamp, sent_at);
                    is_sent = true;
                }
            }
            if is_sent && over.is_some() {
                life.drop_copies();
            } else if let Some(present) = present.filter(|_| is_sent) {
                life.told = union(life.told, Some(present));
                if !life.is_pending() {
                    life.written = None;
                    life.told = Some(present);
                }
            }
        }
        if let ScriptReply::Outdone(whole) = reply {
            self.drop_outdone(sent, *whole);
        }
        self.drop_empty();
    }

    /// Redis did not take all of it in, and holds no more than it told.
    fn drop_outdone(&mut self, sent: &Merge, whole: Whole) {
        for life in &mut self.lives {
            for (index, cell) in life.cells.iter_mut().enumerate() {
                if !cell.pending && cell.stamp == sent.cells[index] && !whole.covers(index, cell.stamp) {
                    *cell = HeldCell::default();
                }
            }
        }
    }

    /// A crash: copies that were not synced are gone.
    pub fn forget_copies(&mut self) {
        for life in &mut self.lives {
            life.drop_copies();
        }
        self.drop_empty();
        if !self.tombstone.pending {
            self.tombstone = HeldCell::default();
        }
    }
}

impl ModelLife {
    fn upsert(&mut self, cell: usize, stamp: ModelStamp, life: Interval) {
        for cell in [cell, EXISTENCE] {
            if stamp > self.cells[cell].stamp {
                self.cells[cell] = HeldCell::pending(stamp);
            }
            // L1: one that has won already asks for the life of this one.
            self.cells[cell].pending = true;
        }
        self.written = union(self.written, Some(life));
    }
}
