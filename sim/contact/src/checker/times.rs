//! When a record was first and last written, as reads and stores show it. Part of G1.
//!
//! `first_revealed_at` is the earliest time of all upserts and imports of a record, and `last_updated_at` the latest, regardless of the
//! cells that they write or remove. The time of an upsert is a reading of its instance's wall clock between call and return. An import
//! brings its own times. So for every read or store that shows a record:
//!
//! - The first time is no earlier than the earliest of all writes called by then, and the last time no later than the latest of them.
//! - The first time is no later, and the last no earlier, than the time of each write that the record certainly includes. That is a
//!   write whose value it shows, a write under whose stamp Redis holds a cell, a write that Redis had acknowledged before it answered
//!   the read, and in the end every acknowledged write.
//!
//! The times of a record stay with its key in Redis, through removals and the ends of lives. They go with the key: if the key may have
//! expired or Redis lost data since a write, that write is left out.

use std::collections::BTreeSet;

use serde_json::Value as Json;

use super::{
    Account, Excuse, Verdict,
    clocks::{ROUNDING_MS, Range},
    expiry::Standing,
    operation::{Operation, Seen, numbers},
    operations::Operations,
    order::certainly_below,
    record::RecordHistory,
    stored::{Place, Showing, Stored},
    timestamp,
};
use crate::history::{Answer, Call, Imported, Placement, Source, Stamps};

/// Later times become this one, 9999-12-30T22:00:00.999Z: the last that RFC 3339 can say at every offset.
const TIME_MS_MAX: i64 = 253_402_207_200_999;

/// The times of a write, in milliseconds since 1970.
#[derive(Clone, Copy)]
struct WriteTimes {
    op: usize,
    called: u64,
    first: Range,
    last: Range,
}

/// The writes of a record in the order of their calls, each with the extremes of all up to it.
struct WritesInOrder(Vec<(WriteTimes, Extremes)>);

/// Over several writes.
#[derive(Clone, Copy)]
struct Extremes {
    /// Of the first times: the least of the least and of the most.
    first: Range,
    /// Of the last times: the largest of each.
    last: Range,
}

/// The judgement of a write that is missing from the times in Redis in the end.
enum Standpoint {
    MustBeThere,
    Excused(Excuse),
    /// It was never acknowledged, and may never have reached Redis.
    NeverPromised,
}

struct TimesJudge<'a, 'h> {
    run: &'a Operations<'h>,
    starts_at_ms: i64,
}

pub(super) fn check(run: &Operations<'_>, account: &mut Account) -> Verdict {
    let Some(starts_at_ms) = run.starts_at_ms() else {
        account.note(
            "records whose times were not judged: the history does not tell when it starts",
            run.records.len() as u64,
        );
        return Verdict::Pass;
    };
    let judge = TimesJudge { run, starts_at_ms };
    run.records.iter().find_map(|record| judge.record(record, account)).unwrap_or(Verdict::Pass)
}

/// The times shown: the first and the last.
type ShownTimes = (i64, i64);

impl<'h> TimesJudge<'_, 'h> {
    fn record(&self, record: &RecordHistory<'h>, account: &mut Account) -> Option<Verdict> {
        let writes = self.writes(record);
        let mut right: Option<(&Json, u64, ShownTimes)> = None;
        for read in record.reads.iter().map(|&op| &self.run.all[op]) {
            let Some(showing) = read.showing() else { continue };
            // Most reads show the same value in memory as the one before: its times are known, and right for a later read too.
            let same = right.filter(|(same, ..)| std::ptr::eq(*same, showing.json));
            let Some(times) = same.map(|(.., times)| times).or_else(|| times_of(showing.json)) else { continue };
            if same.is_none_or(|(_, until, _)| until > showing.ordinal) {
                if let Some(violation) = self.outside(record, &showing, times, &writes, &[]) {
                    return Some(violation);
                }
                right = Some((showing.json, showing.ordinal, times));
            }
            match self.before_a_read(record, read, (&showing, times), &writes) {
                Ok(None) => {}
                Ok(Some(_)) => account.note("reads whose times lack a write that Redis may have lost with its key", 1),
                Err(violation) => return Some(violation),
            }
        }
        for stored in &record.stored {
            let Some(showing) = stored.showing() else { continue };
            let Some(times) = times_of(showing.json) else { continue };
            let stamped = self.stamped(record, stored);
            if let Some(violation) = self.outside(record, &showing, times, &writes, &stamped) {
                return Some(violation);
            }
            if stored.place == Place::Redis {
                match self.in_the_end(record, (&showing, times), &writes, stored.at_us) {
                    Ok(excuse) => account.note(in_redis(excuse), 1),
                    Err(violation) => return Some(violation),
                }
            }
        }
        None
    }

    fn writes(&self, record: &RecordHistory<'h>) -> WritesInOrder {
        let mut writes: Vec<_> = record.upserts.iter().chain(&record.imports).map(|&op| self.written(op)).collect();
        writes.sort_unstable_by_key(|write| write.called);
        let so_far = |all: &mut Option<Extremes>, write: WriteTimes| {
            let WriteTimes { first, last, .. } = write;
            let before = all.unwrap_or(Extremes { first, last });
            let first = Range { least: first.least.min(before.first.least), most: first.most.min(before.first.most) };
            let last = Range { least: last.least.max(before.last.least), most: last.most.max(before.last.most) };
            let extremes = *all.insert(Extremes { first, last });
            Some((write, extremes))
        };
        WritesInOrder(writes.into_iter().scan(None, so_far).collect())
    }

    fn written(&self, index: usize) -> WriteTimes {
        let op = &self.run.all[index];
        let exactly = |ms: u64| i64::try_from(ms).map_or(i64::MAX, |ms| ms);
        if let Call::Import { first_revealed_ms, last_updated_ms, .. } = op.call {
            let [first, last] =
                [*first_revealed_ms, *last_updated_ms].map(exactly).map(|ms| Range { least: ms, most: ms });
            return WriteTimes { op: index, called: op.called, first, last };
        }
        let until_us = op.end.map_or_else(|| self.run.clocks.process_ends_us(op), |end| end.at_us);
        let wall = self.run.clocks.wall(op.instance, op.called_at_us, until_us);
        let time = Range {
            least: (self.starts_at_ms + wall.least.div_euclid(1_000)).min(TIME_MS_MAX) - ROUNDING_MS,
            most: self.starts_at_ms.saturating_add(wall.most.div_euclid(1_000)).min(TIME_MS_MAX) + ROUNDING_MS,
        };
        WriteTimes { op: index, called: op.called, first: time, last: time }
    }

    /// The violation of times that no write called by then can have set, or that lack a write whose value or stamp is there.
    fn outside(
        &self,
        record: &RecordHistory<'h>,
        showing: &Showing<'_, 'h>,
        (first, last): ShownTimes,
        writes: &WritesInOrder,
        stamped: &[usize],
    ) -> Option<Verdict> {
        let (earliest, latest) = writes.until(showing.ordinal).map(|all| (all.first.least, all.last.most))?;
        let by = showing.by;
        if first < earliest || last > latest {
            let (which, shown, bound) = if first < earliest {
                ("first revealed", first, format!("at {earliest} the earliest"))
            } else {
                ("last updated", last, format!("at {latest} the latest"))
            };
            let message =
                format!("{record}: {by} shows that it was {which} at {shown}, and all writes by then were {bound}");
            return Some(Verdict::Violation { message, ops: numbers(&showing.read.into_iter().collect::<Vec<_>>()) });
        }
        let valued = showing.shown.iter().enumerate().filter_map(|(cell, seen)| match seen {
            Seen::Tagged(tag) => record.writers.get(&(cell, *tag)).copied(),
            Seen::Absent | Seen::Present | Seen::Stray => None,
        });
        let mut certain = valued.chain(stamped.iter().copied()).filter_map(|op| writes.of(&self.run.all[op]));
        certain.find_map(|write| self.lacks(record, showing, (first, last), write))
    }

    /// The violation of times that lack a write that Redis had acknowledged before it answered this read. Without one, the excuse for a missing
    /// write, if it needs one.
    fn before_a_read(
        &self,
        record: &RecordHistory<'h>,
        read: &Operation<'h>,
        (showing, times): (&Showing<'_, 'h>, ShownTimes),
        writes: &WritesInOrder,
    ) -> Result<Option<Excuse>, Verdict> {
        let Some(all) = writes.until(read.called) else { return Ok(None) };
        if read.source() == Some(Source::Local) || times.0 <= all.first.most && times.1 >= all.last.least {
            return Ok(None);
        }
        let lost = self.run.losses_of(record).take_while(|&loss| loss < read.returned()).last();
        let at_us = read.end.map_or(u64::MAX, |end| end.at_us);
        let called_before = writes.all().take_while(|write| write.called < read.called);
        let mut excused = None;
        for write in called_before.filter(|write| write.is_lacking_in(times)) {
            let op = &self.run.all[write.op];
            if !is_in_redis(op) || !op.precedes(read) {
                continue;
            }
            if lost.is_some_and(|loss| op.called <= loss) {
                excused = Some(Excuse::LostData);
            } else if !self.keeps_key(op, at_us) {
                excused = Some(Excuse::Expiry);
            } else if let Some(violation) = self.lacks(record, showing, times, write) {
                return Err(violation);
            }
        }
        Ok(excused)
    }

    /// The violation of final times in Redis that lack an acknowledged write. Without one, the excuse for a missing write, if it needs one.
    fn in_the_end(
        &self,
        record: &RecordHistory<'h>,
        (showing, times): (&Showing<'_, 'h>, ShownTimes),
        writes: &WritesInOrder,
        noted_us: u64,
    ) -> Result<Option<Excuse>, Verdict> {
        let mut excused = None;
        for write in writes.all().filter(|write| write.is_lacking_in(times)) {
            match self.standpoint(record, &self.run.all[write.op], noted_us) {
                Standpoint::MustBeThere => return self.lacks(record, showing, times, write).map_or(Ok(excused), Err),
                Standpoint::Excused(excuse) => excused = excused.or(Some(excuse)),
                Standpoint::NeverPromised => {}
            }
        }
        Ok(excused)
    }

    fn standpoint(&self, record: &RecordHistory<'h>, op: &Operation<'h>, noted_us: u64) -> Standpoint {
        let run = self.run;
        let excused = |is_excused: bool, excuse| is_excused.then_some(excuse);
        if op.acknowledged().is_none() && !is_in_redis(op) {
            return Standpoint::NeverPromised;
        }
        let is_lost = run.losses_of(record).any(|loss| op.called < loss);
        let excuse = if is_in_redis(op) && !is_lost {
            excused(!self.keeps_key(op, noted_us), Excuse::Expiry)
        } else {
            // Copies restore lost data, and its times, as long as the record lives.
            let lies_below = |&removal: &usize| certainly_below(run, &run.all[removal], op).is_some();
            let may_be_removed = || !record.removals.iter().all(lies_below);
            excused(run.unquiet().is_some(), Excuse::Unquiet)
                .or(excused(run.history.header.beyond_budget, Excuse::BeyondBudget))
                .or(excused(is_imported(op) || run.is_given_up(record, op), Excuse::LostData))
                .or_else(|| excused(!run.must_stay(record, op), Excuse::Damage))
                .or_else(|| excused(may_be_removed(), Excuse::LostData))
                .or_else(|| excused(run.standing(op, noted_us) != Standing::Lives, Excuse::Expiry))
        };
        excuse.map_or(Standpoint::MustBeThere, Standpoint::Excused)
    }

    /// Whether the key that a write was merged into cannot have expired since. A key without a life is kept for `tombstone_ttl`.
    fn keeps_key(&self, write: &Operation<'h>, until_us: u64) -> bool {
        let kept_us = self.run.tombstone_ttl_ms().saturating_mul(1_000);
        let from_us = write.called_at_us;
        let merged_until_us = write.end.map_or(from_us, |end| end.at_us);
        self.run.clocks.redis(from_us, until_us).most - self.run.clocks.redis(from_us, merged_until_us).least < kept_us
    }

    fn lacks(
        &self,
        record: &RecordHistory<'h>,
        showing: &Showing<'_, 'h>,
        times: ShownTimes,
        write: &WriteTimes,
    ) -> Option<Verdict> {
        if !write.is_lacking_in(times) {
            return None;
        }
        let (op, by) = (&self.run.all[write.op], showing.by);
        let message = if times.0 > write.first.most {
            let most = write.first.most;
            format!(
                "{record}: {by} shows that it was first revealed at {}, but {op} wrote it at {most} or before",
                times.0
            )
        } else {
            let least = write.last.least;
            format!(
                "{record}: {by} shows that it was last updated at {}, but {op} wrote it at {least} or later",
                times.1
            )
        };
        let ops: Vec<_> = showing.read.into_iter().chain([op]).collect();
        Some(Verdict::Violation { message, ops: numbers(&ops) })
    }

    /// The upserts under whose stamps Redis holds a cell, with a value or without.
    fn stamped(&self, record: &RecordHistory<'h>, stored: &Stored<'h>) -> Vec<usize> {
        let Some(stamps) = &stored.record.stamps else { return Vec::new() };
        let held: BTreeSet<_> = every_stamp(stamps).collect();
        let is_held = |op: &&usize| self.run.all[**op].stamp().is_some_and(|stamp| held.contains(stamp));
        record.upserts.iter().filter(is_held).copied().collect()
    }
}

impl WritesInOrder {
    fn all(&self) -> impl Iterator<Item = &WriteTimes> {
        self.0.iter().map(|(write, _)| write)
    }

    /// The extremes of all writes called by then.
    fn until(&self, ordinal: u64) -> Option<&Extremes> {
        let many = self.0.partition_point(|(write, _)| write.called <= ordinal);
        self.0[..many].last().map(|(_, extremes)| extremes)
    }

    fn of(&self, op: &Operation<'_>) -> Option<&WriteTimes> {
        let at = self.0.binary_search_by_key(&op.called, |(write, _)| write.called).ok()?;
        Some(&self.0[at].0)
    }
}

impl WriteTimes {
    /// Whether these times cannot be those of a record that has this write.
    fn is_lacking_in(&self, (first, last): ShownTimes) -> bool {
        first > self.first.most || last < self.last.least
    }
}

/// How the times of a record in Redis count.
fn in_redis(excuse: Option<Excuse>) -> &'static str {
    match excuse {
        None => "records in Redis whose times were judged",
        Some(Excuse::Expiry) => "records in Redis whose times lack a write: its life or its key may be over",
        Some(Excuse::Damage) => "records in Redis whose times lack a write: only a damaged store had it",
        Some(Excuse::LostData) => "records in Redis whose times lack a write: Redis lost data",
        Some(_) => "records in Redis whose times lack a write: the run came to no rest, or is beyond the budget",
    }
}

fn is_imported(op: &Operation<'_>) -> bool {
    matches!(op.call, Call::Import { .. })
}

fn every_stamp(stamps: &Stamps) -> impl Iterator<Item = &str> {
    let fields = stamps.profile.values().chain(stamps.metadata.values());
    let contacts = stamps.contacts.iter().map(|contact| &contact.stamp);
    stamps.existence.iter().chain(fields).chain(contacts).map(String::as_str)
}

/// Whether Redis had a write when it returned.
fn is_in_redis(op: &Operation<'_>) -> bool {
    match op.answer() {
        Some(Answer::Imported { became }) => *became != Imported::Removed && op.may_have_effect(),
        _ => op.acknowledged() == Some(Placement::Shared),
    }
}

/// The times of a record in its JSON form, in milliseconds since 1970.
fn times_of(json: &Json) -> Option<ShownTimes> {
    let time = |field: &str| timestamp::millis(json.get(field)?.as_str()?);
    Some((time("first_revealed_at")?, time("last_updated_at")?))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use crate::{
        checker::{
            Guarantee::Fidelity,
            fixture::{Story, record, stored},
        },
        history::{
            Imported,
            Placement::{Local, Shared},
            Source, Stamps, StoredRecord,
        },
    };

    /// 2026-01-01.
    const START_MS: u64 = 1_767_225_600_000;

    fn told() -> Story {
        let mut story = Story::new(&["p", "p"]);
        story.starts_at_ms(START_MS);
        story
    }

    /// The record with these fields, first and last written so many milliseconds after the start.
    fn timed(fields: &[(&str, u64)], first: u64, last: u64) -> Json {
        let text =
            |ms: u64| json!(format!("2026-01-01T00:{:02}:{:02}.{:03}Z", ms / 60_000, ms / 1_000 % 60, ms % 1_000));
        let mut shown = record("p", "u", fields);
        (shown["first_revealed_at"], shown["last_updated_at"]) = (text(first), text(last));
        shown
    }

    fn reads(mut story: Story, source: Source, shown: Json) -> Story {
        let read = story.get_begins(1, "u");
        story.got_record(read, source, shown);
        story
    }

    fn holds(mut story: Story, shown: Json, stamps: Option<Stamps>) -> Story {
        story.redis_holds(&[StoredRecord { shows: Some(shown.into()), stamps, ..stored("p", "u", &[]) }]);
        story
    }

    /// Two upserts, a second and ten seconds after the start; the second one is of other fields.
    fn written_twice(fields: &[&str]) -> Story {
        let mut story = told();
        story.now_us = 1_000_000;
        story.upsert(0, "u", &["name"], Shared);
        story.now_us = 10_000_000;
        story.upsert(1, "u", fields, Shared);
        story
    }

    #[test]
    fn every_kind_of_upsert_moves_the_last_time_and_leaves_the_first() {
        for fields in [&["@a"][..], &["title"], &["#source"], &["-@a"], &["-title"], &["-#source"], &[]] {
            let shown = |first, last| timed(&[("name", 1)], first, last);
            for source in [Source::Shared, Source::Merged] {
                reads(written_twice(fields), source, shown(1_000, 10_000)).passes(Fidelity);
                let stays = reads(written_twice(fields), source, shown(1_000, 1_000));
                stays.violates(Fidelity, "it was last updated at 1767225601000, but upsert 2", &[2, 3]);
            }
            holds(written_twice(fields), shown(1_000, 10_000), None).passes(Fidelity);
            let stays = holds(written_twice(fields), shown(1_000, 1_000), None);
            stays.violates(Fidelity, "Redis (event 4) shows that it was last updated at", &[2]);
        }
    }

    #[test]
    fn no_write_is_later_than_the_last_time_and_none_earlier_than_the_first() {
        let shown = |first, last| timed(&[("name", 1)], first, last);
        let story = || written_twice(&["title"]);
        reads(story(), Source::Local, shown(1_000, 11_000)).violates(Fidelity, "and all writes by then were", &[3]);
        reads(story(), Source::Local, shown(900, 10_000)).violates(Fidelity, "it was first revealed at", &[3]);
        let overwritten = reads(story(), Source::Shared, shown(10_000, 10_000));
        overwritten.violates(Fidelity, "it was first revealed at 1767225610000, but upsert 1", &[1, 3]);
    }

    #[test]
    fn a_copy_has_the_times_of_the_values_that_it_shows_and_of_no_other_for_certain() {
        let old = timed(&[("name", 1)], 1_000, 1_000);
        reads(written_twice(&["title"]), Source::Local, old).passes(Fidelity);
        let new = timed(&[("name", 1), ("title", 2)], 1_000, 1_000);
        reads(written_twice(&["title"]), Source::Local, new).violates(Fidelity, "it was last updated at", &[2, 3]);
    }

    #[test]
    fn times_go_by_the_clock_of_the_instance_that_wrote() {
        for (offset_ms, is_right) in [(0, false), (5_000, true)] {
            let mut story = told();
            story.clock_steps(0, offset_ms);
            story.now_us = 1_000_000;
            let write = story.upsert(0, "u", &["name"], Shared);
            let story = reads(story, Source::Shared, timed(&[("name", write)], 6_000, 6_000));
            if is_right {
                story.passes(Fidelity);
            } else {
                story.violates(Fidelity, "and all writes by then were", &[2]);
            }
        }
    }

    #[test]
    fn a_write_that_redis_lost_may_be_missing_from_the_times_until_copies_bring_it_back() {
        let old = || timed(&[("name", 1)], 1_000, 1_000);
        let mut story = written_twice(&["-title"]);
        story.loss();
        reads(story, Source::Shared, old()).passes(Fidelity);
        let mut story = written_twice(&["-title"]);
        story.loss();
        holds(story, old(), None).violates(Fidelity, "it was last updated at", &[2]);
    }

    #[test]
    fn the_times_of_a_local_write_are_in_redis_in_the_end() {
        for (placement, by) in [(Local, Some(2)), (Shared, Some(2))] {
            let mut story = told();
            story.now_us = 1_000_000;
            story.upsert(0, "u", &["name"], Shared);
            story.now_us = 10_000_000;
            story.upsert(1, "u", &["-title"], placement);
            let story = holds(story, timed(&[("name", 1)], 1_000, 1_000), None);
            story.violates(Fidelity, "it was last updated at", &by.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_cell_under_the_stamp_of_a_write_tells_that_its_times_came_with_it() {
        let mut story = told();
        story.now_us = 1_000_000;
        let write = story.upsert(0, "u", &["name"], Shared);
        story.now_us = 10_000_000;
        let removes = story.upsert_begins(1, "u", &["-title"]);
        story.stamped(removes, Shared, "02");
        story.loss();
        story.remove_begins(1, "u");
        let stamps = |stamp: &str| Stamps { existence: Some(stamp.to_owned()), ..Stamps::default() };
        let shown = || timed(&[("name", write)], 1_000, 1_000);
        let lacks = holds(story, shown(), Some(stamps("02")));
        lacks.violates(Fidelity, "it was last updated at", &[removes]);
    }

    #[test]
    fn an_import_brings_its_own_times() {
        let mut story = told();
        story.now_us = 1_000_000;
        let import = story.import(0, "u", &["name"], Imported::Created);
        let mut shown = record("p", "u", &[("name", import)]);
        shown["first_revealed_at"] = json!("1970-01-01T00:00:00.001Z");
        shown["last_updated_at"] = json!("1970-01-01T00:00:00.002Z");
        reads(story, Source::Shared, shown.clone()).passes(Fidelity);
        let mut story = told();
        story.import(0, "u", &["name"], Imported::Created);
        shown["last_updated_at"] = json!("1970-01-01T00:00:00.001Z");
        reads(story, Source::Shared, shown).violates(Fidelity, "it was last updated at 1, but import 1", &[1, 2]);
    }
}
