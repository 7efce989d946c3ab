//! What a local store holds, read without a lock and without changing anything.

use std::{
    io,
    path::{Path, PathBuf},
};

use contact_cache::{
    Inspection, Prefix, Timestamp,
    env::{Disk as _, DiskFile as _, TokioDisk},
    inspect_with_lock as read_through,
    shown::Name,
};
use serde_json::{Value as Json, json};

use crate::{
    arguments::Tool,
    complain,
    exit::{Failure, ToolExitCode, say_json},
    records::{row, row_if},
    say,
};

/// Above this a record is merged apart from the others.
const LARGE_BYTES: u64 = 64 << 10;

/// The log of a store, in its directory.
const LOG: &str = "store.log";
/// The file beside it that is locked, and says that there was a log, and how long it was.
const LOCK: &str = "lock";

pub(crate) fn inspect(tool: &Tool, path: &Path) -> Result<ToolExitCode, Failure> {
    let log = if path.is_dir() { find_log(path)? } else { path.to_owned() };
    let file = TokioDisk.open_to_read(&log).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => no_store(path),
        _ => Failure::unavailable(error),
    })?;
    // It knows how long the log is; a log that was set aside has none.
    let lock = log.file_name().filter(|name| *name == LOG).map(|_| log.with_file_name(LOCK));
    let lock = match lock.map(|lock| TokioDisk.open_to_read(&lock)).transpose() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        lock => lock.map_err(Failure::unavailable)?,
    };
    let prefix: Option<Prefix> =
        tool.prefix.as_ref().map(|prefix| prefix.parse()).transpose().map_err(Failure::bad_input)?;
    let found = read_through(file, &log, prefix.as_ref(), lock.as_ref())?;
    let set_aside = set_aside(path)?;
    if tool.json {
        say_json(&as_json(&log, &found, &set_aside).to_string());
    } else {
        say_all(&log, &found, &set_aside);
    }
    if found.prefix.is_none() && prefix.is_none() {
        complain!("note: the entry that names the prefix cannot be read, and without it no other: add --prefix");
    }
    Ok(if found.damage.is_loss() { ToolExitCode::Partly } else { ToolExitCode::Done })
}

/// The log in the directory of a store, be it a link.
pub(crate) fn find_log(directory: &Path) -> Result<PathBuf, Failure> {
    let log = directory.join(LOG);
    match TokioDisk.stat(&log) {
        Ok(_) => Ok(log),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Failure::unavailable(error)),
        Err(_) => {
            let lock = TokioDisk.open_to_read(&directory.join(LOCK));
            let had_log = lock.and_then(|lock| lock.len()).is_ok_and(|len| len > 0);
            let gone = || {
                Failure::unavailable(format!(
                    "the {LOG} of the local store in {} is gone: what it held for redis is lost, unless it is put back",
                    directory.display()
                ))
            };
            Err(if had_log { gone() } else { no_store(directory) })
        }
    }
}

fn no_store(path: &Path) -> Failure {
    Failure::bad_input(format!(
        "there is no local store at {}: name the directory of one, which has a {LOG}, or a damaged-<n>.log",
        path.display()
    ))
}

/// Damaged logs that were set aside in the directory.
pub(crate) fn set_aside(path: &Path) -> Result<Vec<String>, Failure> {
    if !path.is_dir() {
        return Ok(Vec::new());
    }
    let names = TokioDisk.list(path).map_err(Failure::unavailable)?;
    Ok(names.into_iter().filter(|name| name.starts_with("damaged-")).collect())
}

fn as_json(log: &Path, found: &Inspection, set_aside: &[String]) -> Json {
    let pending = found.pending.iter().map(|record| {
        let cells = record.cells.iter();
        let cells =
            cells.map(|cell| json!({"field": cell.field, "stamp": cell.stamp.to_string(), "value": cell.value}));
        json!({
            "uid": record.uid, "bytes": record.bytes, "cells": cells.collect::<Vec<_>>(),
            "first_revealed_at": record.first_revealed_at, "last_updated_at": record.last_updated_at,
        })
    });
    let unreadable = found.damage.unreadable.iter();
    let unreadable = unreadable.map(|(offset, length)| json!({"offset": offset, "length": length}));
    json!({
        "file": log, "bytes": found.bytes, "prefix": found.prefix, "format": found.format,
        "redis": found.redis, "generation": found.generation, "ceiling": moment(found.ceiling_ms),
        "clean_end": found.clean_end, "records": found.records, "removed": found.removed,
        "copies": copies(found), "forgot": found.forgot, "pending": pending.collect::<Vec<_>>(),
        "damage": {
            "unreadable": unreadable.collect::<Vec<_>>(), "missing_entries": found.damage.missing_entries,
            "torn_tail_bytes": found.damage.torn_tail_bytes,
        },
        "set_aside": set_aside,
    })
}

fn say_all(log: &Path, found: &Inspection, set_aside: &[String]) {
    row("file", format_args!("{}, format {}, {} bytes", log.display(), found.format, found.bytes));
    row(
        "prefix",
        found.prefix.as_deref().map_or_else(|| "cannot be read".to_owned(), |prefix| Name(prefix).to_string()),
    );
    row_if("redis", found.redis.as_ref());
    row("generation", found.generation.as_deref().unwrap_or("none: redis was never reached"));
    row("clock ceiling", moment(found.ceiling_ms));
    row("last entry", if found.clean_end { "closed in order" } else { "not closed: in use, or ended by a crash" });
    row("records", format_args!("{}, and {} removed ones", found.records, found.removed));
    row("copies", copies(found));
    if found.forgot {
        row("forgotten", "some copies, to keep within copies_bytes_max");
    }
    for (offset, length) in &found.damage.unreadable {
        row("DAMAGED", format_args!("{length} bytes at byte {offset}"));
    }
    row_if("MISSING", Some(found.damage.missing_entries).filter(|missing| *missing > 0));
    if found.damage.torn_tail_bytes > 0 {
        row("torn tail", format_args!("{} bytes, an append under way or cut short", found.damage.torn_tail_bytes));
    }
    for name in set_aside {
        row("set aside", format_args!("{name}, damaged; look into it with `inspect`"));
    }
    row("pending", format_args!("{} records", found.pending.len()));
    for record in &found.pending {
        let uid = &record.uid;
        if record.bytes > LARGE_BYTES {
            say!("  {uid}: large, {} cells of {} bytes, merged alone", record.cells.len(), record.bytes);
        } else {
            say!("  {uid}");
        }
        for cell in &record.cells {
            say!("    {} {} {}", cell.stamp, Name(&cell.field), cell.value.as_deref().unwrap_or("(removed)"));
        }
        if record.cells.is_empty() {
            say!("    its times");
        }
    }
}

/// Records of which Redis has everything.
fn copies(found: &Inspection) -> u64 {
    (found.records + found.removed).saturating_sub(found.pending.len() as u64)
}

fn moment(millis: u64) -> String {
    Timestamp::from_millis(millis).to_string()
}
