//! Taking over the records of the cache that came before.

use std::{
    fmt,
    fs::File,
    io::{self, IsTerminal as _},
    ops::ControlFlow,
    path::{Display, Path},
    time::Duration,
};

use contact_cache::{
    CachedContact, ContactCache, Error, Imported,
    config::RedisUrl,
    env::TokioEnv,
    legacy::{
        BadRecord,
        file::{self, Entry},
        keys::LegacyKeys,
    },
};
use futures_util::future::join_all;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};

use crate::{
    arguments::{Import, ImportFrom, Tool},
    complain,
    exit::{Failure, ToolExitCode, say_json},
    say,
    settings::ToolSettings,
};

/// Records under way at the same time: enough to hide the round trips.
const CONCURRENCY: usize = 32;

/// Nobody waits for a single record here, and a busy Redis is no reason to stop.
const REPLY_TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) async fn import(env: TokioEnv, tool: &Tool, import: &Import) -> Result<ToolExitCode, Failure> {
    // An import is in Redis or nowhere: no store of an application's is needed, and no copies are kept.
    let mut settings = ToolSettings::fresh(tool)?;
    settings.config.reply_timeout = settings.config.reply_timeout.max(REPLY_TIMEOUT);
    settings.config.op_deadline = settings.config.op_deadline.max(3 * REPLY_TIMEOUT);
    settings.config.copies_bytes_max = 0;
    match &import.from {
        ImportFrom::Json { file } => Box::pin(from_file(env, tool, settings, import.dry_run, file)).await,
        ImportFrom::Redis { from_url, from_password_file, legacy_prefix } => {
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

#[expect(clippy::disallowed_methods, reason = "a file of the operator's")]
async fn from_file(
    env: TokioEnv,
    tool: &Tool,
    settings: ToolSettings,
    dry_run: bool,
    path: &Path,
) -> Result<ToolExitCode, Failure> {
    let name = path.display();
    let file = File::open(path).map_err(|error| Failure::bad_input(format!("cannot read {name}: {error}")))?;
    let bytes = file.metadata().ok().map(|metadata| metadata.len()).filter(|bytes| *bytes > 0);
    let mut entries = FileEntries::of(file);
    // A file that is none of the old cache's is said to be that whether Redis is there or not.
    let first = entries.next().await;
    if first.is_none()
        && let Some(broken) = entries.broken()
    {
        return Err(Failure::bad_input(format!("{name} is no file of the legacy cache: {broken}")));
    }
    let opened = settings.open(env).await?;
    let mut run = ImportRun::new(&opened.cache, dry_run, bytes);
    let result = take_all(&mut run, &name, first, &mut entries).await;
    let broken = entries.broken().filter(|_| result.is_ok());
    if let Some(broken) = &broken {
        run.tell(format_args!("{name}: {broken}; nothing behind it can be read"));
    }
    let ended = run.end(tool, result, broken.is_some());
    opened.close(ended).await
}

/// Imports what is left of a file, in pages.
async fn take_all(
    run: &mut ImportRun<'_>,
    name: &Display<'_>,
    first: Option<Entry>,
    entries: &mut FileEntries,
) -> Result<(), Failure> {
    let mut next = first;
    while let Some(entry) = next.take() {
        let mut page = vec![entry];
        while page.len() < CONCURRENCY {
            match entries.next().await {
                Some(entry) => page.push(entry),
                None => break,
            }
        }
        let end = page.last().map_or(0, |entry| entry.end);
        let named = |entry: Entry| (format!("{name}: record {}", entry.name), entry.record);
        run.take(page.into_iter().map(named).collect()).await?;
        run.progress.set_position(end);
        next = entries.next().await;
    }
    Ok(())
}

/// The entries of a file, read by a thread of its own as they are asked for.
struct FileEntries {
    found: mpsc::Receiver<Entry>,
    end: oneshot::Receiver<Result<(), BadRecord>>,
}

impl FileEntries {
    #[expect(clippy::disallowed_methods, reason = "the tool runs on tokio, outside of any simulation")]
    fn of(file: File) -> Self {
        let ((found, entries), (ended, end)) = (mpsc::channel(CONCURRENCY), oneshot::channel());
        tokio::task::spawn_blocking(move || {
            let read = file::read(file, |entry| match found.blocking_send(entry) {
                Ok(()) => ControlFlow::Continue(()),
                // An import that was stopped.
                Err(_) => ControlFlow::Break(()),
            });
            // First, so that who has seen the last entry finds it.
            let _ = ended.send(read);
            drop(found);
        });
        Self { found: entries, end }
    }

    async fn next(&mut self) -> Option<Entry> {
        self.found.recv().await
    }

    /// Where the file stops being one of entries. To be asked once, after the last one.
    fn broken(&mut self) -> Option<BadRecord> {
        self.end.try_recv().ok()?.err()
    }
}

async fn from_redis(
    env: TokioEnv,
    tool: &Tool,
    settings: ToolSettings,
    dry_run: bool,
    (redis, legacy_prefix): (RedisUrl, &str),
) -> Result<ToolExitCode, Failure> {
    let tls = settings.config.tls.clone();
    let mut keys = LegacyKeys::connect(env.clone(), redis, tls, legacy_prefix).await.map_err(Failure::unavailable)?;
    let opened = settings.open(env).await?;
    let mut run = ImportRun::new(&opened.cache, dry_run, None);
    let result = async {
        while let Some(page) = keys.next_page().await.map_err(Failure::unavailable)? {
            let mut page = page.into_iter().map(|key| (format!("key {:?}", key.key), key.record)).peekable();
            while page.peek().is_some() {
                let part: Vec<_> = page.by_ref().take(CONCURRENCY).collect();
                let records = part.len() as u64;
                run.take(part).await?;
                run.progress.inc(records);
            }
        }
        Ok(())
    }
    .await;
    let ended = run.end(tool, result, false);
    opened.close(ended).await
}

/// An import under way.
struct ImportRun<'c> {
    cache: &'c ContactCache,
    only_preview: bool,
    progress: ProgressBar,
    counts: ImportCounts,
}

#[derive(Default)]
struct ImportCounts {
    created: u64,
    joined: u64,
    present: u64,
    removed: u64,
    skipped: u64,
}

impl<'c> ImportRun<'c> {
    /// Of so many bytes, if that is known; of so many records as there are otherwise.
    fn new(cache: &'c ContactCache, only_preview: bool, bytes: Option<u64>) -> Self {
        let shown = io::stderr().is_terminal();
        let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let form = match bytes {
            Some(_) => "{bar:40} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left",
            None => "{spinner} {pos} records  {per_sec}",
        };
        let style = ProgressStyle::with_template(form).expect("a constant template");
        let progress = ProgressBar::with_draw_target(bytes, target).with_style(style);
        Self { cache, only_preview, progress, counts: ImportCounts::default() }
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
        }
        stopped
    }

    fn skip(&mut self, place: &str, why: &dyn fmt::Display) {
        self.counts.skipped += 1;
        self.tell(format_args!("{place}: {why}; skipped"));
    }

    fn tell(&self, line: fmt::Arguments<'_>) {
        self.progress.suspend(|| complain!("{line}"));
    }

    /// The summary, also of an import that was stopped.
    fn end(&self, tool: &Tool, result: Result<(), Failure>, cut_short: bool) -> Result<ToolExitCode, Failure> {
        self.progress.finish_and_clear();
        let ImportCounts { created, joined, present, removed, skipped } = self.counts;
        if tool.json {
            say_json(
                &json!({
                    "dry_run": self.only_preview, "created": created, "joined": joined, "already_there": present,
                    "removed": removed, "skipped": skipped, "complete": result.is_ok() && !cut_short,
                })
                .to_string(),
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
        Ok(if skipped > 0 || cut_short { ToolExitCode::Partly } else { ToolExitCode::Done })
    }
}

impl ImportCounts {
    fn of(&mut self, imported: Imported) -> &mut u64 {
        match imported {
            Imported::Created => &mut self.created,
            Imported::Joined => &mut self.joined,
            Imported::Present => &mut self.present,
            Imported::Removed => &mut self.removed,
        }
    }
}
