//! The processes of a foreign history: each does one operation at a time, and none after one whose end is unknown.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::{
    line::{AFTER_INFO, wrong},
    values::shown,
};
use crate::lines::Wrong;

/// The processes that were named so far.
#[derive(Default)]
pub(super) struct NamedProcesses {
    by_name: BTreeMap<String, u32>,
    names: Vec<String>,
    /// Of a history of events: the line of a process's `info`.
    lost: BTreeMap<u32, u64>,
    /// Of a history of whole operations: when each process did something.
    spans: Vec<ProcessSpan>,
}

/// By process, then by time; an operation without an end is the last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct ProcessSpan {
    process: u32,
    called: i64,
    /// The latest moment if it has none.
    ended: i64,
    is_lost: bool,
    line: u64,
}

impl NamedProcesses {
    /// The number of a process here, by what the history calls it: a text, or a whole number.
    pub(super) fn number(&mut self, process: Option<&Json>) -> Result<u32, Wrong> {
        let name = match process {
            Some(Json::String(name)) => name.clone(),
            Some(Json::Number(number)) if number.is_i64() || number.is_u64() => number.to_string(),
            other => {
                let process = other.map_or_else(|| "null".to_owned(), shown);
                return Err(wrong(format!("the process {process}"), "a process is a text or a whole number"));
            }
        };
        if let Some(number) = self.by_name.get(&name) {
            return Ok(*number);
        }
        let number = u32::try_from(self.names.len()).expect("fewer processes than lines");
        self.names.push(name.clone());
        self.by_name.insert(name, number);
        Ok(number)
    }

    pub(super) fn name(&self, process: u32) -> &str {
        &self.names[process as usize]
    }

    pub(super) fn into_names(self) -> Vec<String> {
        self.names
    }

    /// The call of a process ended with `info` on this line.
    pub(super) fn is_lost(&mut self, process: u32, line: u64) {
        self.lost.insert(process, line);
    }

    /// The line of the `info` of a process, if it had one.
    pub(super) fn lost_at(&self, process: u32) -> Option<u64> {
        self.lost.get(&process).copied()
    }

    /// A whole operation of a process; `ended` is none if its end is unknown.
    pub(super) fn runs(&mut self, process: u32, called: i64, ended: Option<i64>, line: u64) {
        self.spans.push(ProcessSpan {
            process,
            called,
            ended: ended.unwrap_or(i64::MAX),
            is_lost: ended.is_none(),
            line,
        });
    }

    /// Whether each process did one whole operation at a time; they may touch. Fails with the later line of two that
    /// overlap.
    pub(super) fn check_turns(&mut self) -> Result<(), (u64, Wrong)> {
        self.spans.sort_unstable();
        for pair in self.spans.windows(2) {
            let [before, after] = pair else { continue };
            if before.process != after.process || (after.called >= before.ended && !before.is_lost) {
                continue;
            }
            let name = self.name(after.process);
            let (line, other) = (after.line.max(before.line), after.line.min(before.line));
            let (what, cure) = if before.is_lost {
                let what = format!(
                    "process {name} goes on after its operation of line {}, which has no known end",
                    before.line
                );
                (what, AFTER_INFO)
            } else {
                let what = format!("it overlaps with the operation of line {other}, of the same process {name}");
                (what, "give operations that run at a time a process each")
            };
            return Err((line, wrong(what, cure)));
        }
        Ok(())
    }
}
