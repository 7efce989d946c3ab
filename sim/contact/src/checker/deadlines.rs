//! When the keys of records expire in Redis, and when the lives in them end. Part of G1: both belong to the documented form.
//!
//! | the record | the key expires |
//! | --- | --- |
//! | lives without an end | never |
//! | lives with an end | at the end, or when removals before it are forgotten, if that is later |
//! | was removed, or is over | when its removal is forgotten |
//!
//! A removal is forgotten `tombstone_ttl` after the last merge into its key. The history bounds the time of that merge: no earlier than
//! the last write that Redis acknowledged, if Redis has lost no data since, and no later than now. A life ends no earlier than the lower
//! bound of the end that each acknowledged write in it asked for. It ends no later than the latest end that any write of the record can
//! have asked for (see `lives`).

use std::collections::BTreeMap;

use super::{
    Account, Excuse, Verdict,
    clocks::{ROUNDING_MS, Range},
    operation::{Operation, numbers},
    operations::Operations,
    order::certainly_below,
    record::RecordHistory,
    stored::{Place, Stored},
};
use crate::history::{Call, Placement, StoredKey, StoredLife, What};

struct DeadlineJudge<'a, 'h> {
    run: &'a Operations<'h>,
    starts_at_ms: i64,
    /// When the contents of Redis were noted.
    noted_us: u64,
}

pub(super) fn check(run: &Operations<'_>, account: &mut Account) -> Verdict {
    // Without the first, `times` counts the records.
    let (Some(starts_at_ms), Some((_, noted_us))) = (run.starts_at_ms(), run.redis_noted) else { return Verdict::Pass };
    let judge = DeadlineJudge { run, starts_at_ms, noted_us };
    let records: BTreeMap<_, _> = run.records.iter().map(|record| ((record.prefix, record.uid), record)).collect();
    let keys = run.history.events.iter().filter_map(|event| match &event.what {
        What::RedisHolds { keys } => Some(keys),
        _ => None,
    });
    for key in keys.flatten() {
        // A record of another form carries its error itself (`wrong`).
        let [stored] = key.records.as_slice() else { continue };
        let record = records.get(&(stored.prefix.as_str(), stored.uid.as_str()));
        let Some(&record) = record.filter(|_| stored.stamps.is_some() && stored.wrong.is_none()) else {
            account.note("keys whose time to live was not judged: they do not tell their stamps", 1);
            continue;
        };
        match judge.key(record, key, stored.life) {
            Ok(excuse) => account.note(note_of_key(excuse), 1),
            Err((wrong, by)) => {
                let message = format!("{record}: in the end {wrong}");
                return Verdict::Violation { message, ops: numbers(&by.into_iter().collect::<Vec<_>>()) };
            }
        }
    }
    Verdict::Pass
}

/// The note under which the time to live of a key counts.
fn note_of_key(excuse: Option<Excuse>) -> &'static str {
    match excuse {
        None => "keys whose time to live was judged",
        Some(Excuse::LostData) => {
            "keys without a lower bound of their time to live: Redis lost data, or a removal took a write"
        }
        Some(_) => "keys without a lower bound of their time to live: Redis's clock went back",
    }
}

/// An error in a key of Redis, and the write that proves it.
type WrongDeadline<'a, 'h> = (String, Option<&'a Operation<'h>>);

impl<'a, 'h> DeadlineJudge<'a, 'h> {
    fn key(
        &self,
        record: &RecordHistory<'h>,
        key: &StoredKey,
        life: Option<StoredLife>,
    ) -> Result<Option<Excuse>, WrongDeadline<'a, 'h>> {
        let expires = key.expires_at_ms.map(|ms| i64::try_from(ms).unwrap_or(i64::MAX));
        let life_end = life.and_then(|life| life.ends_ms).map(|ms| i64::try_from(ms).unwrap_or(i64::MAX));
        let excuse = match life {
            Some(_) => self.life(record, life_end)?,
            None => None,
        };
        let expires = match (expires, life, life_end) {
            (None, Some(_), None) => return Ok(excuse),
            (Some(at), Some(_), None) => {
                return Err((format!("its key expires at {at}, although its life has no end"), None));
            }
            (None, _, Some(end)) => {
                return Err((format!("its key never expires, although its life ends at {end}"), None));
            }
            (None, None, None) => return Err(("its key never expires, although it holds no life".to_owned(), None)),
            (Some(at), _, _) => at,
        };
        let kept_ms = self.run.tombstone_ttl_ms();
        if let Some(end) = life_end.filter(|&end| expires < end) {
            return Err((format!("its key expires at {expires}, before its life ends at {end}"), None));
        }
        let latest =
            self.redis_ms(0, self.noted_us).most.saturating_add(kept_ms).max(life_end.unwrap_or(0)) + ROUNDING_MS;
        if expires > latest {
            let said =
                format!("its key expires at {expires}, and should by {latest}: no removal is remembered for longer");
            return Err((said, None));
        }
        let (merged, by) = match self.last_merge(record) {
            Ok(last) => last,
            Err(unknown) => return Ok(excuse.or(unknown)),
        };
        let earliest = merged.least.saturating_add(kept_ms) - ROUNDING_MS;
        if expires < earliest {
            let said = format!(
                "its key expires at {expires}, but {by} was merged at {} or later, and is remembered until {earliest}",
                merged.least
            );
            return Err((said, Some(by)));
        }
        Ok(excuse)
    }

    /// Checks that the writes of a record can have asked for the end of the life in its key. Returns the excuse for a life that is too
    /// short, if it needs one.
    fn life(&self, record: &RecordHistory<'h>, ends: Option<i64>) -> Result<Option<Excuse>, WrongDeadline<'a, 'h>> {
        let run = self.run;
        let lives = &run.expiry.lives;
        let Some(ends) = ends else {
            let has_end = run.history.header.tuning.record_ttl_ms.is_some();
            return if has_end {
                Err(("its life has no end, and records have a time to live".to_owned(), None))
            } else {
                Ok(None)
            };
        };
        let Some(ttl_ms) = run.history.header.tuning.record_ttl_ms else {
            return Err((format!("its life ends at {ends}, and records have no time to live"), None));
        };
        // Redis allows at most one whole time to live from the merge.
        let ttl_ms = i64::try_from(ttl_ms).unwrap_or(i64::MAX);
        let allowed = self.redis_ms(0, self.noted_us).most.saturating_add(ttl_ms);
        let asked = |op: &Operation<'h>| lives.get(&op.number).map(|life| self.ms(life.ends));
        let most = run.upserts(record).filter_map(|upsert| Some(asked(upsert)?.most)).max();
        let most = most.filter(|_| record.imports.is_empty()).map_or(allowed, |most| most.min(allowed));
        if ends > most + ROUNDING_MS {
            return Err((format!("its life ends at {ends}, and its writes were given {most} at the most"), None));
        }
        let mut excuse = None;
        for &index in &record.upserts {
            let upsert = &run.all[index];
            let Some(least) = asked(upsert).map(|asked| asked.least).filter(|&least| ends < least - ROUNDING_MS) else {
                continue;
            };
            if upsert.acknowledged() != Some(Placement::Shared) {
                continue;
            }
            let removed =
                || !record.removals.iter().all(|&removal| certainly_below(run, &run.all[removal], upsert).is_some());
            excuse = if run.losses_of(record).any(|loss| upsert.called < loss) {
                Some(Excuse::LostData)
            } else if self.run.clocks.redis_goes_back(upsert.called_at_us) {
                Some(Excuse::Expiry)
            } else if removed() {
                // The upsert may have asked for the end of an earlier life.
                Some(Excuse::LostData)
            } else {
                return Err((
                    format!("its life ends at {ends}, but {upsert} asked for {least} at the least"),
                    Some(upsert),
                ));
            };
        }
        Ok(excuse)
    }

    /// The last certain merge into the key of a record: the bounds of its time by Redis's clock, and the operation. An error is the excuse for
    /// not knowing it; `None` if no write was merged.
    fn last_merge(&self, record: &RecordHistory<'h>) -> Result<(Range, &'a Operation<'h>), Option<Excuse>> {
        let run = self.run;
        let lost = run.losses_of(record).last();
        let writes = record.upserts.iter().chain(&record.removals).map(|&op| &run.all[op]);
        let is_merged = |op: &&Operation<'h>| {
            let is_of_record = matches!(op.call, Call::Upsert { .. } | Call::Remove { .. });
            is_of_record && op.acknowledged() == Some(Placement::Shared) && lost.is_none_or(|loss| loss < op.called)
        };
        let merges = writes.filter(is_merged).map(|op| {
            let until_us = op.end.map_or(u64::MAX, |end| end.at_us);
            (self.redis_ms(op.called_at_us, until_us), op)
        });
        // The last by time: Redis's clock may have been set back since.
        let latest = merges.max_by_key(|(_, op)| op.returned()).ok_or(lost.map(|_| Excuse::LostData))?;
        if self.run.clocks.redis_goes_back(latest.1.called_at_us) { Err(Some(Excuse::Expiry)) } else { Ok(latest) }
    }

    fn redis_ms(&self, from_us: u64, until_us: u64) -> Range {
        self.ms(self.run.clocks.redis(from_us, until_us))
    }

    /// A reading of Redis's clock in whole milliseconds since 1970.
    fn ms(&self, reading: Range) -> Range {
        let shown = |us: i64| self.starts_at_ms.saturating_add(us.div_euclid(1_000));
        Range { least: shown(reading.least), most: shown(reading.most) }
    }
}

/// The difference between the life that Redis told a copy in a store and the life in Redis. The begin of a life without an end has no
/// effect and is not compared: an instance that has not heard of a removal goes on with the earlier begin.
pub(super) fn told_otherwise(stored: &Stored<'_>, in_redis: &Stored<'_>) -> Option<String> {
    let (Place::Store(_), Some(told), Some(present)) = (stored.place, stored.record.life, in_redis.record.life) else {
        return None;
    };
    let is_other = told != present && (told.ends_ms, present.ends_ms) != (None, None);
    is_other.then(|| format!("{stored} has the life {told}, but Redis holds {present}"))
}

#[cfg(test)]
mod tests {
    use crate::{
        checker::{
            Guarantee::{Convergence, Fidelity},
            fixture::{Story, stored},
        },
        history::{
            Phase,
            Placement::{Local, Shared},
            Raw, Source, Stamps, StoredKey, StoredLife, StoredRecord, What,
            contents::StoredValue,
        },
    };

    const START_MS: u64 = 1_000_000_000;
    const DAY_MS: u64 = 24 * 3_600 * 1_000;
    const TTL_MS: u64 = 20_000;
    const KEPT_MS: u64 = 120_000;

    /// A key of Redis with this life, which expires then.
    fn key(life: Option<StoredLife>, expires_at_ms: Option<u64>) -> StoredKey {
        let record = StoredRecord { life, shows: None, stamps: Some(Stamps::default()), ..stored("p", "u", &[]) };
        let value = StoredValue::String(Raw(Vec::new()));
        StoredKey { key: Raw(b"key".to_vec()), value, expires_at_ms, records: vec![record], marker: None }
    }

    fn until(ends_ms: Option<u64>) -> StoredLife {
        StoredLife { begins_ms: START_MS, ends_ms }
    }

    /// An upsert just after the start, and Redis ten seconds later.
    fn told(record_ttl_ms: Option<u64>, then: impl FnOnce(&mut Story)) -> Story {
        let mut story = Story::new(&["p"]);
        story.starts_at_ms(START_MS);
        story.forgets_removals_after_ms(KEPT_MS);
        if let Some(ttl_ms) = record_ttl_ms {
            story.expires_after_ms(ttl_ms);
        }
        story.upsert(0, "u", &["name"], Shared);
        then(&mut story);
        story.now_us = 10_000_000;
        story
    }

    fn holds(mut story: Story, key: StoredKey) -> Story {
        story.event(What::RedisHolds { keys: vec![key] });
        story
    }

    #[test]
    fn a_key_whose_life_has_no_end_never_goes() {
        let lasting = || told(None, |_| ());
        holds(lasting(), key(Some(until(None)), None)).passes(Fidelity);
        let goes = holds(lasting(), key(Some(until(None)), Some(START_MS + 30 * DAY_MS)));
        goes.violates(Fidelity, "although its life has no end", &[]);
        let ends = holds(lasting(), key(Some(until(Some(START_MS + TTL_MS))), Some(START_MS + KEPT_MS)));
        ends.violates(Fidelity, "and records have no time to live", &[]);
    }

    #[test]
    fn a_removed_record_goes_when_removals_are_forgotten() {
        let removed = || {
            told(None, |story| {
                story.remove(0, "u", Shared);
            })
        };
        let at = |ms: u64| key(None, Some(START_MS + ms));
        holds(removed(), at(KEPT_MS)).passes(Fidelity);
        holds(removed(), at(KEPT_MS + 10_000)).passes(Fidelity);
        holds(removed(), key(None, None)).violates(Fidelity, "never expires, although it holds no life", &[]);
        holds(removed(), at(KEPT_MS + 10_500)).violates(Fidelity, "no removal is remembered for longer", &[]);
        holds(removed(), at(KEPT_MS - 100)).violates(Fidelity, "and is remembered until", &[2]);
        let mut lost = removed();
        lost.loss();
        holds(lost, at(KEPT_MS - 100)).passes(Fidelity);
    }

    #[test]
    fn a_key_with_a_life_that_ends_outlives_that_and_what_is_remembered() {
        let expiring = || told(Some(TTL_MS), |_| ());
        let held = |end: u64, goes: u64| key(Some(until(Some(START_MS + end))), Some(START_MS + goes));
        holds(expiring(), held(TTL_MS, KEPT_MS)).passes(Fidelity);
        let with_its_life = holds(expiring(), held(TTL_MS, TTL_MS));
        with_its_life.violates(Fidelity, "and is remembered until", &[1]);
        holds(expiring(), held(TTL_MS, TTL_MS - 1)).violates(Fidelity, "before its life ends", &[]);
        holds(expiring(), held(TTL_MS, KEPT_MS + 10_500)).violates(Fidelity, "remembered for longer", &[]);
        let never = holds(expiring(), key(Some(until(None)), None));
        never.violates(Fidelity, "its life has no end, and records have a time to live", &[]);
    }

    #[test]
    fn a_life_ends_within_what_its_writes_asked_for() {
        let held = |end: u64| key(Some(until(Some(START_MS + end))), Some(START_MS + KEPT_MS));
        let told = || told(Some(TTL_MS), |_| ());
        holds(told(), held(TTL_MS * 9 / 10)).passes(Fidelity);
        holds(told(), held(TTL_MS * 8 / 10)).violates(Fidelity, "asked for", &[1]);
        holds(told(), held(TTL_MS * 12 / 10)).violates(Fidelity, "its writes were given", &[]);
        // An upsert that was never acknowledged sets no lower bound, and a lost one may be gone.
        let mut lost = told();
        lost.loss();
        holds(lost, held(TTL_MS * 8 / 10)).passes(Fidelity);
    }

    #[test]
    fn a_copy_knows_the_life_that_redis_holds() {
        let end = START_MS + TTL_MS;
        for (in_store, is_right) in [(end, true), (end + 1, false)] {
            let mut story = told(Some(TTL_MS), |_| ());
            story.phase(Phase::FinalReads);
            story.get(0, "u", Source::Shared, &[("name", 1)]);
            let record = |ends| StoredRecord { life: Some(until(Some(ends))), ..stored("p", "u", &[("name", 1)]) };
            story.redis_holds(&[record(end)]);
            story.store_holds(0, &[record(in_store)]);
            if is_right {
                story.passes(Convergence);
            } else {
                story.violates(Convergence, "but Redis holds from", &[]);
            }
        }
    }

    #[test]
    fn the_begin_of_a_life_without_an_end_is_not_compared() {
        for (ends_ms, is_right) in [(None, true), (Some(START_MS + TTL_MS), false)] {
            let mut story = told(ends_ms.map(|_| TTL_MS), |_| ());
            story.phase(Phase::FinalReads);
            story.get(0, "u", Source::Shared, &[("name", 1)]);
            let record = |begins_ms| {
                let life = Some(StoredLife { begins_ms, ends_ms });
                StoredRecord { life, ..stored("p", "u", &[("name", 1)]) }
            };
            story.redis_holds(&[record(START_MS + 1)]);
            story.store_holds(0, &[record(START_MS)]);
            if is_right {
                story.passes(Convergence);
            } else {
                story.violates(Convergence, "but Redis holds from", &[]);
            }
        }
    }

    #[test]
    fn a_write_that_redis_never_acknowledged_says_nothing_of_the_last_merge() {
        let local = told(None, |story| {
            story.upsert(0, "u", &["name"], Local);
        });
        let removed = holds(local, key(None, Some(START_MS + KEPT_MS)));
        removed.passes(Fidelity);
    }
}
