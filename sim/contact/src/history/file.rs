//! A history as a file: the header on the first line, then one event a line. docs/HISTORIES.md has the schema.
//!
//! The reader is strict: what it does not understand it refuses, since a judge that overlooked half of an event would
//! find nothing wrong with it.

use std::{
    io::{self, BufRead, Write},
    sync::Arc,
};

use seedbed_linearize::lines::{HistoryFileError, Lines, Wrong, surplus};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value as Json;

use super::{Answer, Event, FORMAT, Header, History, Outcome, Shown, What};

/// The longest history that is read: some 2 GB of memory.
pub const EVENTS_MAX: u64 = 5_000_000;

/// Writes a history.
pub fn write(history: &History, to: &mut impl Write) -> io::Result<()> {
    line(&history.header, to)?;
    history.events.iter().try_for_each(|event| line(event, to))?;
    to.flush()
}

fn line(value: &impl Serialize, to: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer(&mut *to, value)?;
    to.write_all(b"\n")
}

/// Reads a history; `file` is its name in errors.
pub fn read(file: &str, input: impl BufRead) -> Result<History, HistoryFileError> {
    let mut lines = Lines::new(file, input);
    let first = lines.next_json()?;
    let header: Header =
        first.ok_or_else(no_header).and_then(|json| header(&json)).map_err(|wrong| lines.error(wrong))?;
    let mut events = Vec::new();
    let mut at_us = 0;
    while let Some(json) = lines.next_json()? {
        let event = event(&json, events.len() as u64, at_us, &header).map_err(|wrong| lines.error(wrong))?;
        at_us = event.at_us;
        events.push(event);
    }
    Ok(History { header, events })
}

fn no_header() -> Wrong {
    let cure = "begin with a header as docs/HISTORIES.md has it, or name the form with --model, if it is a foreign one";
    ("the header is missing".to_owned(), cure.to_owned())
}

fn header(json: &Json) -> Result<Header, Wrong> {
    let Some(format) = json.get("format") else { return Err(no_header()) };
    // The version first: a header of another one need not parse as this one.
    if format.as_u64() != Some(u64::from(FORMAT)) {
        let cure = format!("this seedbed reads {FORMAT}: judge it with the one that wrote it, or write it again");
        return Err((format!("it has format version {format}"), cure));
    }
    understood(json, "header")
}

fn event(json: &Json, ordinal: u64, at_us: u64, header: &Header) -> Result<Event, Wrong> {
    if ordinal == EVENTS_MAX {
        return Err((format!("the history has more than {EVENTS_MAX} events"), "judge it in parts".to_owned()));
    }
    if json.get("format").is_some() {
        return Err(("a second header".to_owned(), "judge one history at a time".to_owned()));
    }
    if let Some(found) = json.get("ordinal").filter(|found| found.as_u64() != Some(ordinal)) {
        let cure = "ordinals go from 0 without gaps: look for lines that are missing, repeated or out of order";
        return Err((format!("its ordinal is {found}, and {ordinal} was expected"), cure.to_owned()));
    }
    let event = event_of(json)?;
    if event.at_us < at_us {
        let wrong = format!("its at_us is {}, and the event before it was at {at_us}", event.at_us);
        return Err((wrong, "write events in the order in which they happened".to_owned()));
    }
    match instance(&event.what).filter(|&instance| instance as usize >= header.prefixes.len()) {
        None => Ok(event),
        Some(instance) => {
            let known = header.prefixes.len();
            let cure = "name the prefix of every instance there, from 0".to_owned();
            Err((format!("it names instance {instance}, and the header has the prefixes of {known}"), cure))
        }
    }
}

fn instance(what: &What) -> Option<u32> {
    match what {
        What::Started { instance }
        | What::Stopped { instance, .. }
        | What::State { instance, .. }
        | What::Invoke { instance, .. }
        | What::Complete { instance, .. }
        | What::Cancelled { instance, .. }
        | What::StoreDamaged { instance }
        | What::StoreChanged { instance, .. }
        | What::StoreReport { instance, .. }
        | What::OpenFailed { instance, .. }
        | What::Holds { instance, .. }
        | What::Attempts { instance, .. }
        | What::StoreHolds { instance, .. }
        | What::Unquiet { instance, .. } => Some(*instance),
        What::Phase { .. }
        | What::FaultBegin { .. }
        | What::FaultEnd { .. }
        | What::RedisLostData
        | What::RedisLostRecords { .. }
        | What::RedisLostKeys { .. }
        | What::OthersWrote { .. }
        | What::RedisHolds { .. } => None,
    }
}

/// Where an event has values that a caller chose.
const FREE: [&str; 2] = ["/call/patch", "/outcome/answer/record"];

/// The event without such values, then with them: serde's buffers for tagged enums lose integers beyond 64 bits.
fn event_of(json: &Json) -> Result<Event, Wrong> {
    let mut skeleton = json.clone();
    let [patch, record] = FREE.map(|place| skeleton.pointer_mut(place).map(Json::take));
    if let Some(empty) = skeleton.pointer_mut(FREE[0]) {
        *empty = Json::Object(serde_json::Map::new());
    }
    let many = read_many(&mut skeleton);
    let mut stored = stored(&mut skeleton).into_iter().map(|json| (!json.is_null()).then(|| json.into()));
    let mut event: Event = understood(&skeleton, "event")?;
    match &mut event.what {
        What::Invoke { call, .. } => {
            if let (Some(patch), Some(json)) = (Arc::make_mut(call).patch_mut(), patch) {
                *patch = understood(&json, "patch")?;
            }
        }
        What::Complete { outcome: Outcome::Ok { answer: Answer::Read { record: read, .. } }, .. } => {
            *read = record.filter(|record| !record.is_null()).map(Shown::from);
        }
        What::Complete { outcome: Outcome::Ok { answer: Answer::ReadMany { reads } }, .. } => {
            for (read, json) in reads.iter_mut().zip(many) {
                if let Outcome::Ok { answer: Answer::Read { record, .. } } = &mut read.outcome {
                    *record = Some(json).filter(|json| !json.is_null()).map(Shown::from);
                }
            }
        }
        What::RedisHolds { keys } => {
            let records = keys.iter_mut().flat_map(|key| &mut key.records);
            records.zip(&mut stored).for_each(|(record, shows)| record.shows = shows);
        }
        What::StoreHolds { entries, .. } => {
            entries.iter_mut().zip(&mut stored).for_each(|(entry, shows)| entry.record.shows = shows);
        }
        _ => {}
    }
    Ok(event)
}

/// Takes out the records that a read of many shows, in their order.
fn read_many(json: &mut Json) -> Vec<Json> {
    let reads = json.pointer_mut("/outcome/answer/reads").and_then(Json::as_array_mut);
    let take = |read: &mut Json| read.pointer_mut("/outcome/answer/record").map_or(Json::Null, Json::take);
    reads.into_iter().flatten().map(take).collect()
}

/// Takes out what the records that are stored show, in their order.
fn stored(json: &mut Json) -> Vec<Json> {
    let take = |record: &mut Json| record.get_mut("shows").map_or(Json::Null, Json::take);
    let mut taken = Vec::new();
    if let Some(keys) = json.get_mut("keys").and_then(Json::as_array_mut) {
        let records = keys.iter_mut().filter_map(|key| key.get_mut("records")?.as_array_mut());
        taken.extend(records.flatten().map(take));
    }
    if let Some(entries) = json.get_mut("entries").and_then(Json::as_array_mut) {
        taken.extend(entries.iter_mut().filter_map(|entry| entry.get_mut("record").map(take)));
    }
    taken
}

fn understood<T: DeserializeOwned + Serialize>(json: &Json, what: &str) -> Result<T, Wrong> {
    let article = if what == "event" { "an" } else { "a" };
    let cure = || format!("docs/HISTORIES.md has what {article} {what} holds in format {FORMAT}");
    let value: T = serde_json::from_value(json.clone()).map_err(|cause| (format!("no {what}: {cause}"), cure()))?;
    match surplus(json, &serde_json::to_value(&value).expect("it becomes JSON")) {
        Some(field) => Err((format!("the field \"{field}\" is unknown in this {what}"), cure())),
        None => Ok(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{runner, scenario::Scenario, seed::Seed, workload::ALL};

    fn text(history: &History) -> String {
        let mut bytes = Vec::new();
        write(history, &mut bytes).expect("memory has room");
        String::from_utf8(bytes).expect("JSON is UTF-8")
    }

    fn a_run() -> History {
        runner::run(&Scenario::generate(ALL[2], Seed(3))).expect("it does not panic").history
    }

    #[test]
    fn the_history_of_a_run_comes_back_equal() {
        for workload in ALL {
            for seed in 0..8 {
                let history =
                    runner::run(&Scenario::generate(workload, Seed(seed))).expect("it does not panic").history;
                let again = read("x", text(&history).as_bytes()).unwrap_or_else(|error| panic!("{error}"));
                assert_eq!(again, history, "seed {seed} of {workload}");
            }
        }
    }

    /// The error of reading the text after `change`.
    fn refused(change: impl FnOnce(&mut Vec<String>)) -> String {
        let mut lines: Vec<_> = text(&a_run()).lines().map(str::to_owned).collect();
        change(&mut lines);
        read("x.jsonl", lines.join("\n").as_bytes()).expect_err("it cannot be used").to_string()
    }

    #[test]
    fn a_file_that_cannot_be_used_says_which_line_why_and_the_cure() {
        let says = |error: String, parts: &[&str]| {
            for part in parts {
                assert!(error.contains(part), "no {part:?} in {error}");
            }
        };
        let format = |lines: &mut Vec<String>| lines[0] = lines[0].replace("\"format\":1", "\"format\":7");
        says(refused(format), &["\"x.jsonl\", line 1: it has format version 7", "this seedbed reads 1"]);
        says(refused(|lines| drop(lines.remove(0))), &["line 1: the header is missing; begin with", "--model"]);
        says(refused(Vec::clear), &["line 1: the header is missing"]);
        says(refused(|lines| drop(lines.remove(4))), &["line 5: its ordinal is 4, and 3 was expected", "missing"]);
        says(refused(|lines| lines[3] = lines[2].clone()), &["line 4: its ordinal is 1, and 2 was expected"]);
        let cut = |lines: &mut Vec<String>| {
            let last = lines.last_mut().expect("lines");
            last.truncate(last.len() - 9);
        };
        says(refused(cut), &["the file ends within it; copy the file again"]);
        says(refused(|lines| lines[2] = lines[2].replace('{', "{{")), &["line 3: it is no JSON", "one JSON object"]);
        let kind = |lines: &mut Vec<String>| lines[1] = lines[1].replace("\"phase\",", "\"pause\",");
        says(refused(kind), &["line 2: no event: unknown variant `pause`", "docs/HISTORIES.md", "an event holds"]);
        let more = |lines: &mut Vec<String>| lines[1] = lines[1].replace('{', "{\"mood\": 1, ");
        says(refused(more), &["line 2: the field \"mood\" is unknown"]);
        let more = |lines: &mut Vec<String>| lines[0] = lines[0].replace('{', "{\"mood\": 1, ");
        says(refused(more), &["line 1: the field \"mood\" is unknown in this header", "a header holds"]);
        says(refused(|lines| lines.push(lines[0].clone())), &["a second header", "one history at a time"]);
        let back = |lines: &mut Vec<String>| {
            *lines.last_mut().expect("lines") = {
                let last = lines.last().expect("lines").clone();
                let (before, after) = last.split_once("\"at_us\":").expect("a time");
                format!("{before}\"at_us\":1{}", after.trim_start_matches(|c: char| c.is_ascii_digit()))
            }
        };
        says(refused(back), &["its at_us is 1, and the event before it was at"]);
        let stranger = |lines: &mut Vec<String>| {
            let line = lines.iter_mut().find(|line| line.contains("\"started\"")).expect("an instance");
            *line = line.replace("\"instance\":", "\"instance\":9");
        };
        says(refused(stranger), &["it names instance 9", "the header has the prefixes of"]);
    }

    #[test]
    fn blank_lines_and_a_missing_newline_at_the_end_are_no_errors() {
        let history = a_run();
        let spaced = text(&history).replace('\n', "\n\n");
        assert_eq!(read("x", spaced.trim_end().as_bytes()).expect("a history"), history);
    }
}
