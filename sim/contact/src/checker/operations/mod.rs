//! A history as the checkers use it: calls paired with their returns, and who wrote, removed and read each record.
//!
//! Built once for all checkers. What contradicts itself is not repaired: the history is then judged unknown.

mod indexer;

use std::collections::BTreeMap;

use self::indexer::Indexer;
use super::{
    clocks::Clocks,
    excuses::Excuses,
    life::Expiry,
    operation::{EXISTENCE, Operation, Seen},
    record::RecordHistory,
};
use crate::history::{Call, History, ReadOfOne, RecordName, Source, Stop, What};

/// A history, indexed. Operations, records and cells are known by their index.
pub(super) struct Operations<'h> {
    pub(super) history: &'h History,
    /// In the order of their calls.
    pub(super) all: Vec<Operation<'h>>,
    pub(super) records: Vec<RecordHistory<'h>>,
    /// The ordinals at which Redis lost data.
    pub(super) losses: Vec<u64>,
    /// The records that it lost, where it did not lose all.
    lost_records: BTreeMap<u64, &'h [RecordName]>,
    pub(super) excuses: Excuses,
    pub(super) clocks: Clocks,
    pub(super) expiry: Expiry,
    /// When the contents of Redis were noted: ordinal and time.
    pub(super) redis_noted: Option<(u64, u64)>,
    /// What stopped: ordinal, instance, how.
    pub(super) stops: Vec<(u64, u32, Stop)>,
    /// Copies of what Redis had acknowledged yield to its losses, and it never went back to an older state.
    pub(super) copies_yield: bool,
    /// What reads of many answered: the first operation of each, and all of its answer.
    pub(super) many: Vec<(usize, &'h [ReadOfOne])>,
    /// Why the history cannot be judged at all.
    pub(super) malformed: Option<String>,
    /// Why writes cannot be told apart by their values.
    pub(super) untagged: Option<String>,
}

/// The default of the client for [`Operations::tombstone_ttl_ms`]: thirty days.
const TOMBSTONE_TTL_MS: i64 = 30 * 24 * 3_600 * 1_000;

impl<'h> Operations<'h> {
    /// Of a history, but for the lives of its upserts.
    pub(super) fn without_lives(history: &'h History) -> Self {
        let mut indexer = Indexer::new(history);
        indexer.events();
        let mut this = indexer.found;
        this.attach();
        this.clocks = Clocks::of(history, &this.all);
        this
    }

    /// What a right clock shows at the start, in milliseconds since 1970, if the history tells it.
    pub(super) fn starts_at_ms(&self) -> Option<i64> {
        self.history.header.starts_at_ms.and_then(|ms| i64::try_from(ms).ok())
    }

    /// How long a removal is remembered, and with it the key of a record that is over.
    pub(super) fn tombstone_ttl_ms(&self) -> i64 {
        self.history.header.tuning.tombstone_ttl_ms.map_or(TOMBSTONE_TTL_MS, |ms| i64::try_from(ms).unwrap_or(i64::MAX))
    }

    /// The final reads that answered from Redis alone, record by record.
    pub(super) fn final_reads<'a>(&'a self, record: &'a RecordHistory<'h>) -> impl Iterator<Item = &'a Operation<'h>> {
        let reads = record.reads.iter().map(|&read| &self.all[read]);
        reads.filter(|read| read.is_final && read.source() == Some(Source::Shared))
    }

    /// The ordinals at which Redis lost this record.
    pub(super) fn losses_of<'a>(&'a self, record: &'a RecordHistory<'h>) -> impl Iterator<Item = u64> + 'a {
        let names = |name: &RecordName| name.prefix == record.prefix && name.uid == record.uid;
        let lost = move |loss: &u64| self.lost_records.get(loss).is_none_or(|records| records.iter().any(names));
        self.losses.iter().copied().filter(lost)
    }

    /// The ordinals at which a process of an instance ended without closing its cache.
    pub(super) fn crashes(&self, instance: u32) -> impl Iterator<Item = u64> {
        let stops = self.stops.iter().filter(move |(_, of, _)| *of == instance);
        stops.filter(|(_, _, how)| matches!(how, Stop::Killed | Stop::PowerLost)).map(|&(at, ..)| at)
    }

    /// Whether Redis lost data between two ordinals.
    pub(super) fn lost_between(&self, from: u64, to: u64) -> bool {
        self.losses.iter().any(|&loss| from < loss && loss < to)
    }

    /// Whether a write may be given up, since Redis lost the record after it was called and copies yield to such a loss.
    pub(super) fn is_given_up(&self, record: &RecordHistory<'h>, write: &Operation<'h>) -> bool {
        self.history.header.tuning.accepts_losses && self.losses_of(record).any(|loss| write.called < loss)
    }

    /// The reason that an instance gave for not coming to rest.
    pub(super) fn unquiet(&self) -> Option<String> {
        self.history.events.iter().find_map(|event| match &event.what {
            What::Unquiet { instance, reason } => Some(format!("instance {instance} did not come to rest: {reason}")),
            _ => None,
        })
    }

    /// The upserts and imports that may have written a cell, with their tags; for existence all of them, without.
    pub(super) fn writers<'a>(
        &'a self,
        record: &'a RecordHistory<'h>,
        cell: usize,
    ) -> impl Iterator<Item = (Seen, &'a Operation<'h>)> {
        let tagged = record.writers.range((cell, 0)..=(cell, u64::MAX));
        let tagged = tagged.map(|(&(_, tag), &op)| (Seen::Tagged(tag), &self.all[op]));
        let existence = record.upserts.iter().chain(&record.imports).filter(move |_| cell == EXISTENCE);
        let existence = existence.map(|&op| (Seen::Present, &self.all[op]));
        existence.chain(tagged).filter(|(_, op)| op.may_have_effect())
    }

    /// What removed a cell, or may have: removals of the record, and upserts that remove this cell of it.
    pub(super) fn removers<'a>(
        &'a self,
        record: &'a RecordHistory<'h>,
        cell: usize,
    ) -> impl DoubleEndedIterator<Item = &'a Operation<'h>> {
        let of_cell = record.removers.get(&cell).into_iter().flatten();
        record.removals.iter().chain(of_cell).map(|&op| &self.all[op])
    }

    /// Notes who wrote each value. The same record may be imported again: of two such imports the first that may have had an
    /// effect.
    fn author(&mut self) {
        for (index, op) in self.all.iter().enumerate() {
            let Some(record) = op.record.map(|record| &mut self.records[record]) else { continue };
            for write in op.writes.iter() {
                let author = record.writers.entry((write.cell, write.tag)).or_insert(index);
                let other = &self.all[*author];
                if *author != index && imports_the_same(op.call, other.call) {
                    if !other.may_have_effect() {
                        *author = index;
                    }
                } else if *author != index {
                    let tag = write.tag;
                    self.untagged.get_or_insert_with(|| format!("two upserts write the tag {tag} to one cell"));
                }
            }
        }
    }

    fn attach(&mut self) {
        self.author();
        let records = &mut self.records;
        for record in &mut *records {
            let cells = record.cells.len();
            let stored = record.stored.iter_mut().chain(&mut record.spared);
            stored.for_each(|stored| stored.shown.resize(cells, Seen::Absent));
        }
        for (index, op) in self.all.iter_mut().enumerate() {
            match (op.call, op.record) {
                (Call::Upsert { .. }, Some(record)) if op.may_have_effect() => {
                    records[record].upserts.push(index);
                    for &cell in &op.removes {
                        records[record].removers.entry(cell).or_default().push(index);
                    }
                }
                (Call::Import { .. }, Some(record)) if op.may_have_effect() => records[record].imports.push(index),
                (Call::Remove { .. }, Some(record)) if op.may_have_effect() => records[record].removals.push(index),
                (Call::Get { .. } | Call::GetMany { .. }, Some(record)) if op.source().is_some() => {
                    op.shown.resize(records[record].cells.len(), Seen::Absent);
                    records[record].reads.push(index);
                }
                (Call::Clear, _) if op.may_have_effect() => {
                    let cleared = records.iter_mut().filter(|record| record.prefix == op.prefix);
                    cleared.filter(|record| op.may_clear(record.uid)).for_each(|record| record.removals.push(index));
                }
                _ => {}
            }
        }
    }
}

/// Whether both import, or would import, the same record.
fn imports_the_same(one: &Call, other: &Call) -> bool {
    match (one, other) {
        (Call::Import { uid, patch, .. }, Call::Import { uid: other_uid, patch: other_patch, .. }) => {
            uid == other_uid && patch == other_patch
        }
        _ => false,
    }
}
