//! The lives of the upserts of a run, as far as a history tells them.
//!
//! An upsert asks for a life: an interval of Redis's clock, from when it was written to the end of its time to live, less
//! at most a tenth. Lives that overlap are one. Redis deletes what was written in a life when all of it is over, and from then
//! on nobody shows it. So for each upsert there are two bounds:
//!
//! - Its life may be over when the least that it can have asked for is over, and the least of all that certainly reached
//!   Redis in time to be joined with it. Until then what it wrote must be there.
//! - It is over for all when the most is over that it can have asked for, and the most of all that may have been joined with
//!   it. From then on what it wrote must not be there.
//!
//! Both go by what is known of the author's clock when it wrote (see `clocks`): in Redis, the clock of an instance ends nobody
//! else's life.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    clocks::Range,
    life::{Doubt, Expiry, UpsertLife},
    operation::Operation,
    operations::Operations,
    order::certainly_below,
    record::RecordHistory,
};
use crate::history::{History, Placement};

impl<'h> Operations<'h> {
    /// Indexes a history.
    pub(super) fn of(history: &'h History) -> Self {
        let mut run = Self::without_lives(history);
        run.expiry = Expiry::of(&run);
        run
    }
}

impl Operations<'_> {
    /// How many lives of a record an instance may keep apart at most, of these upserts of its own, in the order of their calls: a write begins another one if
    /// the one before may be over by its clock, or was written by another process.
    pub(super) fn lives_apart<'a>(&self, upserts: impl Iterator<Item = &'a Operation<'a>>) -> usize {
        let mut lives = 0;
        let mut before: Option<&Operation<'_>> = None;
        for upsert in upserts {
            let goes_on = before.is_some_and(|before| {
                let by_us = upsert.end.map_or(u64::MAX, |end| end.at_us);
                let most = self.clocks.most_estimated(upsert.instance, before.called_at_us, by_us);
                let is_over = self.expiry.lives.get(&before.number).is_some_and(|life| life.ends.least <= most);
                let is_another = self.stops.iter().any(|&(at, instance, _)| {
                    instance == upsert.instance && before.called < at && at < upsert.returned()
                });
                !is_over && !is_another
            });
            lives += usize::from(!goes_on);
            before = Some(upsert);
        }
        lives
    }
}

impl Expiry {
    /// Of operations that are indexed but for this, with their clocks.
    fn of(run: &Operations<'_>) -> Self {
        let Some(given_ms) = run.history.header.tuning.record_ttl_ms else { return Self::default() };
        let ttl_us = i64::try_from(given_ms).unwrap_or(i64::MAX).saturating_mul(1_000).min(i64::MAX / 16);
        let mut expiry = Self { lives: BTreeMap::new() };
        for record in &run.records {
            for upsert in run.upserts(record) {
                let life = asked_for(run, upsert, ttl_us);
                expiry.lives.insert(upsert.number, life);
            }
            let renewals = renewals(run, record);
            for upsert in run.upserts(record) {
                let known = expiry.known(run, record, upsert, &renewals);
                let life = expiry.lives.get_mut(&upsert.number).expect("it was just inserted");
                (life.may_end_us, life.over) = (known.may_end_us, known.most);
                if known.is_disturbed && life.doubt == Doubt::NearItsEnd {
                    life.doubt = Doubt::NotRenewed;
                }
            }
            let outlasted = expiry.outlasted(run, record);
            for (number, over) in expiry.over(run, record, ttl_us) {
                let life = expiry.lives.get_mut(&number).expect("it was just inserted");
                let goes_on = over > life.over || outlasted.contains(&number);
                (life.may_return, life.over) = (goes_on || run.clocks.redis_goes_back(life.may_end_us), over);
            }
        }
        expiry
    }

    /// The life of an upsert with all that was certainly joined with it.
    ///
    /// That is what Redis acknowledged while the life certainly went on, up to where Redis may have lost the record, or a
    /// removal may have taken what renewed it. A record that was lost comes back with its lives as the copies know them.
    fn known(
        &self,
        run: &Operations<'_>,
        record: &RecordHistory<'_>,
        upsert: &Operation<'_>,
        renewals: &[Renewal<'_, '_>],
    ) -> KnownLife {
        let called_us = upsert.called_at_us;
        let mut ends = self.lives[&upsert.number].ends;
        let mut may_end_us = run.clocks.redis_reaches(ends.least, called_us);
        let mut disturbed_us =
            run.losses_of(record).find(|&loss| upsert.called < loss).map_or(u64::MAX, |loss| run.time_of(loss));
        for renewal in renewals.iter().filter(|renewal| upsert.called < renewal.by.returned()) {
            let Some(returned) = renewal.by.end.filter(|end| end.at_us < may_end_us) else { break };
            if run.clocks.redis(called_us, returned.at_us).most >= ends.least {
                break;
            }
            let renewed = self.lives[&renewal.by.number].ends;
            ends.most = ends.most.max(renewed.most);
            if renewed.least <= ends.least {
                continue;
            }
            ends.least = renewed.least;
            disturbed_us = disturbed_us.min(renewal.until_us);
            let reaches_us = run.clocks.redis_reaches(ends.least, called_us);
            if disturbed_us < reaches_us {
                let (may_end_us, most) = (may_end_us.max(disturbed_us), ends.most);
                return KnownLife { may_end_us, most, is_disturbed: true };
            }
            may_end_us = reaches_us;
        }
        KnownLife { may_end_us, most: ends.most, is_disturbed: false }
    }

    /// The upserts of a record whose life may end before a life that Redis told earlier, before its clock was set back. An instance that
    /// has not heard of a removal between the two lives takes both for one, and tells Redis so.
    fn outlasted(&self, run: &Operations<'_>, record: &RecordHistory<'_>) -> BTreeSet<u64> {
        let of_before = run.upserts(record).filter(|upsert| run.clocks.redis_goes_back(upsert.called_at_us));
        let told: Vec<_> = of_before.map(|upsert| (upsert.called, self.lives[&upsert.number].ends.most)).collect();
        let is_outlasted = |upsert: &&Operation<'_>| {
            let least = self.lives[&upsert.number].ends.least;
            told.iter().any(|&(called, most)| called < upsert.called && least < most)
        };
        run.upserts(record).filter(is_outlasted).map(|upsert| upsert.number).collect()
    }

    /// For each upsert of a record, by its number, the reading of Redis's clock at which its life is over for all.
    fn over(&self, run: &Operations<'_>, record: &RecordHistory<'_>, ttl_us: i64) -> Vec<(u64, i64)> {
        let mut narrow: Vec<Range> = Vec::new();
        let mut wide: Vec<&UpsertLife> = Vec::new();
        for upsert in run.upserts(record) {
            let life = &self.lives[&upsert.number];
            // One that seems to begin later once Redis's clock went back counts from there.
            let is_set_back = run.clocks.redis_goes_back(upsert.called_at_us);
            let reached = is_set_back.then(|| run.clocks.redis(upsert.called_at_us, u64::MAX).least);
            let least = reached.map_or(life.begins.least, |reached| life.begins.least.min(reached));
            // Of one that may lie anywhere within a time it is only known that it prolongs another by no more than its own.
            if !is_set_back && life.begins.most - life.begins.least > ttl_us {
                wide.push(life);
            } else {
                narrow.push(Range { least, most: life.ends.most });
            }
        }
        wide.sort_by_key(|life| life.ends.most);
        let joined = joined(narrow);
        let over = |life: &UpsertLife| {
            let mut over = life.ends.most;
            let mut unused: Vec<_> = wide.iter().filter(|other| !std::ptr::eq(**other, life)).collect();
            loop {
                let met = joined.iter().filter(|other| other.least <= over).map(|other| other.most);
                over = met.max().unwrap_or(over).max(over);
                let prolongs = |other: &&&UpsertLife| other.begins.least <= over && over < other.ends.most;
                let Some(next) = unused.iter().position(prolongs) else { return over };
                over = unused.remove(next).ends.most.min(over.saturating_add(ttl_us));
            }
        };
        run.upserts(record).map(|upsert| (upsert.number, over(&self.lives[&upsert.number]))).collect()
    }
}

/// What an upsert asked for by itself.
fn asked_for(run: &Operations<'_>, upsert: &Operation<'_>, ttl_us: i64) -> UpsertLife {
    let (called_us, until_us) = (upsert.called_at_us, written_until_us(run, upsert));
    let estimate = run.clocks.estimated_for_a_write(upsert, until_us);
    // No life begins after Redis took it, and none is longer than a time to live from there.
    let is_shared = upsert.acknowledged() == Some(Placement::Shared);
    let taken_until_us = if is_shared { until_us } else { u64::MAX };
    let taken = run.clocks.redis(called_us, taken_until_us);
    let latest_us = if is_shared { taken.most.max(estimate.begins.most) } else { i64::MAX / 8 };
    let begins = Range { least: estimate.begins.least.min(taken.least), most: estimate.begins.most.min(taken.most) };
    let ends = Range {
        least: estimate.ends.least.min(taken.least) + ttl_us / 10 * 9,
        most: estimate.ends.most.min(latest_us) + ttl_us,
    };
    UpsertLife {
        begins,
        ends,
        may_end_us: 0,
        doubt: match (estimate.is_by_wrong_wall, estimate.is_by_stepped_redis) {
            (true, _) => Doubt::WrongClock,
            (false, true) => Doubt::RedisStepped,
            (false, false) => Doubt::NearItsEnd,
        },
        over: i64::MAX,
        may_return: false,
    }
}

/// Until when an upsert can have asked for its life, by a right clock: one that did not return had its deadline.
fn written_until_us(run: &Operations<'_>, upsert: &Operation<'_>) -> u64 {
    let called_us = upsert.called_at_us;
    let deadline_us = called_us.saturating_add(run.history.header.op_deadline_us);
    let paused_us = run.excuses.paused_us(upsert.instance, called_us, u64::MAX);
    let gone_us = run.clocks.process_ends_us(upsert);
    upsert.end.map_or(deadline_us.saturating_add(paused_us).min(gone_us), |end| end.at_us)
}

/// What is known of a life.
struct KnownLife {
    /// The time at which it may be over in Redis.
    may_end_us: u64,
    /// The reading of Redis's clock at which all that was certainly joined is over.
    most: i64,
    /// Whether something that renewed it may not count.
    is_disturbed: bool,
}

/// An upsert that Redis acknowledged, and until when it counts: from then on a removal may have taken it.
struct Renewal<'a, 'h> {
    by: &'a Operation<'h>,
    until_us: u64,
}

/// In the order of their returns.
fn renewals<'a, 'h>(run: &'a Operations<'h>, record: &'a RecordHistory<'h>) -> Vec<Renewal<'a, 'h>> {
    let removals = || record.removals.iter().map(|&op| &run.all[op]);
    let until_us = |upsert: &Operation<'h>| {
        let above = removals().filter(|removal| certainly_below(run, removal, upsert).is_none());
        above.map(|removal| removal.called_at_us).min().unwrap_or(u64::MAX)
    };
    let shared = run.upserts(record).filter(|upsert| upsert.acknowledged() == Some(Placement::Shared));
    let mut renewals: Vec<_> = shared.map(|by| Renewal { by, until_us: until_us(by) }).collect();
    renewals.sort_by_key(|renewal| renewal.by.returned());
    renewals
}

/// Intervals, those that overlap as one.
fn joined(mut intervals: Vec<Range>) -> Vec<Range> {
    intervals.sort_by_key(|interval| interval.least);
    let mut joined: Vec<Range> = Vec::new();
    for next in intervals {
        match joined.last_mut().filter(|last| next.least <= last.most) {
            Some(last) => last.most = last.most.max(next.most),
            None => joined.push(next),
        }
    }
    joined
}
