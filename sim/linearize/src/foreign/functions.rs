//! The functions of the models: what a call takes, what its answer says, and which act on the object that is.

use serde_json::Value as Json;

use super::{
    ModelName,
    form::{Foreign, ForeignAct},
    line::{EventKind, wrong},
    values::{ValueId, canonical, shown},
};
use crate::lines::Wrong;

/// A call as it was made.
pub(super) struct ForeignCall {
    pub(super) f: String,
    pub(super) asked: ForeignAsked,
    value: Option<Json>,
}

/// What a call asks for.
#[derive(Clone, Copy)]
pub(super) enum ForeignAsked {
    Read,
    /// It does this, unless it fails.
    Change(ForeignAct),
}

pub(super) fn is_read(f: &str) -> bool {
    matches!(f, "read" | "get")
}

/// A call of `f` with this value. `is_independent` says that keys were already taken out of values.
pub(super) fn called(
    history: &mut Foreign,
    f: String,
    value: Option<Json>,
    is_independent: bool,
) -> Result<ForeignCall, Wrong> {
    let model = history.model;
    let has = format!("--model {model} has {}", model.functions());
    let needed =
        |what: &str| value.clone().ok_or_else(|| wrong(format!("a {f} without the value that it {what}"), &has));
    let asked = match (f.as_str(), model) {
        ("read" | "get", _) => {
            takes_none(&f, value.as_ref(), is_independent)?;
            ForeignAsked::Read
        }
        ("write" | "put", _) => ForeignAsked::Change(ForeignAct::Write(taken(history, needed("writes")?)?)),
        ("cas", ModelName::CasRegister) => {
            let pair = needed("takes")?;
            let Some([from, to]) = pair.as_array().map(Vec::as_slice) else {
                return Err(wrong(format!("a cas of {}", shown(&pair)), "its value is a list: [from, to]"));
            };
            ForeignAsked::Change(ForeignAct::Cas {
                from: taken(history, from.clone())?,
                to: taken(history, to.clone())?,
            })
        }
        ("append", ModelName::KeyValue) => {
            let more = needed("appends")?;
            if more.is_null() {
                return Err(wrong("an append of null", has));
            }
            ForeignAsked::Change(ForeignAct::Append(taken(history, more)?))
        }
        ("delete" | "remove", ModelName::KeyValue) => {
            takes_none(&f, value.as_ref(), is_independent)?;
            ForeignAsked::Change(ForeignAct::Delete)
        }
        _ => return Err(wrong(format!("the function {f:?} is unknown to it"), has)),
    };
    Ok(ForeignCall { f, asked, value })
}

fn takes_none(f: &str, value: Option<&Json>, is_independent: bool) -> Result<(), Wrong> {
    let Some(value) = value.filter(|value| !value.is_null()) else { return Ok(()) };
    let is_pair = !is_independent && value.as_array().is_some_and(|items| items.len() == 2);
    let cure = if is_pair {
        "leave it out; or give --independent, if values are [key, value], as jepsen.independent writes them"
    } else {
        "leave it out: what it answers stands at its end"
    };
    Err(wrong(format!("a {f} that is called with the value {}", shown(value)), cure))
}

/// What a call that ended so did, or may have done; none if it did nothing or its answer is unknown.
pub(super) fn answered(
    history: &mut Foreign,
    call: &ForeignCall,
    answer: Option<Json>,
    outcome: EventKind,
    result: Option<bool>,
) -> Result<Option<ForeignAct>, Wrong> {
    let is_ok = outcome == EventKind::Ok;
    let is_cas = matches!(call.asked, ForeignAsked::Change(ForeignAct::Cas { .. }));
    if result.is_some() && !(is_cas && is_ok) {
        let what = format!("a {} that ended with {outcome:?} and has \"result\"", call.f).to_lowercase();
        let cure = "leave it out: it is of a cas that returned ok; what certainly had no effect ends with fail";
        return Err(wrong(what, cure));
    }
    match call.asked {
        ForeignAsked::Read if is_ok => {
            let answer = answer.ok_or_else(|| {
                wrong(format!("a {} without the value that it returned", call.f), "null is a value as well")
            })?;
            taken(history, answer).map(|value| Some(ForeignAct::Read(value)))
        }
        ForeignAsked::Read => Ok(None),
        ForeignAsked::Change(act) => {
            repeats(call, answer.as_ref())?;
            Ok(match act {
                _ if outcome == EventKind::Fail => None,
                ForeignAct::Cas { from, .. } if result == Some(false) => Some(ForeignAct::CasFailed { from }),
                act => Some(act),
            })
        }
    }
}

/// What changes something may say again what it was called with, and nothing else.
fn repeats(call: &ForeignCall, answer: Option<&Json>) -> Result<(), Wrong> {
    let (Some(answer), asked) = (answer, call.value.as_ref().unwrap_or(&Json::Null)) else { return Ok(()) };
    if answer == asked || canonical(answer)? == canonical(asked)? {
        return Ok(());
    }
    Err(wrong(format!("a {} that ends with another value than it had", call.f), "repeat it"))
}

/// A value of the history, if the model has such values.
pub(super) fn taken(history: &mut Foreign, json: Json) -> Result<ValueId, Wrong> {
    if history.model == ModelName::KeyValue && !json.is_string() && !json.is_null() {
        let cure = "the values of --model key-value are texts, and null for an absent key";
        return Err(wrong(format!("the value {}", shown(&json)), cure));
    }
    history.values.take(json)
}
