//! How the events of a history become operations, records and cells.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use serde_json::Value as Json;

use super::Operations;
use crate::{
    checker::{
        cells::{self, RecordCell, Valued},
        clocks::Clocks,
        excuses::Excuses,
        life::Expiry,
        operation::{CellWrite, CellWrites, EXISTENCE, Operation, Return, Seen},
        record::RecordHistory,
        stored::{Place, Stored},
    },
    faults::Fault,
    history::{Answer, Call, Event, FORMAT, History, Outcome, Patch, Phase, StoreNow, StoredRecord, What},
};

pub(super) struct Indexer<'h> {
    pub(super) found: Operations<'h>,
    /// The operations of each number: one, or of a read of many one a record.
    by_number: BTreeMap<u64, Range<usize>>,
    by_uid: BTreeMap<(&'h str, &'h str), usize>,
    phase: Option<Phase>,
}

impl<'h> Indexer<'h> {
    pub(super) fn new(history: &'h History) -> Self {
        let found = Operations {
            history,
            all: Vec::with_capacity(history.events.len() / 2),
            records: Vec::new(),
            losses: Vec::new(),
            lost_records: BTreeMap::new(),
            excuses: Excuses::of(&history.events),
            clocks: Clocks::default(),
            expiry: Expiry::default(),
            redis_noted: None,
            stops: Vec::new(),
            copies_yield: copies_yield(history),
            many: Vec::new(),
            malformed: None,
            untagged: None,
        };
        Self { found, by_number: BTreeMap::new(), by_uid: BTreeMap::new(), phase: None }
    }

    pub(super) fn events(&mut self) {
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
                    self.complete(*instance, *op, Return { ordinal, at_us, outcome });
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
                | What::RedisLostKeys { .. }
                | What::OthersWrote { .. }
                | What::StoreChanged { .. }
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
                What::StoreDamaged { instance }
                | What::StoreChanged { instance, now: StoreNow::Copy | StoreNow::Clone } => {
                    damaged.insert(instance);
                }
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

    fn stored(
        &mut self,
        noted: &Event,
        place: Place,
        stored: &'h StoredRecord,
    ) -> (&mut RecordHistory<'h>, Stored<'h>) {
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
        let first = self.found.all.len();
        let count = if let Call::GetMany { uids, .. } = call { uids.len() } else { 1 };
        if self.by_number.insert(number, first..first + count).is_some() {
            return self.malformed(format!("operation {number} is invoked twice, the second time at event {ordinal}"));
        }
        let uids = call.uids();
        let names_once = uids.len() < 2 || uids.iter().collect::<BTreeSet<_>>().len() == uids.len();
        if !names_once || count == 0 {
            return self.malformed(format!("operation {number} asks for a record twice, or for no record"));
        }
        for index in 0..count {
            let record = uids.get(index).map(|uid| self.record(prefix, uid));
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
                writes: CellWrites::default(),
                removes: Vec::new(),
                shown: Vec::new(),
                values: Vec::new(),
            });
        }
    }

    /// The operations of this number, if the instance is running them.
    fn running(&mut self, instance: u32, number: u64) -> Option<&mut [Operation<'h>]> {
        let range = self.by_number.get(&number)?.clone();
        let ops = self.found.all.get_mut(range)?;
        let runs = |op: &Operation<'_>| op.instance == instance && op.end.is_none() && !op.is_cancelled;
        ops.iter().all(runs).then_some(ops)
    }

    fn complete(&mut self, instance: u32, number: u64, end: Return<'h>) {
        let ordinal = end.ordinal;
        let Some(ops) = self.running(instance, number) else {
            let why = format!("event {ordinal} completes operation {number}, which instance {instance} is not running");
            return self.malformed(why);
        };
        if let Outcome::Ok { answer } = end.outcome
            && !fits(ops[0].call, answer)
        {
            return self.malformed(format!("event {ordinal} answers operation {number} with what it did not ask for"));
        }
        for (index, op) in ops.iter_mut().enumerate() {
            let outcome = of_one(op.call, index, end.outcome);
            op.end = Some(Return { outcome, ..end });
        }
        if let Outcome::Ok { answer: Answer::ReadMany { reads } } = end.outcome {
            let first = self.by_number[&number].start;
            self.found.many.push((first, reads));
        }
    }

    fn cancelled(&mut self, ordinal: u64, instance: u32, number: u64) {
        match self.running(instance, number) {
            Some(ops) => ops.iter_mut().for_each(|op| op.is_cancelled = true),
            None => self.malformed(format!("event {ordinal} cancels operation {number}, which is not running")),
        }
    }

    fn record(&mut self, prefix: &'h str, uid: &'h str) -> usize {
        let records = &mut self.found.records;
        *self.by_uid.entry((prefix, uid)).or_insert_with(|| {
            records.push(RecordHistory {
                prefix,
                uid,
                is_asked_for: false,
                cells: vec![RecordCell::Existence],
                upserts: Vec::new(),
                imports: Vec::new(),
                removals: Vec::new(),
                reads: Vec::new(),
                stored: Vec::new(),
                spared: Vec::new(),
                read_last: None,
                writers: BTreeMap::new(),
                removers: BTreeMap::new(),
                by_cell: BTreeMap::new(),
            });
            records.len() - 1
        })
    }

    fn cells(&mut self, index: usize) {
        let (earlier, later) = self.found.all.split_at_mut(index);
        let op = &mut later[0];
        let Some(record) = op.record.map(|record| &mut self.found.records[record]) else { return };
        if let Some(patch) = op.call.patch() {
            op.removes = cells::removed_by(patch).into_iter().map(|cell| record.cell(cell)).collect();
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

impl<'h> RecordHistory<'h> {
    fn cell(&mut self, cell: RecordCell<'h>) -> usize {
        let cells = &mut self.cells;
        *self.by_cell.entry(cell).or_insert_with(|| {
            cells.push(cell);
            cells.len() - 1
        })
    }
}

/// What a record shows in each cell, and its values as they stand in it.
fn shown<'h>(record: &mut RecordHistory<'h>, json: &'h Json) -> (Vec<Seen>, Vec<(usize, &'h Json)>) {
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

fn written<'h>(record: &mut RecordHistory<'h>, patch: &'h Patch) -> Result<CellWrites<'h>, String> {
    let cells = cells::of_patch(patch)?;
    let mut writes: Vec<CellWrite<'h>> = Vec::with_capacity(cells.len());
    for valued in &cells {
        let Seen::Tagged(tag) = seen(record, valued) else {
            return Err(format!("{} is written without a tag of this record", valued.cell));
        };
        let cell = record.cell(valued.cell);
        writes.push(CellWrite { cell, tag, value: valued.value });
    }
    let writes = CellWrites::new(writes);
    let has_two_tags = |write: &CellWrite<'_>| writes.to(write.cell).any(|(_, other)| other.tag != write.tag);
    match writes.iter().position(has_two_tags) {
        Some(place) => Err(format!("{} is written twice, with two tags", cells[place].cell)),
        None => Ok(writes),
    }
}

fn seen(record: &RecordHistory<'_>, valued: &Valued<'_>) -> Seen {
    match valued.tag {
        Some(tag) if tag.prefix == record.prefix && tag.uid == record.uid => Seen::Tagged(tag.op),
        _ => Seen::Stray,
    }
}

fn copies_yield(history: &History) -> bool {
    let goes_back = |event: &Event| {
        let What::FaultBegin { what, .. } = &event.what else { return false };
        matches!(what, Fault::RedisRollback { .. } | Fault::RedisFailover { .. } | Fault::RedisSwap { .. })
    };
    history.header.tuning.accepts_losses && !history.events.iter().any(goes_back)
}

/// What an outcome says of the record at this place in its call: of a read of many that answered, the part about that record.
/// Where it left the record out, it stays the whole, which is no answer of a read.
fn of_one<'h>(call: &Call, index: usize, outcome: &'h Outcome) -> &'h Outcome {
    let (Call::GetMany { uids, .. }, Outcome::Ok { answer: Answer::ReadMany { reads } }) = (call, outcome) else {
        return outcome;
    };
    reads.iter().find(|read| read.uid == uids[index]).map_or(outcome, |read| &read.outcome)
}

fn fits(call: &Call, answer: &Answer) -> bool {
    matches!(
        (call, answer),
        (Call::Upsert { .. } | Call::Remove { .. }, Answer::Written { .. })
            | (Call::Get { .. }, Answer::Read { .. })
            | (Call::GetMany { .. }, Answer::ReadMany { .. })
            | (Call::Import { .. }, Answer::Imported { .. })
            | (Call::List, Answer::Listed { .. })
            | (Call::Clear, Answer::Cleared { .. })
            | (Call::Sync, Answer::Synced { .. })
    )
}
