//! A line of a foreign history, and what can be wrong with it.

use serde::{Deserialize, Deserializer, de::IgnoredAny};
use serde_json::Value as Json;

use crate::lines::Wrong;

/// A line, in either form.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ForeignLine {
    #[serde(deserialize_with = "even_null")]
    pub(super) process: Option<Json>,
    #[serde(rename = "type")]
    pub(super) kind: Option<EventKind>,
    pub(super) f: Option<String>,
    pub(super) key: Option<Json>,
    #[serde(default, deserialize_with = "even_null")]
    pub(super) value: Option<Json>,
    /// Of a compare-and-set that returned: whether it found the value.
    pub(super) result: Option<bool>,
    pub(super) call: Option<i64>,
    #[serde(rename = "return")]
    pub(super) returned: Option<i64>,
    pub(super) outcome: Option<EventKind>,
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
pub(super) enum EventKind {
    Invoke,
    Ok,
    Fail,
    Info,
}

/// The optional first line.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ForeignHead {
    #[serde(deserialize_with = "even_null")]
    pub(super) initial: Option<Json>,
}

fn even_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Json>, D::Error> {
    Json::deserialize(deserializer).map(Some)
}

/// What to do about a process that goes on after an operation without a known end.
pub(super) const AFTER_INFO: &str = "after info a process goes on under another number";

/// An error and its cure.
pub(super) fn wrong(what: impl Into<String>, cure: impl Into<String>) -> Wrong {
    (what.into(), cure.into())
}
