//! Merging what a local store has for Redis, before its directory is given up.

use std::{path::Path, time::Duration};

use contact_cache::{
    OpenReport, State,
    env::{Env as _, TokioEnv},
};
use serde_json::json;

use crate::{
    arguments::Tool,
    complain,
    exit::{Failure, ToolExitCode, say_json},
    inspection::{find_log, set_aside},
    records::{isolated, isolated_as_json},
    say,
    settings::ToolSettings,
};

pub(crate) async fn drain(env: TokioEnv, tool: &Tool, within: Duration) -> Result<ToolExitCode, Failure> {
    let settings = ToolSettings::load(tool)?;
    let directory = settings.config.directory.clone();
    if settings.is_thrown_away() {
        return Err(Failure::bad_input("which local store? Name its directory with --directory, or in the settings"));
    }
    // A new store made here would hide a misspelt name.
    find_log(&directory)?;
    let end = env.now() + within;
    let opened = settings.open(env.clone()).await?;
    let before = opened.cache.health().pending_records;
    let mut left = opened.cache.sync().await;
    // Another Redis than the store's does not become the right one by waiting.
    while left > 0 && env.now() < end && opened.cache.health().other_redis.is_none() {
        left = opened.cache.sync().await;
    }
    let (health, report) = (opened.cache.health(), opened.cache.open_report().clone());
    opened.close(Ok(())).await?;
    if let Some(other) = &health.other_redis {
        return Err(Failure::bad_input(other));
    }
    let missing = missing(&directory, &report, health.damaged_records)?;
    if tool.json {
        say_json(
            &json!({
                "directory": directory, "pending_before": before, "left": left, "state": health.state.to_string(),
                "away_because": health.away_because, "refused": health.refused, "set_aside": report.set_aside,
                "missing": missing,
                "isolated_records": health.isolated_records, "isolated": isolated_as_json(&health.isolated),
            })
            .to_string(),
        );
    }
    for why in &missing {
        complain!("note: {why}");
    }
    if left == 0 {
        if !tool.json && missing.is_empty() {
            say!("drained: redis has everything that {} held for it", directory.display());
        } else if !tool.json {
            say!("redis has what could be read of {}, which may not be all that it held", directory.display());
        }
        return Ok(if missing.is_empty() { ToolExitCode::Done } else { ToolExitCode::Partly });
    }
    for record in &health.isolated {
        complain!("note: {}", isolated(record));
    }
    let away = matches!(health.state, State::Degraded | State::Probing);
    let why = match (away, health.refused, health.away_because) {
        (true, _, because) => {
            format!("redis is away: {}", because.unwrap_or_else(|| "no connection stands".to_owned()))
        }
        (false, Some(refused), _) => format!("redis refused: {refused}"),
        (false, None, _) if !health.isolated.is_empty() => {
            format!("redis cannot take {} of them, named above", health.isolated_records)
        }
        (false, None, _) => "there was no time: allow more with --within".to_owned(),
    };
    let code = if away { ToolExitCode::Unavailable } else { ToolExitCode::Partly };
    let message = format!("{left} records are left in {}; {why}. `inspect` shows them", directory.display());
    Err(Failure { code, message })
}

/// What a store may have held that could not be merged, since it could not be read.
fn missing(directory: &Path, report: &OpenReport, damaged_records: u64) -> Result<Vec<String>, Failure> {
    let mut missing = Vec::new();
    if report.lost_log {
        missing.push("the log was gone, and what it held is lost with it".to_owned());
    }
    if report.damage.is_loss() {
        missing.push("the store was damaged: what could be read was drained".to_owned());
    } else if !report.is_whole && !report.lost_log {
        missing.push(
            "the store was not closed in order, and nothing tells where its log ended: it may have been cut short"
                .to_owned(),
        );
    }
    if damaged_records > 0 {
        missing.push(format!("{damaged_records} records turned out to be damaged"));
    }
    missing.extend(set_aside(directory)?.into_iter().map(|name| {
        format!("{name} was set aside as damaged: look into it with `inspect`, and remove it once it is of no more use")
    }));
    Ok(missing)
}
