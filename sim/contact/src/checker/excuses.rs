//! What the faults of a run excuse, and for how long: the history names them, with the instance that suffers each.
//!
//! - A disk in trouble excuses failed calls of its instance, and failed openings, while it lasts.
//! - A store that an operator or another process removed, or replaced by a copy, excuses the loss of writes that only it held and that
//!   were called before the change. The loss of later writes is not excused: the store can detect the change before it acknowledges them.
//! - A damaged store excuses the loss of what only it held, unless that is seen to be whole in there: from the fault to
//!   the first opening after it, at which everything is read and verified.
//! - An instance that has another's store does not hold the writes of its own store meanwhile.
//! - A process that is paused, or whose machine sleeps, answers later by that time.

use super::operation::Operation;
use crate::{
    faults::{Fault, StoreChange},
    history::{Event, StoreNow, What},
};

/// How long after its disk works again an instance may take to find that out: it tries five times a second.
const AGAIN_US: u64 = 300_000;

/// How long an opening may take: it waits for the first attempt to connect, at most the client's `connect_timeout`, a
/// second; and then gives the directory back.
const OPENING_US: u64 = 1_100_000;

/// A stretch of the history, by ordinal and by time, both ends included.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    instance: u32,
    from: (u64, u64),
    until: (u64, u64),
}

/// The stretches of a history that excuse something.
#[derive(Default)]
pub(super) struct Excuses {
    troubles: Vec<Stretch>,
    unopenable: Vec<Stretch>,
    /// Each with an ordinal: only writes called before it may be lost.
    damages: Vec<(Stretch, u64)>,
    pauses: Vec<Stretch>,
    /// Instances whose log an operator or another process removed, with the ordinal of the removal.
    logs_gone: Vec<(u32, u64)>,
    /// Instances that got a copy of another's store, or shared one, with the ordinal of that.
    copies_of_others: Vec<(u32, u64)>,
    /// While an instance has another's store, until it has opened its own one again.
    elsewhere: Vec<Stretch>,
}

impl Excuses {
    pub(super) fn of(events: &[Event]) -> Self {
        let mut excuses = Self::default();
        for (index, event) in events.iter().enumerate() {
            if let What::StoreChanged { instance, now: StoreNow::LogGone } = event.what {
                excuses.logs_gone.push((instance, event.ordinal));
            }
            let What::FaultBegin { fault, what, .. } = &event.what else { continue };
            let from = (event.ordinal, event.at_us);
            let rest = &events[index..];
            let ends = |event: &&Event| matches!(event.what, What::FaultEnd { fault: number, .. } if number == *fault);
            let end = rest.iter().position(|event| ends(&event));
            let at = |event: &Event| (event.ordinal, event.at_us);
            let until = end.map_or((u64::MAX, u64::MAX), |end| at(&rest[end]));
            for &instance in what.instances() {
                let stretch = Stretch { instance, from, until };
                if what.troubles_disk() {
                    excuses.troubles.push(stretch);
                }
                if matches!(what, Fault::BadDisk { .. } | Fault::BadWrites { .. } | Fault::LockHeld { .. }) {
                    excuses.unopenable.push(stretch);
                }
                if what.stops_process() {
                    excuses.pauses.push(stretch);
                }
                let starts = |event: &&Event| matches!(event.what, What::Started { instance: of } if of == instance);
                let opened = end.and_then(|end| rest[end..].iter().find(starts));
                let of_store = Stretch { until: opened.map_or((u64::MAX, u64::MAX), at), ..stretch };
                if matches!(what, Fault::StoreShared { .. }) {
                    excuses.copies_of_others.push((instance, event.ordinal));
                    excuses.elsewhere.extend(elsewhere(rest, instance));
                }
                if what.damages_store() {
                    match what {
                        // The loss of a write called after the change is not excused: the instance can detect that its store is gone.
                        Fault::StoreChange { .. } => {
                            let taken =
                                rest[..end.unwrap_or(rest.len())].iter().find_map(|event| taken(event, instance));
                            excuses.damages.extend(taken.map(|taken| (of_store, taken.min(of_store.until.0))));
                            if matches!(what, Fault::StoreChange { change: StoreChange::CopyOf { .. }, .. }) {
                                excuses.copies_of_others.extend(taken.map(|taken| (instance, taken)));
                            }
                        }
                        _ => excuses.damages.push((of_store, of_store.until.0)),
                    }
                }
            }
        }
        excuses
    }

    /// Whether the disk of its instance was in trouble while this operation ran.
    pub(super) fn has_bad_disk(&self, op: &Operation<'_>) -> bool {
        let returned = op.returned();
        self.troubles.iter().any(|stretch| stretch.instance == op.instance && stretch.meets(op.called, returned))
    }

    /// Whether an instance could keep no copy of what this operation wrote to Redis, since its disk failed.
    pub(super) fn kept_no_copy(&self, op: &Operation<'_>) -> bool {
        let failing = |stretch: &Stretch| stretch.until.1.saturating_add(AGAIN_US) >= op.called_at_us;
        self.troubles
            .iter()
            .any(|stretch| stretch.instance == op.instance && stretch.from.0 <= op.returned() && failing(stretch))
    }

    /// Whether the disk of its instance had been in trouble when this operation was called: copies that it could not keep
    /// then it may miss ever after.
    pub(super) fn had_bad_disk(&self, op: &Operation<'_>) -> bool {
        self.troubles.iter().any(|stretch| stretch.instance == op.instance && stretch.from.0 < op.called)
    }

    /// Whether the log of its instance had been removed when this operation was called. From the next opening on, any record may count
    /// as forgotten, since the removed log may have held it.
    pub(super) fn had_lost_its_log(&self, op: &Operation<'_>) -> bool {
        let may_be_its = |instance: u32| instance == op.instance || self.had_store_of_another(op);
        self.logs_gone.iter().any(|(instance, at)| may_be_its(*instance) && *at < op.called)
    }

    /// Whether its instance had got a copy of another's store when this operation was called: it may hold writes and reads of
    /// any instance.
    pub(super) fn had_store_of_another(&self, op: &Operation<'_>) -> bool {
        self.copies_of_others.iter().any(|(instance, at)| *instance == op.instance && *at < op.called)
    }

    /// Whether an instance may have failed to open its cache: when its disk was in trouble while it tried to.
    pub(super) fn may_fail_to_open(&self, instance: u32, failed: &Event) -> bool {
        self.unopenable.iter().any(|stretch| {
            stretch.instance == instance
                && stretch.from.0 <= failed.ordinal
                && failed.at_us.saturating_sub(self.paused_us(instance, stretch.until.1, failed.at_us))
                    <= stretch.until.1.saturating_add(OPENING_US)
        })
    }

    /// Whether the store of an instance was damaged, or another's, at any time between two ordinals.
    pub(super) fn is_damaged(&self, instance: u32, from: u64, to: u64) -> bool {
        let stretches = self.damages.iter().map(|(stretch, _)| stretch).chain(&self.elsewhere);
        stretches.filter(|stretch| stretch.instance == instance).any(|stretch| stretch.meets(from, to))
    }

    /// Whether the store of an instance was damaged at any time before this ordinal.
    pub(super) fn was_damaged(&self, instance: u32, before: u64) -> bool {
        self.is_damaged(instance, 0, before)
    }

    /// Whether a local write of an instance, called then, was in its store when that was damaged, and when that was.
    pub(super) fn damaged_after(&self, instance: u32, called: u64) -> Option<u64> {
        self.damages_after(instance, called).next().map(|(from, _)| from)
    }

    /// Of each damage to the store of an instance after a local write was called: between which ordinals it came and was
    /// met.
    pub(super) fn damages_after(&self, instance: u32, called: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
        let after = move |(stretch, before): &&(Stretch, u64)| stretch.instance == instance && called < *before;
        self.damages.iter().filter(after).map(|(stretch, _)| (stretch.from.0, stretch.until.0))
    }

    /// How long an instance was paused between two times.
    pub(super) fn paused_us(&self, instance: u32, from_us: u64, to_us: u64) -> u64 {
        let pauses = self.pauses.iter().filter(|stretch| stretch.instance == instance);
        pauses.map(|stretch| stretch.until.1.min(to_us).saturating_sub(stretch.from.1.max(from_us))).sum()
    }
}

/// From when an instance has another's store until it has opened its own one again, which may be before the fault has ended.
fn elsewhere(rest: &[Event], instance: u32) -> Option<Stretch> {
    let at = |event: &Event| (event.ordinal, event.at_us);
    let is_other = |event: &&Event| match event.what {
        What::StoreChanged { instance: of, now } => of == instance && now == StoreNow::Other,
        _ => false,
    };
    let mut others = rest.iter().filter(is_other);
    let (left, back) = (others.next()?, others.next());
    let starts = |event: &&Event| matches!(event.what, What::Started { instance: of } if of == instance);
    let opened = back.and_then(|back| rest.iter().filter(starts).find(|event| back.ordinal < event.ordinal));
    Some(Stretch { instance, from: at(left), until: opened.map_or((u64::MAX, u64::MAX), at) })
}

/// For a change to the store of this instance: the ordinal from which on the instance can detect it, or `u64::MAX` if it cannot.
fn taken(event: &Event, instance: u32) -> Option<u64> {
    match event.what {
        What::StoreChanged { instance: of, now } if of == instance => {
            Some(if now == StoreNow::Cut { u64::MAX } else { event.ordinal })
        }
        _ => None,
    }
}

impl Stretch {
    fn meets(&self, from: u64, to: u64) -> bool {
        self.from.0 <= to && from <= self.until.0
    }
}
