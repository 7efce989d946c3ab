//! The minimal form of foreign histories, and how it is read. docs/HISTORIES.md has it.
//!
//! A line is an event (Jepsen's `invoke`, `ok`, `fail`, `info`, in the order of the lines) or a whole operation (with the
//! moments of its call and its return). What a `fail` says never happened is left out, and so are reads that did not
//! return; what has no known end stays open for ever.

use std::{collections::BTreeMap, io::BufRead};

use serde::{Deserialize, Deserializer, de::IgnoredAny};
use serde_json::Value as Json;

use super::ModelName;
use crate::history::lines::{FileError, Lines, Wrong};

/// The longest history that is read.
const OPERATIONS_MAX: usize = 5_000_000;

/// A foreign history.
#[derive(Debug)]
pub struct Foreign {
    pub(super) model: ModelName,
    /// Operations that had or may have had an effect, and reads that returned.
    pub(super) operations: Vec<Operation>,
    pub(super) keys: Vec<String>,
    pub(super) values: Values,
    /// What every key holds at first.
    pub(super) initial: Value,
    /// When something restarted that may have lost data: moment and line.
    pub(super) losses: Vec<(i64, u64)>,
}

/// A value, by its place among [`Values`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Value(pub(super) u32);

/// The values of a history, each once.
#[derive(Debug, Default)]
pub(super) struct Values {
    by_text: BTreeMap<String, Value>,
    all: Vec<Json>,
}

/// What an operation did, or may have done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Read(Value),
    Write(Value),
    Cas {
        from: Value,
        to: Value,
    },
    /// It found another value than `from`.
    CasFailed {
        from: Value,
    },
    Append(Value),
    Delete,
}

#[derive(Clone, Debug)]
pub(super) struct Operation {
    pub(super) process: String,
    pub(super) key: u32,
    pub(super) act: Act,
    pub(super) called: i64,
    pub(super) returned: Option<i64>,
    /// Of the call and of the return; one line for an operation on one.
    pub(super) lines: (u64, Option<u64>),
}

impl Act {
    /// It never changes anything.
    pub(super) fn only_looks(&self) -> bool {
        matches!(self, Self::Read(_) | Self::CasFailed { .. })
    }

    /// It is legal in every state, and leads to the same one.
    pub(super) fn is_blind(&self) -> bool {
        matches!(self, Self::Write(_) | Self::Delete)
    }

    /// It is legal in one state alone.
    pub(super) fn wants_a_state(&self) -> bool {
        matches!(self, Self::Read(_) | Self::Cas { .. })
    }
}

impl Values {
    fn take(&mut self, json: Json) -> Value {
        let next = Value(u32::try_from(self.all.len()).expect("fewer values than lines"));
        let value = *self.by_text.entry(json.to_string()).or_insert(next);
        if value == next {
            self.all.push(json);
        }
        value
    }

    /// Each as a text, none for null.
    pub(super) fn texts(&self) -> impl Iterator<Item = Option<&str>> {
        self.all.iter().map(Json::as_str)
    }

    fn shown(&self, value: Value) -> String {
        let text = self.all[value.0 as usize].to_string();
        if text.chars().count() <= 60 { text } else { text.chars().take(60).chain("..".chars()).collect() }
    }
}

impl Foreign {
    /// `process 3: write 7, lines 4 to 9`.
    pub(super) fn shown(&self, operation: &Operation) -> String {
        let value = |value| self.values.shown(value);
        let act = match operation.act {
            Act::Read(read) => format!("read -> {}", value(read)),
            Act::Write(written) => format!("write {}", value(written)),
            Act::Cas { from, to } => format!("cas {} to {}", value(from), value(to)),
            Act::CasFailed { from } => format!("cas from {} -> false", value(from)),
            Act::Append(more) => format!("append {}", value(more)),
            Act::Delete => "delete".to_owned(),
        };
        let lines = match operation.lines {
            (line, Some(end)) if line == end => format!("line {line}"),
            (line, Some(end)) => format!("lines {line} to {end}"),
            (line, None) => format!("line {line}, end unknown"),
        };
        format!("process {}: {act}, {lines}", operation.process)
    }
}

/// A line, in either form.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    process: Json,
    #[serde(rename = "type")]
    kind: Option<Kind>,
    f: Option<String>,
    key: Option<Json>,
    #[serde(default, deserialize_with = "even_null")]
    value: Option<Json>,
    /// Of a compare-and-set that returned: whether it found the value.
    result: Option<bool>,
    call: Option<i64>,
    #[serde(rename = "return")]
    returned: Option<i64>,
    outcome: Option<Kind>,
    /// What many histories have and nothing here needs.
    #[serde(rename = "time")]
    _time: Option<IgnoredAny>,
    #[serde(rename = "index")]
    _index: Option<IgnoredAny>,
    #[serde(rename = "error")]
    _error: Option<IgnoredAny>,
    #[serde(rename = "node")]
    _node: Option<IgnoredAny>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Invoke,
    Ok,
    Fail,
    Info,
}

/// The optional first line.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    #[serde(deserialize_with = "even_null")]
    initial: Option<Json>,
}

fn even_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Json>, D::Error> {
    Json::deserialize(deserializer).map(Some)
}

/// Reads a history of objects of this model; `file` is its name in errors.
pub fn read(file: &str, input: impl BufRead, model: ModelName) -> Result<Foreign, FileError> {
    let mut lines = Lines::new(file, input);
    let mut reader = Reader::new(model);
    while let Some(json) = lines.next_json()? {
        reader.line(json, lines.number()).map_err(|wrong| lines.error(wrong))?;
    }
    Ok(reader.end())
}

struct Reader {
    found: Foreign,
    by_key: BTreeMap<String, u32>,
    /// Invocations that have not returned, by process.
    open: BTreeMap<String, Open>,
    is_events: Option<bool>,
    any: bool,
}

struct Open {
    line: u64,
    f: String,
    key: Option<Json>,
    value: Option<Json>,
}

/// An operation whose end is known, or known to be unknown.
struct Ended<'a> {
    process: String,
    f: &'a str,
    key: Option<Json>,
    asked: Option<Json>,
    answered: Option<Json>,
    outcome: Kind,
    result: Option<bool>,
    called: i64,
    returned: Option<i64>,
    lines: (u64, Option<u64>),
}

impl Reader {
    fn new(model: ModelName) -> Self {
        let mut values = Values::default();
        let initial = values.take(Json::Null);
        let found = Foreign { model, operations: Vec::new(), keys: Vec::new(), values, initial, losses: Vec::new() };
        Self { found, by_key: BTreeMap::new(), open: BTreeMap::new(), is_events: None, any: false }
    }

    fn line(&mut self, json: Json, number: u64) -> Result<(), Wrong> {
        let form = "docs/HISTORIES.md has the form of foreign histories";
        let bad = |cause: serde_json::Error| (format!("no event and no operation: {cause}"), form.to_owned());
        if !std::mem::replace(&mut self.any, true) && json.get("initial").is_some() {
            let head: Head = serde_json::from_value(json).map_err(bad)?;
            self.found.initial = self.value(head.initial.unwrap_or_default())?;
            return Ok(());
        }
        if json.get("ordinal").is_some() || json.get("format").is_some() {
            let cure = "leave --model out".to_owned();
            return Err(("this is a history of the native form".to_owned(), cure));
        }
        let line: Line = serde_json::from_value(json).map_err(bad)?;
        if line.process == "nemesis" {
            return self.nemesis(&line, number);
        }
        if self.found.operations.len() + self.open.len() >= OPERATIONS_MAX {
            return Err((format!("more than {OPERATIONS_MAX} operations"), "judge the keys apart".to_owned()));
        }
        if self.is_events.replace(line.kind.is_some()).is_some_and(|before| before != line.kind.is_some()) {
            let wrong = "events (with \"type\") and whole operations (with \"call\") in one history";
            return Err((wrong.to_owned(), "write all lines in one of the two forms".to_owned()));
        }
        match line.kind {
            Some(kind) => self.event(line, kind, number),
            None => self.operation(line, number),
        }
    }

    /// Faults leave no trace here but one: what restarts may have lost data.
    fn nemesis(&mut self, line: &Line, number: u64) -> Result<(), Wrong> {
        if !matches!(line.f.as_deref(), Some("crash" | "kill" | "restart" | "wipe")) {
            return Ok(());
        }
        if self.is_events == Some(false) && line.call.is_none() {
            return Err(("a restart without a moment".to_owned(), "give it one as \"call\"".to_owned()));
        }
        self.found.losses.push((line.call.unwrap_or_else(|| moment(number)), number));
        Ok(())
    }

    fn event(&mut self, line: Line, kind: Kind, number: u64) -> Result<(), Wrong> {
        let process = text(&line.process);
        if line.call.is_some() || line.returned.is_some() || line.outcome.is_some() {
            let wrong = "an event with \"call\", \"return\" or \"outcome\"".to_owned();
            return Err((wrong, "those are of whole operations, which have no \"type\"".to_owned()));
        }
        if kind == Kind::Invoke {
            let f = line.f.ok_or_else(|| ("an invocation without \"f\"".to_owned(), FUNCTIONS.to_owned()))?;
            let open = Open { line: number, f, key: line.key, value: line.value };
            if let Some(before) = self.open.insert(process.clone(), open) {
                let wrong = format!("process {process} is called, and its call of line {} has not ended", before.line);
                let cure = "end it with ok, fail or info; after info a process takes another number";
                return Err((wrong, cure.to_owned()));
            }
            return Ok(());
        }
        let open = self.open.remove(&process).ok_or_else(|| {
            (format!("process {process} ends a call that it had not begun"), "write its invoke before".to_owned())
        })?;
        if line.f.is_some_and(|f| f != open.f) || line.key.is_some_and(|key| Some(key) != open.key) {
            let wrong = format!("it ends with another f or key than its call of line {}", open.line);
            return Err((wrong, "repeat them, or leave them out".to_owned()));
        }
        let returned = (kind != Kind::Info).then(|| moment(number));
        self.ended(Ended {
            process,
            f: &open.f,
            key: open.key,
            asked: open.value,
            answered: line.value,
            outcome: kind,
            result: line.result,
            called: moment(open.line),
            returned,
            lines: (open.line, returned.map(|_| number)),
        })
    }

    fn operation(&mut self, line: Line, number: u64) -> Result<(), Wrong> {
        let missing = |what: &str| (format!("an operation without \"{what}\""), FUNCTIONS.to_owned());
        let called = line.call.ok_or_else(|| {
            let cure = "give it \"type\" (an event) or \"call\" (an operation)".to_owned();
            ("neither an event nor an operation".to_owned(), cure)
        })?;
        if line.returned.is_some_and(|returned| returned < called) {
            return Err(("it returned before it was called".to_owned(), "look at \"call\" and \"return\"".to_owned()));
        }
        let outcome = line.outcome.unwrap_or(if line.returned.is_some() { Kind::Ok } else { Kind::Info });
        if outcome == Kind::Invoke || (outcome == Kind::Ok && line.returned.is_none()) {
            let cure = "outcomes are ok with a \"return\", fail and info".to_owned();
            return Err((format!("an outcome {outcome:?} without a return").to_lowercase(), cure));
        }
        let returned = line.returned.filter(|_| outcome != Kind::Info);
        self.ended(Ended {
            process: text(&line.process),
            f: &line.f.ok_or_else(|| missing("f"))?,
            key: line.key,
            asked: line.value.clone(),
            answered: line.value,
            outcome,
            result: line.result,
            called,
            returned,
            lines: (number, returned.map(|_| number)),
        })
    }

    fn ended(&mut self, op: Ended<'_>) -> Result<(), Wrong> {
        let Some(act) = self.act(&op)? else { return Ok(()) };
        let name = op.key.as_ref().map(text).unwrap_or_default();
        let next = u32::try_from(self.by_key.len()).expect("fewer keys than lines");
        let key = *self.by_key.entry(name.clone()).or_insert(next);
        if key == next {
            self.found.keys.push(name);
        }
        let Ended { process, called, returned, lines, .. } = op;
        self.found.operations.push(Operation { process, key, act, called, returned, lines });
        Ok(())
    }

    /// What it did or may have done; none if nothing.
    fn act(&mut self, op: &Ended<'_>) -> Result<Option<Act>, Wrong> {
        let model = self.found.model;
        let cure = || format!("--model {model} has {}", model.functions());
        let valued = |what: &str, value: &Option<Json>| {
            value.clone().ok_or_else(|| (format!("a {} without the value that it {what}", op.f), cure()))
        };
        let is_ok = op.outcome == Kind::Ok;
        let act = match (op.f, model) {
            ("read" | "get", _) if is_ok => Act::Read(self.value(valued("returned", &op.answered)?)?),
            ("read" | "get", _) => return Ok(None),
            ("write" | "put", _) => Act::Write(self.value(valued("writes", &op.asked)?)?),
            ("cas", ModelName::CasRegister) => {
                let pair = valued("takes", &op.asked)?;
                let Some([from, to]) = pair.as_array().map(Vec::as_slice) else {
                    return Err((format!("a cas of {pair}"), "its value is a list: [from, to]".to_owned()));
                };
                let (from, to) = (self.value(from.clone())?, self.value(to.clone())?);
                if is_ok && op.result == Some(false) { Act::CasFailed { from } } else { Act::Cas { from, to } }
            }
            ("append", ModelName::KeyValue) => {
                let more = valued("appends", &op.asked)?;
                if more.is_null() {
                    return Err(("an append of null".to_owned(), cure()));
                }
                Act::Append(self.value(more)?)
            }
            ("delete" | "remove", ModelName::KeyValue) => Act::Delete,
            _ => return Err((format!("the function {:?} is unknown to it", op.f), cure())),
        };
        if !act.only_looks() && op.answered.as_ref().is_some_and(|answered| Some(answered) != op.asked.as_ref()) {
            return Err((format!("a {} that ends with another value than it had", op.f), "repeat it".to_owned()));
        }
        Ok((op.outcome != Kind::Fail).then_some(act))
    }

    fn value(&mut self, json: Json) -> Result<Value, Wrong> {
        if self.found.model == ModelName::KeyValue && !json.is_string() && !json.is_null() {
            let cure = "the values of --model key-value are texts, and null for an absent key".to_owned();
            return Err((format!("the value {json}"), cure));
        }
        Ok(self.found.values.take(json))
    }

    /// What has not ended by now never did.
    fn end(mut self) -> Foreign {
        for (process, open) in std::mem::take(&mut self.open) {
            let Open { line, f, key, value } = open;
            let lines = (line, None);
            let (called, returned, outcome) = (moment(line), None, Kind::Info);
            let ended = Ended {
                process,
                f: &f,
                key,
                asked: value,
                answered: None,
                outcome,
                result: None,
                called,
                returned,
                lines,
            };
            // What it was called with is wrong: it has no effect that the model knows.
            let _ = self.ended(ended);
        }
        self.found
    }
}

const FUNCTIONS: &str = "docs/HISTORIES.md has what each function takes";

/// The moment of an event is its line.
fn moment(line: u64) -> i64 {
    i64::try_from(line).unwrap_or(i64::MAX)
}

fn text(json: &Json) -> String {
    json.as_str().map_or_else(|| json.to_string(), str::to_owned)
}
