//! G5 by stamps alone, for a subject that has them: a cross-check that needs neither time nor order.
//!
//! Every cell of an acknowledged upsert, written or removed by it, is in Redis in the end at its stamp or above, or lies at or below a
//! removal, or its life was over, or it may be lost because only a damaged store had it. Each cell that is missing in Redis is counted
//! by its reason, so that a pass shows how many cells it covers. A tombstone in Redis has to be that of a removal in the history:
//! lives end without one.

use std::collections::BTreeMap;

use super::{
    Account, Excuse, Verdict,
    cells::RecordCell,
    expiry::Standing,
    life::Doubt,
    operation::{EXISTENCE, Operation, numbers},
    operations::Operations,
    order::certainly_below,
    record::RecordHistory,
    stored::{Place, Stored},
};
use crate::history::Stamps;

/// Why an acknowledged cell need not be lost, though Redis does not hold its value, or that it does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reason {
    AtItsStamp,
    BelowALargerStamp,
    Removed,
    LifeOver,
    LifeMayBeOver(Doubt),
    StoreDamaged,
    GivenUp,
}

/// The stamps of the cells of one record in Redis; of none if Redis has no such key.
struct InRedis<'a> {
    stamps: Option<&'a Stamps>,
    contacts: BTreeMap<(&'a str, &'a str), &'a str>,
}

/// Counts the acknowledged upserts with a stamp; what became of their cells is noted. The others are for `durability` to count.
pub(super) fn check(run: &Operations<'_>, account: &mut Account) -> Verdict {
    let (mut counts, mut found) = (BTreeMap::new(), None);
    let Some((_, noted_us)) = run.redis_noted else { return Verdict::Pass };
    for record in run.records.iter().filter(|record| is_crossed(run, record)) {
        let in_redis = InRedis::new(in_redis(record).and_then(|stored| stored.record.stamps.as_ref()));
        found = found.or_else(|| foreign_tombstone(run, record, &in_redis));
        for upsert in record.upserts.iter().map(|&op| &run.all[op]) {
            let Some(stamp) = upsert.stamp().filter(|_| upsert.acknowledged().is_some()) else { continue };
            let mut worst = None;
            let removes = upsert.removes.iter().copied();
            for cell in upsert.writes.iter().map(|write| write.cell).chain(removes).chain([EXISTENCE]) {
                match reason(run, record, upsert, (in_redis.of(&record.cells[cell]), stamp), noted_us) {
                    Some(reason) => {
                        *counts.entry(reason).or_default() += 1;
                        worst = worst.max(Some(reason));
                    }
                    None => {
                        found.get_or_insert_with(|| lost(record, upsert, cell, &in_redis, stamp));
                    }
                }
            }
            account.count(worst.and_then(Reason::excuse));
        }
    }
    for (reason, count) in counts {
        account.note(reason.text(), count);
    }
    found.unwrap_or(Verdict::Pass)
}

/// Whether the stamps of a record are looked at: not if Redis holds it in another form, or the subject has none.
pub(super) fn is_crossed(run: &Operations<'_>, record: &RecordHistory<'_>) -> bool {
    run.redis_noted.is_some() && in_redis(record).is_none_or(|stored| stored.record.stamps.is_some())
}

fn in_redis<'a, 'h>(record: &'a RecordHistory<'h>) -> Option<&'a Stored<'h>> {
    record.stored.iter().find(|stored| stored.place == Place::Redis)
}

fn reason(
    run: &Operations<'_>,
    record: &RecordHistory<'_>,
    upsert: &Operation<'_>,
    (held, stamp): (Option<&str>, &str),
    noted_us: u64,
) -> Option<Reason> {
    match held {
        Some(held) if held == stamp => return Some(Reason::AtItsStamp),
        Some(held) if held > stamp => return Some(Reason::BelowALargerStamp),
        Some(_) | None => {}
    }
    let removals = record.removals.iter().map(|&op| &run.all[op]);
    let covers = |removal: &Operation<'_>| match removal.stamp() {
        Some(of_removal) => stamp <= of_removal,
        // Of one that answered without a stamp, or not at all, only its order is known.
        None => certainly_below(run, removal, upsert).is_none(),
    };
    if removals.into_iter().any(covers) {
        return Some(Reason::Removed);
    }
    match run.standing(upsert, noted_us) {
        Standing::Over => Some(Reason::LifeOver),
        Standing::MayBeOver(doubt) => Some(Reason::LifeMayBeOver(doubt)),
        Standing::Lives if run.is_given_up(record, upsert) => Some(Reason::GivenUp),
        Standing::Lives => (!run.must_stay(record, upsert)).then_some(Reason::StoreDamaged),
    }
}

fn lost(
    record: &RecordHistory<'_>,
    upsert: &Operation<'_>,
    cell: usize,
    in_redis: &InRedis<'_>,
    stamp: &str,
) -> Verdict {
    let holds = match in_redis.of(&record.cells[cell]) {
        Some(held) => format!("the smaller stamp {held}"),
        None => "none".to_owned(),
    };
    let place = record.name(cell);
    let message = format!(
        "{place}: {upsert} was acknowledged under the stamp {stamp}, and in the end Redis holds {holds}, \
         although it was not removed and its life was not over"
    );
    Verdict::Violation { message, ops: numbers(&[upsert]) }
}

/// A tombstone that no removal in the history can have left.
fn foreign_tombstone(run: &Operations<'_>, record: &RecordHistory<'_>, in_redis: &InRedis<'_>) -> Option<Verdict> {
    let tombstone = in_redis.stamps?.removed.as_deref()?;
    let may_be_its = |removal: &Operation<'_>| removal.stamp().is_none_or(|stamp| stamp == tombstone);
    if record.removals.iter().any(|&op| may_be_its(&run.all[op])) {
        return None;
    }
    let message = format!("{record}: Redis holds a tombstone under the stamp {tombstone}, which no removal left");
    Some(Verdict::Violation { message, ops: Vec::new() })
}

impl<'a> InRedis<'a> {
    fn new(stamps: Option<&'a Stamps>) -> Self {
        let contacts = stamps.iter().flat_map(|stamps| &stamps.contacts);
        let contacts = contacts.map(|of| ((of.kind.as_str(), of.value.as_str()), of.stamp.as_str())).collect();
        Self { stamps, contacts }
    }

    fn of(&self, cell: &RecordCell<'_>) -> Option<&'a str> {
        let stamps = self.stamps?;
        match cell {
            RecordCell::Existence => stamps.existence.as_deref(),
            RecordCell::Contact { kind, value } => self.contacts.get(&(*kind, *value)).copied(),
            RecordCell::Profile(field) => stamps.profile.get(*field).map(String::as_str),
            RecordCell::Metadata(field) => stamps.metadata.get(*field).map(String::as_str),
        }
    }
}

impl Reason {
    fn excuse(self) -> Option<Excuse> {
        match self {
            Self::AtItsStamp | Self::BelowALargerStamp | Self::Removed | Self::LifeOver => None,
            Self::LifeMayBeOver(_) => Some(Excuse::Expiry),
            Self::StoreDamaged => Some(Excuse::Damage),
            Self::GivenUp => Some(Excuse::LostData),
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::AtItsStamp => "in Redis at its stamp",
            Self::BelowALargerStamp => "written again above it",
            Self::Removed => "removed",
            Self::LifeOver => "not in Redis: its life was over",
            Self::LifeMayBeOver(Doubt::NearItsEnd) => "not in Redis: its life was near its end",
            Self::LifeMayBeOver(Doubt::WrongClock) => "not in Redis: written by a wrong clock before Redis was met",
            Self::LifeMayBeOver(Doubt::RedisStepped) => "not in Redis: written while Redis's clock stepped",
            Self::LifeMayBeOver(Doubt::NotRenewed) => "not in Redis: what renewed its life may be lost or removed",
            Self::StoreDamaged => "not in Redis: only a damaged store had it",
            Self::GivenUp => "not in Redis: lost there, and copies are set to yield",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        checker::{
            Guarantee::{self, Durability},
            fixture::{Story, stored},
            judge,
        },
        history::{
            Phase,
            Placement::{Local, Shared},
            Source, StoredRecord,
        },
    };

    /// A record of one field in Redis, its cells under these stamps.
    fn held(existence: Option<&str>, name: Option<&str>, removed: Option<&str>, by: u64) -> StoredRecord {
        let text = |stamp: Option<&str>| stamp.map(str::to_owned);
        let profile = name.map(|stamp| ("name".to_owned(), stamp.to_owned())).into_iter().collect();
        let stamps = Stamps { removed: text(removed), existence: text(existence), profile, ..Stamps::default() };
        StoredRecord { stamps: Some(stamps), ..stored("p", "u", &[("name", by)]) }
    }

    fn counted(story: &Story) -> Vec<(String, u64)> {
        let judged = judge(&story.told());
        let durability = judged.into_iter().find(|judgement| judgement.guarantee == Guarantee::Durability);
        let notes = durability.expect("it is judged").account.notes;
        notes.into_iter().map(|(text, count)| (text.into_owned(), count)).collect()
    }

    #[test]
    fn a_cell_that_redis_does_not_hold_at_its_stamp_is_lost() {
        for (placement, lost) in [(Shared, held(Some("2"), None, None, 1)), (Local, held(None, Some("1"), None, 1))] {
            let mut story = Story::new(&["p"]);
            let write = story.upsert_begins(0, "u", &["name"]);
            story.stamped(write, placement, "2");
            story.phase(Phase::FinalReads);
            story.get(0, "u", Source::Shared, &[("name", write)]);
            story.redis_holds(&[lost]);
            story.violates(Durability, "acknowledged under the stamp 2", &[write]);
        }
    }

    #[test]
    fn a_record_that_redis_does_not_hold_at_all_is_lost() {
        let mut story = Story::new(&["p"]);
        let write = story.upsert_begins(0, "u", &["name"]);
        story.stamped(write, Shared, "2");
        story.phase(Phase::FinalReads);
        story.get(0, "u", Source::Shared, &[("name", write)]);
        story.redis_holds(&[]);
        story.violates(Durability, "Redis holds none", &[write]);
    }

    #[test]
    fn what_is_kept_written_again_or_removed_is_counted_as_that() {
        let mut story = Story::new(&["p"]);
        let [first, removal, second, third] = [
            story.upsert_begins(0, "u", &["name", "#gone"]),
            story.remove_begins(0, "u"),
            story.upsert_begins(0, "u", &["name"]),
            story.upsert_begins(0, "u", &["name"]),
        ];
        for (op, stamp) in [(first, "1"), (removal, "2"), (second, "3"), (third, "4")] {
            story.stamped(op, Shared, stamp);
        }
        story.phase(Phase::FinalReads);
        story.get(0, "u", Source::Shared, &[("name", third)]);
        story.redis_holds(&[held(Some("4"), Some("4"), Some("2"), third)]);
        story.passes(Durability);
        let expected = [("in Redis at its stamp", 2), ("removed", 1), ("written again above it", 4)];
        assert_eq!(counted(&story), expected.map(|(text, count)| (text.to_owned(), count)));
    }

    #[test]
    fn a_tombstone_that_no_removal_left_is_a_violation() {
        for removes in [false, true] {
            let mut story = Story::new(&["p"]);
            story.expires_after_ms(1_000);
            let write = story.upsert_begins(0, "u", &["name"]);
            story.stamped(write, Shared, "1");
            if removes {
                let removal = story.remove_begins(0, "u");
                story.stamped(removal, Shared, "2");
            }
            story.now_us += 10_000_000;
            story.phase(Phase::FinalReads);
            story.get_none(0, "u", Source::Shared);
            let buried = StoredRecord { shows: None, ..held(None, None, Some("1"), write) };
            story.redis_holds(&[buried]);
            story.violates(Durability, "which no removal left", &[]);
        }
    }

    #[test]
    fn a_life_that_is_over_is_counted_apart_from_one_that_may_be() {
        for (after_us, said) in [(20_000_000, "its life was over"), (9_500_000, "its life was near its end")] {
            let mut story = Story::new(&["p"]);
            story.expires_after_ms(10_000);
            let write = story.upsert_begins(0, "u", &["name"]);
            story.stamped(write, Shared, "1");
            story.now_us += after_us;
            story.phase(Phase::FinalReads);
            story.get_none(0, "u", Source::Shared);
            story.redis_holds(&[]);
            story.passes(Durability);
            assert_eq!(counted(&story), [(format!("not in Redis: {said}"), 2)]);
        }
    }

    #[test]
    fn a_subject_without_stamps_is_not_cross_checked() {
        let mut story = Story::new(&["p"]);
        let write = story.upsert(0, "u", &["name"], Shared);
        story.phase(Phase::FinalReads);
        story.get(0, "u", Source::Shared, &[("name", write)]);
        story.redis_holds(&[]);
        story.passes(Durability);
        assert_eq!(counted(&story), []);
    }
}
