//! A history as the checkers use it: calls paired with their returns, and who wrote, removed and read each record.
//!
//! Built once for all checkers. What contradicts itself is not repaired: the history is then judged unknown.

mod indexer;

use std::{collections::BTreeMap, fmt};

use serde_json::Value as Json;

use self::indexer::Indexer;
use super::{cells::Cell, clocks::Clocks, excuses::Excuses, lives::Expiry, stored::Stored};
use crate::history::{Answer, Call, History, Outcome, Placement, ReadOfOne, RecordName, Source, Stop, What};

/// A history, indexed. Operations, records and cells are known by their index.
pub(super) struct Operations<'h> {
    pub(super) history: &'h History,
    /// In the order of their calls.
    pub(super) all: Vec<Operation<'h>>,
    pub(super) records: Vec<Record<'h>>,
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

/// One operation.
pub(super) struct Operation<'h> {
    /// Its number in the history.
    pub(super) number: u64,
    pub(super) instance: u32,
    pub(super) prefix: &'h str,
    pub(super) call: &'h Call,
    pub(super) called: u64,
    pub(super) called_at_us: u64,
    /// None if it never returned.
    pub(super) end: Option<End<'h>>,
    /// Its caller gave it up.
    pub(super) is_cancelled: bool,
    /// Called in the phase of final reads.
    pub(super) is_final: bool,
    /// The record that it is about; none for `list`, `clear` and `sync`. A read of many is one operation a record, all of them
    /// of one number, call and return.
    pub(super) record: Option<usize>,
    /// What an upsert writes, existence left out.
    pub(super) writes: Writes<'h>,
    /// The cells that an upsert removes.
    pub(super) removes: Vec<usize>,
    /// What a get that answered showed, by index of the cell.
    pub(super) shown: Vec<Seen>,
    /// The same, as it stood in the record: cell and value, contact points first and in their order.
    pub(super) values: Vec<(usize, &'h Json)>,
}

/// The return of an operation.
#[derive(Clone, Copy)]
pub(super) struct End<'h> {
    pub(super) ordinal: u64,
    pub(super) at_us: u64,
    pub(super) outcome: &'h Outcome,
}

/// The cells that an upsert writes, in the order of its patch.
#[derive(Default)]
pub(super) struct Writes<'h> {
    all: Vec<Write<'h>>,
    /// Cell and place of each, ascending: a patch may have hundreds of cells.
    by_cell: Vec<(usize, usize)>,
}

/// One cell of an upsert.
pub(super) struct Write<'h> {
    pub(super) cell: usize,
    pub(super) tag: u64,
    pub(super) value: &'h Json,
}

/// What a read showed in one cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Seen {
    Absent,
    /// The record is there; which upsert made it so cannot be told.
    Present,
    /// The value of the write with this tag.
    Tagged(u64),
    /// A value without a tag, or with one of another record: only G7 can say something about it.
    Stray,
}

/// One record under one prefix. Operations that answered `Fail` are in none of the lists.
pub(super) struct Record<'h> {
    pub(super) prefix: &'h str,
    pub(super) uid: &'h str,
    /// Some operation names it; if not, it is only stored.
    pub(super) is_asked_for: bool,
    /// [`Cell::Existence`] is the first.
    pub(super) cells: Vec<Cell<'h>>,
    pub(super) upserts: Vec<usize>,
    /// They lie below all other writes.
    pub(super) imports: Vec<usize>,
    /// Every `remove` and `clear` that removed it or may have.
    pub(super) removals: Vec<usize>,
    /// Every get that answered, in the order of the calls.
    pub(super) reads: Vec<usize>,
    /// Where it was stored in the end, Redis first.
    pub(super) stored: Vec<Stored<'h>>,
    /// What a damaged store still held of it.
    pub(super) spared: Vec<Stored<'h>>,
    /// The last one that showed it, while they are indexed.
    read_last: Option<usize>,
    /// The upsert behind each cell and tag, here even those that answered `Fail`.
    pub(super) writers: BTreeMap<(usize, u64), usize>,
    /// The upserts that remove a cell, or may have.
    removers: BTreeMap<usize, Vec<usize>>,
    by_cell: BTreeMap<Cell<'h>, usize>,
}

/// The default of the client for [`Operations::tombstone_ttl_ms`]: thirty days.
const TOMBSTONE_TTL_MS: i64 = 30 * 24 * 3_600 * 1_000;

/// The index of [`Cell::Existence`] in every record.
pub(super) const EXISTENCE: usize = 0;

impl<'h> Operations<'h> {
    pub(super) fn of(history: &'h History) -> Self {
        let mut indexer = Indexer::new(history);
        indexer.events();
        let mut this = indexer.found;
        this.attach();
        this.clocks = Clocks::of(history, &this.all);
        this.expiry = Expiry::of(&this);
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
    pub(super) fn final_reads<'a>(&'a self, record: &'a Record<'h>) -> impl Iterator<Item = &'a Operation<'h>> {
        let reads = record.reads.iter().map(|&read| &self.all[read]);
        reads.filter(|read| read.is_final && read.source() == Some(Source::Shared))
    }

    /// The ordinals at which Redis lost this record.
    pub(super) fn losses_of<'a>(&'a self, record: &'a Record<'h>) -> impl Iterator<Item = u64> + 'a {
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
    pub(super) fn is_given_up(&self, record: &Record<'h>, write: &Operation<'h>) -> bool {
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
        record: &'a Record<'h>,
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
        record: &'a Record<'h>,
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

impl<'h> Writes<'h> {
    fn new(all: Vec<Write<'h>>) -> Self {
        let mut by_cell: Vec<_> = all.iter().enumerate().map(|(place, write)| (write.cell, place)).collect();
        by_cell.sort_unstable();
        Self { all, by_cell }
    }

    /// The writes to a cell, with their places.
    pub(super) fn to(&self, cell: usize) -> impl Iterator<Item = (usize, &Write<'h>)> {
        let begin = self.by_cell.partition_point(|&(of, _)| of < cell);
        let places = self.by_cell[begin..].iter().take_while(move |(of, _)| *of == cell);
        places.map(|&(_, place)| (place, &self.all[place]))
    }
}

impl<'h> std::ops::Deref for Writes<'h> {
    type Target = [Write<'h>];

    fn deref(&self) -> &[Write<'h>] {
        &self.all
    }
}

impl<'h> Operation<'h> {
    pub(super) fn outcome(&self) -> Option<&'h Outcome> {
        self.end.map(|end| end.outcome)
    }

    pub(super) fn answer(&self) -> Option<&'h Answer> {
        match self.outcome()? {
            Outcome::Ok { answer } => Some(answer),
            Outcome::Fail { .. } | Outcome::Info { .. } => None,
        }
    }

    /// The ordinal of its return, or the end of time.
    pub(super) fn returned(&self) -> u64 {
        self.end.map_or(u64::MAX, |end| end.ordinal)
    }

    /// Whether it returned before `later` was called: only then is their order certain.
    pub(super) fn precedes(&self, later: &Self) -> bool {
        self.returned() < later.called
    }

    pub(super) fn may_have_effect(&self) -> bool {
        !matches!(self.outcome(), Some(Outcome::Fail { .. }))
            && !matches!(self.call, Call::Import { preview: true, .. })
    }

    /// Where a write was acknowledged, if it was.
    pub(super) fn acknowledged(&self) -> Option<Placement> {
        match self.answer()? {
            Answer::Written { placement, .. } | Answer::Cleared { placement, .. } => Some(*placement),
            // It lies below all that is there, so what became of its values is another matter.
            Answer::Imported { .. }
            | Answer::Read { .. }
            | Answer::ReadMany { .. }
            | Answer::Listed { .. }
            | Answer::Synced { .. } => None,
        }
    }

    pub(super) fn stamp(&self) -> Option<&'h str> {
        match self.answer()? {
            Answer::Written { stamp, .. } => stamp.as_deref(),
            _ => None,
        }
    }

    /// Where a read was answered from, if it was.
    pub(super) fn source(&self) -> Option<Source> {
        match self.answer()? {
            Answer::Read { source, .. } => Some(*source),
            _ => None,
        }
    }

    /// The record that a get answered.
    pub(super) fn record_read(&self) -> Option<&'h Json> {
        match self.answer()? {
            Answer::Read { record, .. } => record.as_deref(),
            _ => None,
        }
    }

    /// A `clear` that answered removed what it names and nothing else; any other may have removed everything.
    fn may_clear(&self, uid: &str) -> bool {
        match self.answer() {
            Some(Answer::Cleared { uids, .. }) => uids.iter().any(|cleared| cleared == uid),
            _ => true,
        }
    }

    fn verb(&self) -> &'static str {
        match self.call {
            Call::Upsert { .. } => "upsert",
            Call::Get { .. } => "get",
            Call::GetMany { .. } => "get of many",
            Call::Remove { .. } => "remove",
            Call::Import { .. } => "import",
            Call::List => "list",
            Call::Clear => "clear",
            Call::Sync => "sync",
        }
    }
}

impl fmt::Display for Operation<'_> {
    /// `upsert 17 on instance 0 (events 4 to 6, Shared)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} on instance {} ", self.verb(), self.number, self.instance)?;
        let Some(end) = self.end else { return write!(f, "(called at event {}, never returned)", self.called) };
        write!(f, "(events {} to {}, ", self.called, end.ordinal)?;
        match end.outcome {
            Outcome::Fail { .. } => f.write_str("Fail)"),
            Outcome::Info { .. } => f.write_str("Info)"),
            Outcome::Ok { answer } => match answer {
                Answer::Written { placement, .. } | Answer::Cleared { placement, .. } => write!(f, "{placement:?})"),
                Answer::Read { source, .. } | Answer::Listed { source, .. } => write!(f, "{source:?})"),
                Answer::Imported { became } => write!(f, "{became:?})"),
                Answer::Synced { .. } | Answer::ReadMany { .. } => f.write_str("Ok)"),
            },
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

impl Record<'_> {
    /// The name of a cell for a message.
    pub(super) fn name(&self, cell: usize) -> String {
        match self.cells[cell] {
            Cell::Existence => self.to_string(),
            cell => format!("{cell} of {self}"),
        }
    }
}

impl fmt::Display for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "record {:?} under prefix {:?}", self.uid, self.prefix)
    }
}

/// The numbers of operations, for [`super::Verdict::Violation`]: in the order of their calls, each once.
pub(super) fn numbers(ops: &[&Operation<'_>]) -> Vec<u64> {
    let by_call: BTreeMap<u64, u64> = ops.iter().map(|op| (op.called, op.number)).collect();
    by_call.into_values().collect()
}
