//! What was asked for and acknowledged in a run, in true time: what the properties are judged by.

use crate::{
    interval::{Interval, Time},
    redis::ModelStamp,
};

/// An upsert of one cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ModelWrite {
    /// Which cell.
    pub cell: usize,
    /// The last that it was given.
    pub stamp: ModelStamp,
    /// When it was given that stamp, in true time.
    pub at: Time,
    /// Who wrote it.
    pub by: usize,
    /// Whether its caller was told that it is placed.
    pub acknowledged: bool,
    /// By how much its interval is off, as far as is known.
    pub off: Time,
    /// Whether its author had not met Redis since it started.
    pub provisional: bool,
}

/// A removal of the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Removal {
    /// The last that it was given.
    pub stamp: ModelStamp,
    /// When it was given that stamp, in true time.
    pub at: Time,
    /// Whether it took effect, or certainly will.
    pub effective: bool,
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ModelHistory {
    /// In the order of their calls.
    pub writes: Vec<ModelWrite>,
    /// Likewise.
    pub removals: Vec<Removal>,
}

impl ModelWrite {
    /// From when until when it asked to live, in true time.
    pub fn interval(&self, ttl: Time) -> Interval {
        Interval::from_now(self.at, ttl)
    }

    /// Whether its interval is as it should be.
    pub fn is_right(&self) -> bool {
        self.off == 0
    }

    /// The interval, and if it is off, the one by the clock that was wrong as well.
    fn claimed(&self, ttl: Time) -> Interval {
        let interval = self.interval(ttl);
        interval.union(interval.shifted(self.off))
    }
}

impl ModelHistory {
    /// Whether a removal that took effect covers the stamp.
    pub fn is_removed(&self, stamp: ModelStamp) -> bool {
        self.removals.iter().any(|removal| removal.effective && removal.stamp >= stamp)
    }

    /// Whether such a removal was remembered when the write was made.
    pub fn must_be_removed(&self, write: &ModelWrite, tombstone_ttl: Time) -> bool {
        let covers = |removal: &Removal| removal.stamp >= write.stamp && write.at < removal.at + tombstone_ttl;
        self.removals.iter().any(|removal| removal.effective && covers(removal))
    }

    /// L1: until when a write lives at the latest, with all that overlap it.
    pub fn reach(&self, write: &ModelWrite, ttl: Time) -> Time {
        let mut reach = write.claimed(ttl).end;
        loop {
            let further = self.writes.iter().map(|other| other.claimed(ttl)).filter(|other| other.begin < reach);
            let furthest = further.map(|other| other.end).max().unwrap_or(reach).max(reach);
            if furthest == reach {
                return reach;
            }
            reach = furthest;
        }
    }
}
