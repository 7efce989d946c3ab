//! A history as the checkers use it: calls paired with their returns, and who wrote, removed and read each record.
//!
//! Built once for all checkers. What contradicts itself is not repaired: the history is then judged unknown.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde_json::Value as Json;

use super::{
    cells::{self, Cell, Valued},
    excuses::Excuses,
    lives::Expiry,
    stored::{Place, Stored},
};
use crate::history::{
    Answer, Call, Event, FORMAT, History, Outcome, Patch, Phase, Placement, RecordName, Source, Stop, StoredRecord,
    What,
};

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
    pub(super) expiry: Expiry,
    /// When the contents of Redis were noted: ordinal and time.
    pub(super) redis_noted: Option<(u64, u64)>,
    /// What stopped: ordinal, instance, how.
    pub(super) stops: Vec<(u64, u32, Stop)>,
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
    /// The record that it is about; none for `list`, `clear` and `sync`.
    pub(super) record: Option<usize>,
    /// What an upsert writes, existence left out.
    pub(super) writes: Vec<Write<'h>>,
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
    by_cell: BTreeMap<Cell<'h>, usize>,
}

/// The index of [`Cell::Existence`] in every record.
pub(super) const EXISTENCE: usize = 0;

impl<'h> Operations<'h> {
    pub(super) fn of(history: &'h History) -> Self {
        let mut indexer = Indexer::new(history);
        indexer.events();
        let mut this = indexer.found;
        this.attach();
        this.expiry = Expiry::of(&this);
        this
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

    /// Whether Redis lost data between two ordinals.
    pub(super) fn lost_between(&self, from: u64, to: u64) -> bool {
        self.losses.iter().any(|&loss| from < loss && loss < to)
    }

    /// The reason that an instance gave for not coming to rest.
    pub(super) fn unquiet(&self) -> Option<String> {
        self.history.events.iter().find_map(|event| match &event.what {
            What::Unquiet { instance, reason } => Some(format!("instance {instance} did not come to rest: {reason}")),
            _ => None,
        })
    }

    /// The upserts that may have written a cell, with their tags; for existence all of them, without.
    pub(super) fn writers<'a>(
        &'a self,
        record: &'a Record<'h>,
        cell: usize,
    ) -> impl Iterator<Item = (Seen, &'a Operation<'h>)> {
        let tagged = record.writers.range((cell, 0)..=(cell, u64::MAX));
        let tagged = tagged.map(|(&(_, tag), &op)| (Seen::Tagged(tag), &self.all[op]));
        let existence = record.upserts.iter().filter(move |_| cell == EXISTENCE);
        let existence = existence.map(|&op| (Seen::Present, &self.all[op]));
        existence.chain(tagged).filter(|(_, op)| op.may_have_effect())
    }

    fn attach(&mut self) {
        let records = &mut self.records;
        for record in &mut *records {
            let cells = record.cells.len();
            let stored = record.stored.iter_mut().chain(&mut record.spared);
            stored.for_each(|stored| stored.shown.resize(cells, Seen::Absent));
        }
        for (index, op) in self.all.iter_mut().enumerate() {
            match (op.call, op.record) {
                (Call::Upsert { .. }, Some(record)) => {
                    for write in &op.writes {
                        let other = records[record].writers.insert((write.cell, write.tag), index);
                        if other.is_some_and(|other| other != index) {
                            let tag = write.tag;
                            self.untagged.get_or_insert_with(|| format!("two upserts write the tag {tag} to one cell"));
                        }
                    }
                    if op.may_have_effect() {
                        records[record].upserts.push(index);
                    }
                }
                (Call::Remove { .. }, Some(record)) if op.may_have_effect() => records[record].removals.push(index),
                (Call::Get { .. }, Some(record)) if op.source().is_some() => {
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
    }

    /// Where a write was acknowledged, if it was.
    pub(super) fn acknowledged(&self) -> Option<Placement> {
        match self.answer()? {
            Answer::Written { placement, .. } | Answer::Cleared { placement, .. } => Some(*placement),
            Answer::Read { .. } | Answer::Listed { .. } | Answer::Synced { .. } => None,
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
            Call::Remove { .. } => "remove",
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
                Answer::Synced { .. } => f.write_str("Ok)"),
            },
        }
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

struct Indexer<'h> {
    found: Operations<'h>,
    by_number: BTreeMap<u64, usize>,
    by_uid: BTreeMap<(&'h str, &'h str), usize>,
    phase: Option<Phase>,
}

impl<'h> Indexer<'h> {
    fn new(history: &'h History) -> Self {
        let found = Operations {
            history,
            all: Vec::with_capacity(history.events.len() / 2),
            records: Vec::new(),
            losses: Vec::new(),
            lost_records: BTreeMap::new(),
            excuses: Excuses::of(&history.events),
            expiry: Expiry::default(),
            redis_noted: None,
            stops: Vec::new(),
            malformed: None,
            untagged: None,
        };
        Self { found, by_number: BTreeMap::new(), by_uid: BTreeMap::new(), phase: None }
    }

    fn events(&mut self) {
        let History { header, events } = self.found.history;
        if header.format != FORMAT {
            self.malformed(format!("it has format {}, this is a judge of format {FORMAT}", header.format));
        }
        if let Some(pair) = events.windows(2).find(|pair| pair[0].ordinal >= pair[1].ordinal) {
            self.malformed(format!("the event after {} has ordinal {}", pair[0].ordinal, pair[1].ordinal));
        }
        for event in events {
            let (ordinal, at_us) = (event.ordinal, event.at_us);
            match &event.what {
                What::Phase { phase } => self.phase = Some(*phase),
                What::Stopped { instance, how } => self.found.stops.push((ordinal, *instance, *how)),
                What::RedisLostData => self.found.losses.push(ordinal),
                What::Invoke { instance, op, call } => self.invoke(ordinal, at_us, *instance, *op, call),
                What::Complete { instance, op, outcome } => {
                    self.complete(*instance, *op, End { ordinal, at_us, outcome });
                }
                What::RedisLostRecords { records } => {
                    self.found.losses.push(ordinal);
                    self.found.lost_records.insert(ordinal, records);
                }
                What::Cancelled { instance, op } => self.cancelled(ordinal, *instance, *op),
                What::RedisHolds { .. } => self.found.redis_noted = Some((ordinal, at_us)),
                What::Started { .. }
                | What::State { .. }
                | What::FaultBegin { .. }
                | What::FaultEnd { .. }
                | What::StoreDamaged { .. }
                | What::StoreReport { .. }
                | What::OpenFailed { .. }
                | What::Holds { .. }
                | What::Attempts { .. }
                | What::StoreHolds { .. }
                | What::Unquiet { .. } => {}
            }
        }
        for index in 0..self.found.all.len() {
            self.cells(index);
        }
        let mut damaged = BTreeSet::new();
        for event in events {
            match &event.what {
                What::RedisHolds { keys } => {
                    for record in keys.iter().flat_map(|key| &key.records) {
                        let (record, stored) = self.stored(event, Place::Redis, record);
                        record.stored.push(stored);
                    }
                }
                What::StoreDamaged { instance } => drop(damaged.insert(instance)),
                What::Started { instance } => drop(damaged.remove(instance)),
                What::StoreHolds { instance, entries } => {
                    for entry in entries {
                        let (record, stored) = self.stored(event, Place::Store(*instance), &entry.record);
                        let noted = if damaged.contains(instance) { &mut record.spared } else { &mut record.stored };
                        noted.push(stored);
                    }
                }
                _ => {}
            }
        }
    }

    fn stored(&mut self, noted: &Event, place: Place, stored: &'h StoredRecord) -> (&mut Record<'h>, Stored<'h>) {
        let index = self.record(&stored.prefix, &stored.uid);
        let record = &mut self.found.records[index];
        let (shown, values) = stored.shows.as_deref().map_or_else(Default::default, |json| shown(record, json));
        (record, Stored { place, ordinal: noted.ordinal, at_us: noted.at_us, record: stored, shown, values })
    }

    fn malformed(&mut self, why: String) {
        self.found.malformed.get_or_insert(why);
    }

    fn invoke(&mut self, ordinal: u64, at_us: u64, instance: u32, number: u64, call: &'h Call) {
        let Some(prefix) = self.found.history.header.prefixes.get(instance as usize) else {
            return self
                .malformed(format!("event {ordinal} is of instance {instance}, which the header does not have"));
        };
        if self.by_number.insert(number, self.found.all.len()).is_some() {
            return self.malformed(format!("operation {number} is invoked twice, the second time at event {ordinal}"));
        }
        let record = match call {
            Call::Upsert { uid, .. } | Call::Get { uid } | Call::Remove { uid } => Some(self.record(prefix, uid)),
            Call::List | Call::Clear | Call::Sync => None,
        };
        if let Some(record) = record {
            self.found.records[record].is_asked_for = true;
        }
        self.found.all.push(Operation {
            number,
            instance,
            prefix,
            call,
            called: ordinal,
            called_at_us: at_us,
            end: None,
            is_cancelled: false,
            is_final: self.phase == Some(Phase::FinalReads),
            record,
            writes: Vec::new(),
            shown: Vec::new(),
            values: Vec::new(),
        });
    }

    fn complete(&mut self, instance: u32, number: u64, end: End<'h>) {
        let ordinal = end.ordinal;
        let op = self.by_number.get(&number).map(|&index| &mut self.found.all[index]);
        let Some(op) = op.filter(|op| op.instance == instance && op.end.is_none()) else {
            let why = format!("event {ordinal} completes operation {number}, which instance {instance} is not running");
            return self.malformed(why);
        };
        op.end = Some(end);
        if op.answer().is_some_and(|answer| !fits(op.call, answer)) {
            self.malformed(format!("event {ordinal} answers operation {number} with what it did not ask for"));
        }
    }

    fn cancelled(&mut self, ordinal: u64, instance: u32, number: u64) {
        let op = self.by_number.get(&number).map(|&index| &mut self.found.all[index]);
        match op.filter(|op| op.instance == instance && op.end.is_none()) {
            Some(op) => op.is_cancelled = true,
            None => self.malformed(format!("event {ordinal} cancels operation {number}, which is not running")),
        }
    }

    fn record(&mut self, prefix: &'h str, uid: &'h str) -> usize {
        let records = &mut self.found.records;
        *self.by_uid.entry((prefix, uid)).or_insert_with(|| {
            records.push(Record {
                prefix,
                uid,
                is_asked_for: false,
                cells: vec![Cell::Existence],
                upserts: Vec::new(),
                removals: Vec::new(),
                reads: Vec::new(),
                stored: Vec::new(),
                spared: Vec::new(),
                read_last: None,
                writers: BTreeMap::new(),
                by_cell: BTreeMap::new(),
            });
            records.len() - 1
        })
    }

    fn cells(&mut self, index: usize) {
        let (earlier, later) = self.found.all.split_at_mut(index);
        let op = &mut later[0];
        let Some(record) = op.record.map(|record| &mut self.found.records[record]) else { return };
        if let Call::Upsert { patch, .. } = op.call {
            match written(record, patch) {
                Ok(writes) => op.writes = writes,
                // What was refused had no effect, whatever it was.
                Err(_) if !op.may_have_effect() => {}
                Err(why) => {
                    self.found.untagged.get_or_insert(format!("upsert {}: {why}", op.number));
                }
            }
        } else if let Some(json) = op.record_read() {
            let last = record.read_last.replace(index).map(|last| &earlier[last]);
            // Most reads show what the last one showed, and share it.
            if let Some(last) = last.filter(|last| last.record_read().is_some_and(|shown| std::ptr::eq(shown, json))) {
                op.shown.clone_from(&last.shown);
                op.values.clone_from(&last.values);
                return;
            }
            (op.shown, op.values) = shown(record, json);
        }
    }
}

impl<'h> Record<'h> {
    fn cell(&mut self, cell: Cell<'h>) -> usize {
        let cells = &mut self.cells;
        *self.by_cell.entry(cell).or_insert_with(|| {
            cells.push(cell);
            cells.len() - 1
        })
    }
}

/// What a record shows in each cell, and its values as they stand in it.
fn shown<'h>(record: &mut Record<'h>, json: &'h Json) -> (Vec<Seen>, Vec<(usize, &'h Json)>) {
    let mut shown = vec![Seen::Absent; record.cells.len()];
    shown[EXISTENCE] = Seen::Present;
    let cells = cells::of_record(json);
    let mut values = Vec::with_capacity(cells.len());
    for valued in cells {
        let cell = record.cell(valued.cell);
        if cell >= shown.len() {
            shown.resize(cell + 1, Seen::Absent);
        }
        shown[cell] = seen(record, &valued);
        values.push((cell, valued.value));
    }
    (shown, values)
}

fn written<'h>(record: &mut Record<'h>, patch: &'h Patch) -> Result<Vec<Write<'h>>, String> {
    let cells = cells::of_patch(patch)?;
    let mut writes: Vec<Write<'h>> = Vec::with_capacity(cells.len());
    for valued in &cells {
        let Seen::Tagged(tag) = seen(record, valued) else {
            return Err(format!("{} is written without a tag of this record", valued.cell));
        };
        let cell = record.cell(valued.cell);
        if writes.iter().any(|write| write.cell == cell && write.tag != tag) {
            return Err(format!("{} is written twice, with two tags", valued.cell));
        }
        writes.push(Write { cell, tag, value: valued.value });
    }
    Ok(writes)
}

fn seen(record: &Record<'_>, valued: &Valued<'_>) -> Seen {
    match valued.tag {
        Some(tag) if tag.prefix == record.prefix && tag.uid == record.uid => Seen::Tagged(tag.op),
        _ => Seen::Stray,
    }
}

fn fits(call: &Call, answer: &Answer) -> bool {
    matches!(
        (call, answer),
        (Call::Upsert { .. } | Call::Remove { .. }, Answer::Written { .. })
            | (Call::Get { .. }, Answer::Read { .. })
            | (Call::List, Answer::Listed { .. })
            | (Call::Clear, Answer::Cleared { .. })
            | (Call::Sync, Answer::Synced { .. })
    )
}
