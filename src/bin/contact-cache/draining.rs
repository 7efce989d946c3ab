//! Merging what a local store has for Redis, before its directory is given up.

use std::time::Duration;

use contact_cache::{
    State,
    env::{Env as _, TokioEnv},
};
use serde_json::json;

use crate::{
    arguments::Tool,
    exit::{ExitCode, Failure},
    inspection::LOG,
    say,
    settings::Settings,
};

pub(crate) async fn drain(env: TokioEnv, tool: &Tool, within: Duration) -> Result<ExitCode, Failure> {
    let settings = Settings::load(tool)?;
    let directory = settings.config.directory.clone();
    if settings.is_thrown_away() {
        return Err(Failure::bad_input("which local store? Name its directory with --directory, or in the settings"));
    }
    // A new store made here would hide a misspelt name.
    if !directory.join(LOG).exists() {
        return Err(Failure::bad_input(format!(
            "there is no local store in {}: name a directory with a {LOG}",
            directory.display()
        )));
    }
    let end = env.now() + within;
    let opened = settings.open(env.clone()).await?;
    let before = opened.cache.health().pending_records;
    let mut left = opened.cache.sync().await;
    while left > 0 && env.now() < end {
        left = opened.cache.sync().await;
    }
    let (health, report) = (opened.cache.health(), opened.cache.open_report().clone());
    opened.close(Ok(())).await?;
    if tool.json {
        say!(
            "{}",
            json!({
                "directory": directory, "pending_before": before, "left": left, "state": health.state.to_string(),
                "away_because": health.away_because, "refused": health.refused, "set_aside": report.set_aside,
            })
        );
    }
    if let Some(set_aside) = &report.set_aside {
        eprintln!(
            "note: the store was damaged; what could be read was drained, the whole file is {}",
            set_aside.display()
        );
    }
    if left == 0 {
        if !tool.json {
            say!("drained: redis has everything that {} held for it", directory.display());
        }
        return Ok(ExitCode::Done);
    }
    let away = matches!(health.state, State::Degraded | State::Probing);
    let why = match (away, health.refused, health.away_because) {
        (true, _, because) => {
            format!("redis is away: {}", because.unwrap_or_else(|| "no connection stands".to_owned()))
        }
        (false, Some(refused), _) => format!("redis refused: {refused}"),
        (false, None, _) => "there was no time: allow more with --within".to_owned(),
    };
    let code = if away { ExitCode::Unavailable } else { ExitCode::Partly };
    let message = format!("{left} records are left in {}; {why}. `inspect` shows them", directory.display());
    Err(Failure { code, message })
}
