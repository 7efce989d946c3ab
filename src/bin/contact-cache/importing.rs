//! Taking over the records of the cache that came before.

use std::{
    fmt,
    io::{self, IsTerminal as _},
    path::Path,
    time::Duration,
};

use contact_cache::{
    CachedContact, ContactCache, Error, Imported,
    config::RedisUrl,
    env::TokioEnv,
    legacy::{BadRecord, file::Entries, keys::LegacyKeys},
};
use futures_util::future::join_all;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use crate::{
    arguments::{From, Import, Tool},
    exit::{ExitCode, Failure},
    say,
    settings::Settings,
};

/// Records under way at the same time: enough to hide the round trips.
const CONCURRENCY: usize = 32;

/// Nobody waits for a single record here, and a busy Redis is no reason to stop.
const REPLY_TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) async fn import(env: TokioEnv, tool: &Tool, import: &Import) -> Result<ExitCode, Failure> {
    // An import is in Redis or nowhere: no store of an application's is needed, and no copies are kept.
    let mut settings = Settings::fresh(tool)?;
    settings.config.reply_timeout = settings.config.reply_timeout.max(REPLY_TIMEOUT);
    settings.config.op_deadline = settings.config.op_deadline.max(3 * REPLY_TIMEOUT);
    settings.config.copies_bytes_max = 0;
    match &import.from {
        From::Json { file } => Box::pin(from_file(env, tool, settings, import.dry_run, file)).await,
        From::Redis { from_url, from_password_file, legacy_prefix } => {
            let redis = match from_url {
                Some(url) => url.parse().map_err(|error| Failure::bad_input(format!("--from-url: {error}")))?,
                None => settings.config.redis.clone(),
            };
            let redis = with_password(redis, from_password_file.as_deref())?;
            Box::pin(from_redis(env, tool, settings, import.dry_run, (redis, legacy_prefix))).await
        }
    }
}

fn with_password(redis: RedisUrl, file: Option<&Path>) -> Result<RedisUrl, Failure> {
    let Some(file) = file else { return Ok(redis) };
    let password = std::fs::read_to_string(file).map_err(|error| {
        Failure::bad_input(format!("--from-password-file: cannot read {}: {error}", file.display()))
    })?;
    Ok(redis.with_password(password.trim_end_matches(['\r', '\n'])))
}

async fn from_file(
    env: TokioEnv,
    tool: &Tool,
    settings: Settings,
    dry_run: bool,
    path: &Path,
) -> Result<ExitCode, Failure> {
    let name = path.display();
    let text =
        std::fs::read_to_string(path).map_err(|error| Failure::bad_input(format!("cannot read {name}: {error}")))?;
    let entries = Entries::find(&text);
    if let Some(broken) = entries.broken.as_ref().filter(|_| entries.is_empty()) {
        return Err(Failure::bad_input(format!("{name} is no file of the legacy cache: {broken}")));
    }
    let opened = settings.open(env).await?;
    let mut run = Run::new(&opened.cache, dry_run, Some(entries.len() as u64));
    let mut records = entries.records().peekable();
    let mut result = Ok(());
    while records.peek().is_some() && result.is_ok() {
        let page = records.by_ref().take(CONCURRENCY).map(|(key, record)| (format!("{name}: record {key}"), record));
        result = run.take(page.collect()).await;
    }
    let broken = entries.broken.as_ref().filter(|_| result.is_ok());
    if let Some(broken) = broken {
        run.tell(format_args!("{name}: {broken}; nothing behind it can be read"));
    }
    let ended = run.end(tool, result, broken.is_some());
    opened.close(ended).await
}

async fn from_redis(
    env: TokioEnv,
    tool: &Tool,
    settings: Settings,
    dry_run: bool,
    (redis, legacy_prefix): (RedisUrl, &str),
) -> Result<ExitCode, Failure> {
    let tls = settings.config.tls.clone();
    let mut keys = LegacyKeys::connect(env.clone(), redis, tls, legacy_prefix).await.map_err(Failure::unavailable)?;
    let opened = settings.open(env).await?;
    let mut run = Run::new(&opened.cache, dry_run, None);
    let result = async {
        while let Some(page) = keys.next_page().await.map_err(Failure::unavailable)? {
            let mut page = page.into_iter().map(|key| (format!("key {:?}", key.key), key.record)).peekable();
            while page.peek().is_some() {
                run.take(page.by_ref().take(CONCURRENCY).collect()).await?;
            }
        }
        Ok(())
    }
    .await;
    let ended = run.end(tool, result, false);
    opened.close(ended).await
}

/// An import under way.
struct Run<'c> {
    cache: &'c ContactCache,
    only_preview: bool,
    progress: ProgressBar,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    created: u64,
    joined: u64,
    present: u64,
    removed: u64,
    skipped: u64,
}

impl<'c> Run<'c> {
    fn new(cache: &'c ContactCache, only_preview: bool, records: Option<u64>) -> Self {
        let shown = io::stderr().is_terminal();
        let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let form = match records {
            Some(_) => "{bar:40} {pos}/{len} records  {per_sec}  {eta} left",
            None => "{spinner} {pos} records  {per_sec}",
        };
        let style = ProgressStyle::with_template(form).expect("a constant template");
        let progress = ProgressBar::with_draw_target(records, target).with_style(style);
        Self { cache, only_preview, progress, counts: Counts::default() }
    }

    /// Imports some records, each with its place. What is wrong with one concerns it alone; that Redis is away is the end.
    async fn take(&mut self, page: Vec<(String, Result<CachedContact, BadRecord>)>) -> Result<(), Failure> {
        let (cache, only_preview) = (self.cache, self.only_preview);
        let imports = page.iter().map(async |(_, record)| match record {
            Ok(record) if only_preview => Some(cache.preview_import(record).await),
            Ok(record) => Some(cache.import(record).await),
            Err(_) => None,
        });
        let mut stopped = Ok(());
        for ((place, record), imported) in page.iter().zip(join_all(imports).await) {
            match (record, imported) {
                (Err(bad), _) => self.skip(place, bad),
                (Ok(_), Some(Ok(imported))) => *self.counts.of(imported) += 1,
                (
                    Ok(_),
                    Some(Err(
                        error @ (Error::NotARecord { .. } | Error::Refused(_) | Error::TooLarge(_) | Error::Name(_)),
                    )),
                ) => {
                    self.skip(place, &error);
                }
                (Ok(_), Some(Err(error))) => stopped = Err(error.into()),
                (Ok(_), None) => {}
            }
            self.progress.inc(1);
        }
        stopped
    }

    fn skip(&mut self, place: &str, why: &dyn fmt::Display) {
        self.counts.skipped += 1;
        self.tell(format_args!("{place}: {why}; skipped"));
    }

    fn tell(&self, line: fmt::Arguments<'_>) {
        self.progress.suspend(|| eprintln!("{line}"));
    }

    /// The summary, also of an import that was stopped.
    fn end(&self, tool: &Tool, result: Result<(), Failure>, cut_short: bool) -> Result<ExitCode, Failure> {
        self.progress.finish_and_clear();
        let Counts { created, joined, present, removed, skipped } = self.counts;
        if tool.json {
            say!(
                "{}",
                json!({
                    "dry_run": self.only_preview, "created": created, "joined": joined, "already_there": present,
                    "removed": removed, "skipped": skipped, "complete": result.is_ok() && !cut_short,
                })
            );
        } else {
            let (begin, imported) = if self.only_preview { ("dry run: ", "to import") } else { ("", "imported") };
            say!(
                "{begin}{} {imported} ({created} new, {joined} joined into records that are there), {present} already \
                 there, {removed} removed from the cache since, {skipped} skipped",
                created + joined
            );
        }
        result.map_err(|Failure { code, message }| Failure {
            code,
            message: format!("stopped: {message}; import again when that is cured, it does no harm"),
        })?;
        Ok(if skipped > 0 || cut_short { ExitCode::Partly } else { ExitCode::Done })
    }
}

impl Counts {
    fn of(&mut self, imported: Imported) -> &mut u64 {
        match imported {
            Imported::Created => &mut self.created,
            Imported::Joined => &mut self.joined,
            Imported::Present => &mut self.present,
            Imported::Removed => &mut self.removed,
        }
    }
}
