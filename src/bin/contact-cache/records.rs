//! Records, one by one: get, put, remove, list; and the health of the instance that does it.

use std::{fmt, io::Read as _, path::Path, time::Duration};

use contact_cache::{
    ContactPoint, Error, Freshness, Health, Isolated, Patch, Placement, Source, State, Timestamp, Uid, Written,
    env::TokioEnv, shown::without_values,
};
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};

use crate::{
    arguments::Tool,
    complain,
    exit::{Failure, ToolExitCode, say_json},
    say,
    settings::{Opened, ToolSettings},
};

/// How long a list may take. Nobody serves from here, so it need not fit into the deadline of an application's calls.
const LIST_DEADLINE: Duration = Duration::from_mins(10);

pub(crate) async fn get(env: TokioEnv, tool: &Tool, uid: &Uid) -> Result<ToolExitCode, Failure> {
    let opened = ToolSettings::load(tool)?.open(env).await?;
    // A store that was empty a moment ago says nothing.
    let freshness = if opened.is_thrown_away() { Freshness::Shared } else { Freshness::Any };
    let read = opened.cache.get_with(uid, freshness).await.map_err(Failure::from);
    let reason = why_local(&opened.cache.health());
    let read = opened.close(read).await?;
    let Some(record) = read.record else {
        complain!("no record {uid:?}{}", told_by(read.source, &reason));
        return Ok(ToolExitCode::Partly);
    };
    let text = if tool.json { serde_json::to_string(&record) } else { serde_json::to_string_pretty(&record) };
    say_json(&text.map_err(Failure::unavailable)?);
    if read.source != Source::Shared {
        complain!("note: record {uid:?}{}", told_by(read.source, &reason));
    }
    Ok(ToolExitCode::Done)
}

fn told_by(source: Source, reason: &str) -> String {
    match source {
        Source::Shared => String::new(),
        Source::Merged => ", with what the local store has for redis".to_owned(),
        Source::Local => format!(", by the local store alone: {reason}"),
    }
}

/// Why redis did not do what it was asked.
fn why_local(health: &Health) -> String {
    match (&health.away_because, &health.refused) {
        (Some(reason), _) => format!("redis is away: {reason}"),
        (None, Some(reason)) => format!("redis refuses: {reason}"),
        (None, None) => "redis is away".to_owned(),
    }
}

/// A record as `get` prints it. All but the uid may be missing.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PrintedRecord {
    uid: Uid,
    #[serde(default)]
    contacts: Vec<ContactPoint>,
    #[serde(default)]
    profile: Map<String, Json>,
    #[serde(default)]
    metadata: Map<String, Json>,
    /// Read, so that a record that was printed can be put; set anew all the same.
    #[serde(rename = "first_revealed_at")]
    _first_revealed_at: Option<Timestamp>,
    #[serde(rename = "last_updated_at")]
    _last_updated_at: Option<Timestamp>,
}

pub(crate) async fn put(env: TokioEnv, tool: &Tool, file: Option<&Path>) -> Result<ToolExitCode, Failure> {
    let (name, text) = read_text(file)?;
    Patch::check_text(&text).map_err(|refusal| Failure::bad_input(format!("{name} is no record: {refusal}")))?;
    let PrintedRecord { uid, contacts, profile, metadata, .. } = serde_json::from_str(&text)
        .map_err(|error| Failure::bad_input(format!("{name} is no record: {}", without_values(&error.to_string()))))?;
    // A list of the fields' values would be read as well.
    if !text.trim_start().starts_with('{') {
        return Err(Failure::bad_input(format!("{name} is no record: it is no object")));
    }
    let patch = Patch { contacts, profile, metadata, ..Patch::default() };
    let opened = ToolSettings::load(tool)?.open(env).await?;
    let written = if opened.is_thrown_away() {
        opened.cache.upsert_shared(&uid, &patch).await
    } else {
        opened.cache.upsert(&uid, &patch).await
    };
    let said = written.map(|written| say_written(tool, &opened, &uid, written, "written to")).map_err(Failure::from);
    opened.close(said).await?;
    Ok(ToolExitCode::Done)
}

fn read_text(file: Option<&Path>) -> Result<(String, String), Failure> {
    let (name, text) = if let Some(file) = file.filter(|file| file.as_os_str() != "-") {
        (file.display().to_string(), std::fs::read_to_string(file))
    } else {
        let mut text = String::new();
        ("the standard input".to_owned(), std::io::stdin().read_to_string(&mut text).map(|_| text))
    };
    let text = text.map_err(|error| Failure::bad_input(format!("cannot read {name}: {error}")))?;
    Ok((name, text))
}

pub(crate) async fn remove(env: TokioEnv, tool: &Tool, uids: &[Uid]) -> Result<ToolExitCode, Failure> {
    let opened = ToolSettings::load(tool)?.open(env).await?;
    let mut result = Ok(());
    for uid in uids {
        let written = if opened.is_thrown_away() {
            opened.cache.remove_shared(uid).await
        } else {
            opened.cache.remove(uid).await
        };
        match written {
            Ok(written) => say_written(tool, &opened, uid, written, "removed from"),
            Err(error) => {
                let Failure { code, message } = error.into();
                result = Err(Failure { code, message: format!("record {uid:?} and those after it: {message}") });
                break;
            }
        }
    }
    opened.close(result).await?;
    Ok(ToolExitCode::Done)
}

fn say_written(tool: &Tool, opened: &Opened, uid: &Uid, written: Written, in_redis: &str) {
    let Written { placement, stamp } = written;
    if tool.json {
        let placement = format!("{placement:?}").to_lowercase();
        say_json(&json!({"uid": uid, "placement": placement, "stamp": stamp.to_string()}).to_string());
        return;
    }
    match placement {
        Placement::Shared => say!("{uid}: {in_redis} redis"),
        Placement::Local => {
            let (directory, reason) = (opened.config.directory.display(), why_local(&opened.cache.health()));
            say!("{uid}: kept in {directory}, {reason}; `drain` merges it");
        }
    }
}

pub(crate) async fn list(env: TokioEnv, tool: &Tool) -> Result<ToolExitCode, Failure> {
    let mut settings = ToolSettings::load(tool)?;
    settings.config.op_deadline = settings.config.op_deadline.max(LIST_DEADLINE);
    let opened = settings.open(env).await?;
    let listing = opened.cache.list().await.map_err(Failure::from);
    let alone = opened.is_thrown_away();
    let listing = opened.close(listing).await?;
    let reason = listing.local_because.unwrap_or_default();
    if alone && listing.source == Source::Local {
        return Err(Error::NotShared { reason, sent: false }.into());
    }
    if tool.json {
        let source = format!("{:?}", listing.source).to_lowercase();
        let because = Some(&reason).filter(|reason| !reason.is_empty());
        say_json(
            &json!({"source": source, "complete": listing.complete, "uids": listing.uids, "local_because": because})
                .to_string(),
        );
    } else {
        for uid in &listing.uids {
            say!("{uid}");
        }
        if listing.source != Source::Shared {
            complain!("note: this list{}", told_by(listing.source, &reason));
        }
    }
    if listing.complete {
        return Ok(ToolExitCode::Done);
    }
    complain!("note: the list is not complete: the local store has forgotten some copies, and redis did not answer");
    Ok(ToolExitCode::Partly)
}

pub(crate) async fn health(env: TokioEnv, tool: &Tool) -> Result<ToolExitCode, Failure> {
    let opened = ToolSettings::load(tool)?.open(env).await?;
    let health = opened.cache.health();
    let alone = opened.is_thrown_away();
    let config = opened.config.clone();
    opened.close(Ok(())).await?;
    let damaged = json!({"records": health.damaged_records, "files": health.quarantined_files});
    if tool.json {
        say_json(
            &json!({
                "redis": format!("{:?}", config.redis), "prefix": config.prefix.as_str(),
                "directory": (!alone).then_some(&config.directory), "state": health.state.to_string(),
                "away_because": health.away_because, "refused": health.refused,
                "isolated_records": health.isolated_records, "isolated": isolated_as_json(&health.isolated),
                "pending_records": health.pending_records, "pending_bytes": health.pending_bytes,
                "pending_seconds": health.pending_for.map(|time| time.as_secs()),
                "copies_bytes": health.copies_bytes, "damaged": damaged, "store_error": health.store_error,
                "store_degraded": health.store_degraded,
                "exposed": health.exposed.iter().map(ToString::to_string).collect::<Vec<_>>(),
            })
            .to_string(),
        );
    } else {
        row("redis", format_args!("{:?}, prefix {}", config.redis, config.prefix));
        row("state", health.state);
        row_if("away because", health.away_because.as_ref());
        row_if("refused", health.refused.as_ref());
        for record in &health.isolated {
            row("ISOLATED", isolated(record));
        }
        if alone {
            row("local store", "none is set");
        } else {
            row("local store", config.directory.display());
            row("pending", format_args!("{} records, {} bytes", health.pending_records, health.pending_bytes));
            row_if("pending for", health.pending_for.map(|time| humantime::format_duration(whole_seconds(time))));
            row("copies", format_args!("{} bytes", health.copies_bytes));
            row_if("damaged files", Some(health.quarantined_files).filter(|files| *files > 0));
            row_if("store error", health.store_error.as_ref());
            row_if("degraded", health.store_degraded.as_ref());
            for exposed in &health.exposed {
                row("exposed", exposed);
            }
        }
    }
    // With something to merge it is still at it.
    Ok(match health.state {
        State::Connected | State::Recovering => ToolExitCode::Done,
        State::Degraded | State::Probing => ToolExitCode::Unavailable,
    })
}

/// A record that cannot be merged, for people.
pub(crate) fn isolated(record: &Isolated) -> String {
    let Isolated { uid, bytes, attempts, reason, next_attempt_in, .. } = record;
    let next = humantime::format_duration(whole_seconds(*next_attempt_in));
    format!("record {uid}, {bytes} bytes, was tried {attempts} times alone: {reason}; the next attempt is in {next}")
}

pub(crate) fn isolated_as_json(records: &[Isolated]) -> Json {
    let record = |record: &Isolated| {
        json!({
            "uid": record.uid, "bytes": record.bytes, "attempts": record.attempts, "reason": record.reason,
            "next_attempt_seconds": record.next_attempt_in.as_secs(),
        })
    };
    records.iter().map(record).collect()
}

fn whole_seconds(time: Duration) -> Duration {
    Duration::from_secs(time.as_secs())
}

pub(crate) fn row(name: &str, value: impl fmt::Display) {
    say!("{name:<14} {value}");
}

pub(crate) fn row_if(name: &str, value: Option<impl fmt::Display>) {
    if let Some(value) = value {
        row(name, value);
    }
}
