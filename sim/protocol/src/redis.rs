//! Redis: one record, and the script that merges into it.

use crate::{
    interval::{Interval, Time, union},
    rules::{Bounds, BrokenRule},
};

/// Cells of the record: the data, and its existence, which every upsert writes.
pub const CELLS: usize = 3;

/// The cell that says that the record exists, with its life.
pub const EXISTENCE: usize = 2;

/// A hybrid logical clock's, of one write; zero for none.
pub type ModelStamp = u8;

/// A stamp for each cell.
pub type Cells = [ModelStamp; CELLS];

/// The record as Redis holds it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Whole {
    /// The cells. All are zero if there is no life.
    pub cells: Cells,
    /// Of the last removal.
    pub tombstone: ModelStamp,
    /// From when until when it lives.
    pub life: Option<Interval>,
}

/// Redis, by its own clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Redis {
    /// The record.
    pub whole: Whole,
    /// When the key expires, tombstone and all.
    pub forgotten_at: Time,
    /// One lifetime of its data.
    pub generation: u8,
    /// By how much its clock is ahead of true time.
    pub step: Time,
    /// Since when it has held the record without a break, in true time. For the judge alone.
    pub held_since: Time,
}

/// When the script applies what it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MergeMode {
    /// All of it, or none.
    All,
    /// Each cell that wins.
    Each,
}

/// What the script is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Merge {
    /// All or each.
    pub mode: MergeMode,
    /// The cells.
    pub cells: Cells,
    /// A removal.
    pub tombstone: ModelStamp,
    /// The life of the cells as Redis told it before.
    pub told: Option<Interval>,
    /// The life of the cells by their writers' estimate.
    pub written: Option<Interval>,
}

/// What the script answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ScriptReply {
    /// All is in, as part of this life.
    Applied(Option<Interval>),
    /// Something is not in: this is what stands.
    Outdone(Whole),
    /// Mode all: this stamp is in the way. Nothing changed.
    Conflict(ModelStamp),
    /// Mode all: the life of the cells is over. Nothing changed.
    Over,
}

impl Merge {
    /// The life of the cells, as it is sent.
    pub fn life(&self) -> Option<Interval> {
        union(self.told, self.written)
    }

    /// Whether it brings cells.
    pub fn has_cells(&self) -> bool {
        self.cells.iter().any(|stamp| *stamp > 0)
    }
}

impl Whole {
    /// Whether it is above the stamp, in that cell or by its tombstone.
    pub fn covers(&self, cell: usize, stamp: ModelStamp) -> bool {
        self.tombstone >= stamp || self.cells[cell] >= stamp
    }

    /// The largest stamp of its cells.
    pub fn newest(&self) -> ModelStamp {
        self.cells.into_iter().max().unwrap_or_default()
    }

    fn bury(&mut self, tombstone: ModelStamp) {
        self.tombstone = tombstone;
        for stamp in &mut self.cells {
            if *stamp <= tombstone {
                *stamp = 0;
            }
        }
        if self.newest() == 0 {
            self.life = None;
        }
    }
}

impl Redis {
    /// Its clock at true time `now`.
    pub fn clock(&self, now: Time) -> Time {
        now + self.step
    }

    /// L2: deletes the cells of a life that is over. They leave no tombstone.
    pub fn expire(&mut self, bounds: &Bounds, now: Time) {
        let clock = self.clock(now);
        if self.whole.life.is_some_and(|life| life.is_over_at(clock)) {
            if bounds.has(BrokenRule::TombstoneOfExpired) {
                self.whole.tombstone = self.whole.tombstone.max(self.whole.newest());
            }
            self.whole.cells = Cells::default();
            self.whole.life = None;
            self.held_since = 0;
        }
        if self.whole.life.is_none() && self.forgotten_at <= clock {
            self.whole = Whole::default();
            self.forgotten_at = 0;
        }
    }

    /// A read: the record, after it is settled whether it is over.
    pub fn read(&mut self, bounds: &Bounds, now: Time) -> Whole {
        self.expire(bounds, now);
        self.whole
    }

    /// The script.
    pub fn merge(&mut self, bounds: &Bounds, now: Time, sent: &Merge) -> ScriptReply {
        self.expire(bounds, now);
        let clock = self.clock(now);
        let life = sent.has_cells().then(|| clamped(bounds, clock, sent)).flatten();
        if sent.mode == MergeMode::All
            && let Some(refusal) = self.refusal(bounds, clock, sent, life)
        {
            return refusal;
        }
        let mut lost = sent.tombstone > 0 && sent.tombstone < self.whole.tombstone;
        if sent.tombstone > self.whole.tombstone {
            self.whole.bury(sent.tombstone);
        }
        let lived = self.whole.life.is_some();
        let living = sent.cells.map(|stamp| if stamp > self.whole.tombstone { stamp } else { 0 });
        lost |= living != sent.cells;
        if let Some(life) = life.filter(|_| living != Cells::default()) {
            if self.comes_too_late(bounds, clock, life) {
                lost = true;
            } else {
                lost |= self.join(bounds, living, life);
            }
        }
        self.held_since = match self.whole.life {
            Some(_) if lived => self.held_since,
            Some(_) => now,
            None => 0,
        };
        let kept_until = clock + bounds.tombstone_ttl;
        self.forgotten_at = self.whole.life.map_or(kept_until, |life| life.end.max(kept_until));
        if self.whole == Whole::default() {
            self.forgotten_at = 0;
        }
        if lost { ScriptReply::Outdone(self.whole) } else { ScriptReply::Applied(self.whole.life) }
    }

    fn refusal(&self, bounds: &Bounds, clock: Time, sent: &Merge, life: Option<Interval>) -> Option<ScriptReply> {
        // Every upsert writes the existence of the record too: its stamp must be above all that is stored.
        let in_the_way = self.whole.newest().max(self.whole.tombstone);
        let newest = sent.cells.into_iter().max().unwrap_or_default().max(sent.tombstone);
        if in_the_way >= newest {
            return Some(ScriptReply::Conflict(in_the_way));
        }
        life.filter(|life| self.comes_too_late(bounds, clock, *life)).map(|_| ScriptReply::Over)
    }

    /// L4: a life that ended before the present one began is not joined, one that is over is not begun.
    fn comes_too_late(&self, bounds: &Bounds, clock: Time, life: Interval) -> bool {
        match self.whole.life {
            Some(present) => life.is_before(present) && !bounds.has(BrokenRule::EndedLifeJoined),
            None => life.is_over_at(clock),
        }
    }

    /// L1: by union, whatever the stamps. Says whether a cell was below the one that stands.
    fn join(&mut self, bounds: &Bounds, cells: Cells, life: Interval) -> bool {
        let is_newer = cells.into_iter().max().unwrap_or_default() > self.whole.newest();
        self.whole.life = match self.whole.life {
            Some(present) if bounds.has(BrokenRule::DeadlineByStamp) => Some(if is_newer { life } else { present }),
            present => union(present, Some(life)),
        };
        let mut lost = false;
        for (held, sent) in self.whole.cells.iter_mut().zip(cells) {
            lost |= sent > 0 && sent < *held;
            *held = sent.max(*held);
        }
        lost
    }
}

/// L3: a life did not begin after now, and its writers cannot have asked for more than they did.
fn clamped(bounds: &Bounds, clock: Time, sent: &Merge) -> Option<Interval> {
    let mut life = sent.life()?;
    if let Some(written) = sent.written {
        if !bounds.has(BrokenRule::BeginNotClamped) {
            life.begin = life.begin.min(clock);
        }
        let mut end = written.end;
        if !bounds.has(BrokenRule::EndNotClamped) {
            end = end.min(clock + bounds.ttl);
        }
        life.end = sent.told.map_or(end, |told| told.end.max(end));
    }
    Some(life)
}
