//! The minimal form of foreign histories, and how it is read. docs/HISTORIES.md has it.
//!
//! A line is an event (Jepsen's `invoke`, `ok`, `fail`, `info`, in the order of the lines) or a whole operation (with the
//! moments of its call and its return). What a `fail` says never happened is left out, and so are reads that did not
//! return; what has no known end stays open for ever.
//!
//! Reading is strict: a line that the form does not explain is an error, since a guess would be a wrong verdict.

use std::{collections::BTreeMap, io::BufRead};

use serde_json::Value as Json;

use super::{
    ModelName,
    form::{Foreign, ForeignAct, ForeignOperation},
    functions::{self, ForeignAsked, ForeignCall},
    line::{AFTER_INFO, EventKind, ForeignHead, ForeignLine, wrong},
    processes::NamedProcesses,
    values::{Values, canonical, shown},
};
use crate::lines::{HistoryFileError, Lines, Wrong};

/// The longest history that is read.
const OPERATIONS_MAX: usize = 5_000_000;

/// How a foreign history is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The objects that it is about.
    pub model: ModelName,
    /// Whether every value is a list `[key, value]`, as jepsen.independent writes them.
    pub is_independent: bool,
}

impl From<ModelName> for Reading {
    fn from(model: ModelName) -> Self {
        Self { model, is_independent: false }
    }
}

/// Reads a history; `file` is its name in errors.
pub fn read(file: &str, input: impl BufRead, reading: impl Into<Reading>) -> Result<Foreign, HistoryFileError> {
    let mut lines = Lines::new(file, input);
    let mut reader = ForeignReader::new(reading.into());
    while let Some(json) = lines.next_json()? {
        reader.line(json, lines.number()).map_err(|wrong| lines.error(wrong))?;
    }
    if reader.is_empty {
        let cure = "look at what wrote it, or whether this is the file that was meant";
        return Err(lines.error_at(1, ("the history is empty".to_owned(), cure.to_owned())));
    }
    reader.end().map_err(|(line, wrong)| lines.error_at(line, wrong))
}

struct ForeignReader {
    reading: Reading,
    found: Foreign,
    by_key: BTreeMap<String, u32>,
    processes: NamedProcesses,
    /// Invocations that have not returned, by process.
    open: BTreeMap<u32, OpenCall>,
    is_events: Option<bool>,
    is_empty: bool,
}

struct OpenCall {
    line: u64,
    key: Option<Json>,
    call: ForeignCall,
}

impl ForeignReader {
    fn new(reading: Reading) -> Self {
        let mut values = Values::default();
        let initial = values.take(Json::Null).expect("null is a value");
        let found = Foreign {
            model: reading.model,
            operations: Vec::new(),
            keys: Vec::new(),
            processes: Vec::new(),
            values,
            initial,
            losses: Vec::new(),
        };
        Self {
            reading,
            found,
            by_key: BTreeMap::new(),
            processes: NamedProcesses::default(),
            open: BTreeMap::new(),
            is_events: None,
            is_empty: true,
        }
    }

    fn line(&mut self, json: Json, number: u64) -> Result<(), Wrong> {
        let is_first = std::mem::replace(&mut self.is_empty, false);
        let bad = |cause: serde_json::Error| wrong(format!("no event and no operation: {cause}"), FORM);
        if is_first && json.get("initial").is_some() {
            let head: ForeignHead = serde_json::from_value(json).map_err(bad)?;
            self.found.initial = functions::taken(&mut self.found, head.initial.unwrap_or_default())?;
            return Ok(());
        }
        if json.get("ordinal").is_some() || json.get("format").is_some() {
            return Err(wrong("this is a history of the native form", "leave --model out"));
        }
        let line: ForeignLine = serde_json::from_value(json).map_err(bad)?;
        if line.process.as_ref().is_some_and(|process| process == "nemesis") {
            return self.nemesis(&line, number);
        }
        if self.found.operations.len() + self.open.len() >= OPERATIONS_MAX {
            return Err(wrong(format!("more than {OPERATIONS_MAX} operations"), "judge the keys apart"));
        }
        if self.is_events.replace(line.kind.is_some()).is_some_and(|before| before != line.kind.is_some()) {
            let both = "events (with \"type\") and whole operations (with \"call\") in one history";
            return Err(wrong(both, "write all lines in one of the two forms"));
        }
        match line.kind {
            Some(kind) => self.event(line, kind, number),
            None => self.operation(line, number),
        }
    }

    /// Faults leave no trace here but one: what restarts may have lost data.
    fn nemesis(&mut self, line: &ForeignLine, number: u64) -> Result<(), Wrong> {
        if !matches!(line.f.as_deref(), Some("crash" | "kill" | "restart" | "wipe")) {
            return Ok(());
        }
        if self.is_events == Some(false) && line.call.is_none() {
            return Err(wrong("a restart without a moment", "give it one as \"call\""));
        }
        self.found.losses.push((line.call.unwrap_or_else(|| moment(number)), number));
        Ok(())
    }

    fn event(&mut self, line: ForeignLine, kind: EventKind, number: u64) -> Result<(), Wrong> {
        if line.call.is_some() || line.returned.is_some() || line.outcome.is_some() {
            let cure = "those are of whole operations, which have no \"type\"";
            return Err(wrong("an event with \"call\", \"return\" or \"outcome\"", cure));
        }
        let process = self.processes.number(line.process.as_ref())?;
        if kind == EventKind::Invoke {
            return self.invoke(line, process, number);
        }
        let open = self.open.remove(&process).ok_or_else(|| {
            let name = self.processes.name(process);
            wrong(format!("process {name} ends a call that it had not begun"), "write its invoke before")
        })?;
        let (key, value) = self.split(line.key, line.value, kind != EventKind::Ok)?;
        let is_another_key = match (&key, &open.key) {
            (Some(key), Some(before)) => canonical(key)? != canonical(before)?,
            (key, _) => key.is_some(),
        };
        if is_another_key || line.f.is_some_and(|f| f != open.call.f) {
            let what = format!("it ends with another f or key than its call of line {}", open.line);
            return Err(wrong(what, "repeat them, or leave them out"));
        }
        if kind == EventKind::Info {
            self.processes.is_lost(process, number);
        }
        let returned = (kind != EventKind::Info).then(|| moment(number));
        let act = functions::answered(&mut self.found, &open.call, value, kind, line.result)?;
        self.keep(process, open.key, act, (moment(open.line), returned), (open.line, returned.map(|_| number)))
    }

    fn invoke(&mut self, line: ForeignLine, process: u32, number: u64) -> Result<(), Wrong> {
        let name = self.processes.name(process).to_owned();
        if let Some(before) = self.open.get(&process) {
            let what = format!("process {name} is called, and its call of line {} has not ended", before.line);
            return Err(wrong(what, "end it with ok, fail or info; after info a process takes another number"));
        }
        if let Some(lost) = self.processes.lost_at(process) {
            let what = format!("process {name} is called, and its call before ended with info on line {lost}");
            return Err(wrong(what, AFTER_INFO));
        }
        let f = line.f.ok_or_else(|| wrong("an invocation without \"f\"", FUNCTIONS))?;
        if line.result.is_some() {
            return Err(wrong("an invocation with \"result\"", "\"result\" is of a cas that returned ok"));
        }
        let (key, value) = self.split(line.key, line.value, false)?;
        let call = functions::called(&mut self.found, f, value, self.reading.is_independent)?;
        self.open.insert(process, OpenCall { line: number, key, call });
        Ok(())
    }

    fn operation(&mut self, line: ForeignLine, number: u64) -> Result<(), Wrong> {
        let called = line.call.ok_or_else(|| {
            wrong("neither an event nor an operation", "give it \"type\" (an event) or \"call\" (an operation)")
        })?;
        if line.returned.is_some_and(|returned| returned < called) {
            return Err(wrong("it returned before it was called", "look at \"call\" and \"return\""));
        }
        let outcome = line.outcome.unwrap_or(if line.returned.is_some() { EventKind::Ok } else { EventKind::Info });
        if outcome == EventKind::Invoke || (outcome == EventKind::Ok && line.returned.is_none()) {
            let what = format!("an outcome {outcome:?} without a return").to_lowercase();
            return Err(wrong(what, "outcomes are ok with a \"return\", fail and info"));
        }
        let process = self.processes.number(line.process.as_ref())?;
        let returned = line.returned.filter(|_| outcome != EventKind::Info);
        // A failed operation had its end, at some moment after its call.
        let ended = if outcome == EventKind::Fail { returned.or(Some(called)) } else { returned };
        self.processes.runs(process, called, ended, number);
        let f = line.f.ok_or_else(|| wrong("an operation without \"f\"", FUNCTIONS))?;
        let (key, value) = self.split(line.key, line.value, outcome != EventKind::Ok)?;
        // A read has its answer there, everything else what it was called with.
        let (asked, answer) = if functions::is_read(&f) { (None, value) } else { (value, None) };
        let call = functions::called(&mut self.found, f, asked, self.reading.is_independent)?;
        let act = functions::answered(&mut self.found, &call, answer, outcome, line.result)?;
        self.keep(process, key, act, (called, returned), (number, returned.map(|_| number)))
    }

    /// The key and the value, which are one in a history of jepsen.independent. `may_lack`: an end that leaves out what
    /// its call has.
    fn split(
        &self,
        key: Option<Json>,
        value: Option<Json>,
        may_lack: bool,
    ) -> Result<(Option<Json>, Option<Json>), Wrong> {
        if !self.reading.is_independent {
            return Ok((key, value));
        }
        if key.is_some() {
            return Err(wrong("a \"key\", and --independent", "leave one of them out: its keys stand in the values"));
        }
        match value {
            None | Some(Json::Null) if may_lack => Ok((None, None)),
            Some(Json::Array(pair)) if pair.len() == 2 => {
                let mut pair = pair.into_iter();
                Ok((pair.next(), pair.next()))
            }
            other => {
                let what =
                    other.as_ref().map_or_else(|| "no value".to_owned(), |value| format!("the value {}", shown(value)));
                Err(wrong(what, "with --independent every value is a list: [key, value]"))
            }
        }
    }

    fn keep(
        &mut self,
        process: u32,
        key: Option<Json>,
        act: Option<ForeignAct>,
        (called, returned): (i64, Option<i64>),
        lines: (u64, Option<u64>),
    ) -> Result<(), Wrong> {
        let Some(act) = act else { return Ok(()) };
        let next = u32::try_from(self.by_key.len()).expect("fewer keys than lines");
        let identity = key.as_ref().map(canonical).transpose()?.unwrap_or_default();
        let number = *self.by_key.entry(identity).or_insert(next);
        if number == next {
            self.found.keys.push(key.map(|key| shown(&key)).unwrap_or_default());
        }
        self.found.operations.push(ForeignOperation { process, key: number, act, called, returned, lines });
        Ok(())
    }

    /// What has not ended by now never did. Fails with the line of an operation that contradicts another.
    fn end(mut self) -> Result<Foreign, (u64, Wrong)> {
        self.processes.check_turns()?;
        for (process, open) in std::mem::take(&mut self.open) {
            let act = match open.call.asked {
                ForeignAsked::Change(act) => Some(act),
                ForeignAsked::Read => None,
            };
            let moments = (moment(open.line), None);
            self.keep(process, open.key, act, moments, (open.line, None)).map_err(|wrong| (open.line, wrong))?;
        }
        self.found.processes = self.processes.into_names();
        Ok(self.found)
    }
}

const FORM: &str = "docs/HISTORIES.md has the form of foreign histories";
const FUNCTIONS: &str = "docs/HISTORIES.md has what each function takes";
/// The moment of an event is its line.
fn moment(line: u64) -> i64 {
    i64::try_from(line).unwrap_or(i64::MAX)
}
