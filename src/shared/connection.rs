//! One connection to Redis, and what is asked of it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use metrics::Counter;
use redis::{AsyncConnectionConfig, Cmd, ErrorKind, RedisError, RedisResult, Value, aio::MultiplexedConnection};

use super::{
    CallError,
    addresses::{self, Addresses},
    clock::AskedAt,
    horizon::{FAR_MS, Horizon, cells},
    overheard::{FirstLine, Overheard},
    query,
    reply::{Flat, record_of},
    said::server_error,
    script::{self, Mode, Terms},
    wrong_reply,
};
use crate::{
    config::Config,
    env::{Address, Env, Task},
    key::{Keys, Uid},
    record::{Merged, Record},
    shown::Line,
    stamp::Stamp,
};

/// Keys that Redis looks at for a page of a list: some tenths of a millisecond of its time.
const SCAN_COUNT: u32 = 500;

/// A connection whose generation is known. Clones share it.
#[derive(Clone)]
pub(crate) struct Connection {
    multiplexed: MultiplexedConnection,
    driver: Arc<Driver>,
    /// Tells this connection's news from those of earlier ones.
    pub(crate) id: u64,
    /// Where it leads.
    pub(crate) address: Arc<Address>,
    /// The generation of Redis's data that this connection was checked to lead to (R6).
    pub(crate) generation: Arc<str>,
    /// How often the merge script had to be sent.
    scripts_sent: Counter,
    horizon: Arc<Horizon>,
}

/// A connection before its generation is known.
pub(crate) struct Dialled {
    pub(crate) multiplexed: MultiplexedConnection,
    driver: Arc<Driver>,
    id: u64,
    address: Arc<Address>,
    line: FirstLine,
}

/// The task that moves a connection's bytes. It ends with the last handle: a driver that waits for a dead peer to read
/// would otherwise hold its socket for ever.
struct Driver {
    task: Box<dyn Task>,
    ended: Arc<AtomicBool>,
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Opens a connection to one of the endpoint's addresses and authenticates, which the caller gives up after
/// `connect_timeout`. Sets `reached` once a server has taken it; calls `on_end` when it ends by itself.
///
/// Cancellation: the attempt is abandoned and its socket closed.
pub(crate) async fn dial<E: Env>(
    env: &E,
    config: &Config,
    addresses: &Addresses,
    id: u64,
    reached: &AtomicBool,
    on_end: impl FnOnce() + Send + 'static,
) -> Result<Dialled, CallError> {
    let connected = addresses::connect(env, &config.endpoint(), addresses, config.connect_timeout).await;
    let (address, stream) = connected.map_err(|error| CallError::Unknown(Line(error).to_string()))?;
    reached.store(true, Ordering::Relaxed);
    let (stream, line) = Overheard::new(stream);
    // The crate's own timeouts need a tokio reactor and would not be covered by our deadlines: off.
    let timeouts = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
    let opened = MultiplexedConnection::new_with_config(config.redis.connection_info(), stream, timeouts).await;
    let (multiplexed, driver) = opened.map_err(|error| refused_login(error, &line))?;
    let ended = Arc::new(AtomicBool::new(false));
    let flag = ended.clone();
    let task = env.spawn(async move {
        driver.await;
        flag.store(true, Ordering::Relaxed);
        on_end();
    });
    let driver = Arc::new(Driver { task: Box::new(task), ended });
    Ok(Dialled { multiplexed, driver, id, address: Arc::new(address), line })
}

/// The crate tells that a login was refused and keeps why to itself. It is the first that is asked.
fn refused_login(error: RedisError, line: &FirstLine) -> CallError {
    let said = line.error().filter(|_| error.kind() == ErrorKind::AuthenticationFailed);
    match said.as_deref().and_then(|said| said.strip_prefix('-')?.trim_end().split_once(' ')) {
        Some((code, text)) => CallError::Unusable(server_error(code, text)),
        None => CallError::from(error).overheard(line),
    }
}

impl Dialled {
    /// What `work` on this connection came to. If the server closed it with a word, that is the reason.
    pub(crate) fn heard<T>(&self, result: Result<T, CallError>) -> Result<T, CallError> {
        result.map_err(|error| error.overheard(&self.line))
    }

    pub(crate) fn with_generation(self, generation: &str, scripts_sent: Counter, horizon: &Arc<Horizon>) -> Connection {
        let Self { multiplexed, driver, id, address, line: _ } = self;
        let (generation, horizon) = (generation.into(), horizon.clone());
        Connection { multiplexed, driver, id, address, generation, scripts_sent, horizon }
    }

    /// Another connection to the data that the shared one leads to.
    pub(crate) fn beside(self, shared: &Connection) -> Connection {
        self.with_generation(&shared.generation, shared.scripts_sent.clone(), &shared.horizon)
    }
}

/// The marker of the data's generation, set to `fresh` if there is none: Redis's data is new. And Redis's clock in
/// milliseconds.
pub(crate) async fn generation(
    connection: &mut MultiplexedConnection,
    keys: &Keys,
    fresh: &str,
) -> Result<(String, u64), CallError> {
    if let (Some(marker), clock_ms) = marker_and_clock(connection, keys).await? {
        return Ok((marker, clock_ms));
    }
    let mut set = redis::cmd("SET");
    let _: Value = set.arg(keys.generation()).arg(fresh).arg("NX").query_async(connection).await?;
    // Another instance may have been first.
    let (marker, clock_ms) = marker_and_clock(connection, keys).await?;
    let marker = marker.ok_or_else(|| CallError::Unknown("redis forgot the generation at once".to_owned()))?;
    Ok((marker, clock_ms))
}

/// The marker of the data's generation, if there is one, and Redis's clock in milliseconds. Changes nothing.
pub(crate) async fn marker_and_clock(
    connection: &mut MultiplexedConnection,
    keys: &Keys,
) -> Result<(Option<String>, u64), CallError> {
    let mut pipeline = redis::pipe();
    pipeline.cmd("GET").arg(keys.generation()).cmd("TIME");
    let (marker, [seconds, micros]): (_, [u64; 2]) = pipeline.query_async(connection).await?;
    Ok((marker, seconds.saturating_mul(1000).saturating_add(micros / 1000)))
}

/// Redis's clock in milliseconds, which answered `told_ms` when it was asked at `asked`. It is asked again if the answer is more
/// than an hour from `expected_ms` (see [`Horizon`]), or came later than any reply may.
///
/// # Errors
/// Two answers differ, and neither is near `expected_ms`: replies are damaged on this connection. Or the second came late as well.
pub(crate) async fn confirmed_clock<E: Env>(
    connection: &mut MultiplexedConnection,
    keys: &Keys,
    (told_ms, asked): (u64, AskedAt),
    expected_ms: u64,
    (env, config): (&E, &Config),
) -> Result<u64, CallError> {
    let is_near = |left: u64, right: u64| left.abs_diff(right) <= FAR_MS;
    let is_late = |asked: AskedAt| asked.is_longer_ago_than(config.reply_timeout, env);
    if is_near(told_ms, expected_ms) && !is_late(asked) {
        return Ok(told_ms);
    }
    let asked = AskedAt::now(env);
    let (_, again_ms) = marker_and_clock(connection, keys).await?;
    if is_late(asked) {
        return Err(CallError::Unknown("redis was asked for its clock, and its answers came late".to_owned()));
    }
    if is_near(again_ms, told_ms) || is_near(again_ms, expected_ms) {
        return Ok(again_ms);
    }
    Err(CallError::Unknown("replies of redis are damaged on their way: two differ in its clock".to_owned()))
}

impl Connection {
    /// The same connection, found to lead to another generation of data.
    pub(crate) fn regenerated(&self, generation: &str) -> Self {
        Self { generation: generation.into(), ..self.clone() }
    }

    /// Closes the socket. Requests under way fail at once.
    pub(crate) fn abandon(&self) {
        self.driver.task.abort();
    }

    /// Whether it ended by itself.
    pub(crate) fn has_ended(&self) -> bool {
        self.driver.ended.load(Ordering::Relaxed)
    }

    /// A sign of life, which tells the generation of the data as well (none if there is no marker), and Redis's clock in
    /// milliseconds.
    pub(crate) async fn probe(&self, keys: &Keys) -> Result<(Option<String>, u64), CallError> {
        marker_and_clock(&mut self.multiplexed.clone(), keys).await
    }

    /// As [`confirmed_clock`], on this connection.
    pub(crate) async fn confirm_clock<E: Env>(
        &self,
        keys: &Keys,
        told: (u64, AskedAt),
        expected_ms: u64,
        by: (&E, &Config),
    ) -> Result<u64, CallError> {
        confirmed_clock(&mut self.multiplexed.clone(), keys, told, expected_ms, by).await
    }

    /// As [`generation`], on this connection.
    pub(crate) async fn find_generation(&self, keys: &Keys, fresh: &str) -> Result<String, CallError> {
        Ok(generation(&mut self.multiplexed.clone(), keys, fresh).await?.0)
    }

    /// Reads a record, once more if it shows a stamp that is to be doubted.
    pub(crate) async fn read(&self, key: &str) -> Result<Flat, CallError> {
        let flat = self.read_once(key).await?;
        match self.horizon.doubted(cells(&flat)) {
            None => Ok(flat),
            // Rare: in a box, so that every other read is not moved about with it.
            Some(first_ms) => Box::pin(self.read_again(key, first_ms)).await,
        }
    }

    async fn read_again(&self, key: &str, first_ms: u64) -> Result<Flat, CallError> {
        let flat = self.read_once(key).await?;
        self.horizon.judge(first_ms, self.horizon.doubted(cells(&flat)))?;
        Ok(flat)
    }

    async fn read_once(&self, key: &str) -> Result<Flat, CallError> {
        match self.ask(redis::cmd("HGETALL").arg(key)).await {
            Ok(Value::Array(flat)) => Ok(flat),
            Ok(other) => Err(wrong_reply("HGETALL", &other)),
            Err(error) => Err(named(error, key)),
        }
    }

    /// Reads several records, in one round trip.
    pub(crate) async fn read_many(&self, keys: &[String]) -> Result<Vec<Result<Flat, CallError>>, CallError> {
        let mut pipeline = redis::pipe();
        // What is wrong with one key is no reason to fail the others.
        pipeline.ignore_errors();
        for key in keys {
            pipeline.cmd("HGETALL").arg(key);
        }
        let replies: Vec<RedisResult<Value>> = pipeline.query_async(&mut self.multiplexed.clone()).await?;
        let flat = |(key, reply): (&String, RedisResult<Value>)| match reply {
            Ok(Value::Array(flat)) => Ok(flat),
            Ok(other) => Err(wrong_reply("HGETALL", &other)),
            Err(error) => Err(named(error.into(), key)),
        };
        let mut flats: Vec<_> = keys.iter().zip(replies).map(flat).collect();
        for (key, reply) in keys.iter().zip(&mut flats) {
            let doubted = reply.as_ref().ok().and_then(|flat| self.horizon.doubted(cells(flat)));
            if let Some(first_ms) = doubted {
                *reply = Box::pin(self.read_again(key, first_ms)).await;
            }
        }
        Ok(flats)
    }

    /// Joins cells into a record.
    pub(crate) async fn merge(
        &self,
        key: &str,
        mode: Mode,
        record: &Record,
        terms: Terms,
    ) -> Result<Merged, CallError> {
        let mut connection = self.multiplexed.clone();
        let merged = script::merge(&mut connection, key, mode, record, terms, &self.scripts_sent).await;
        let merged = merged.map_err(|error| named(error, key))?;
        match self.horizon.doubts(merged.newest().map(Stamp::millis)) {
            None => Ok(merged),
            Some(first_ms) => Box::pin(self.look_after(key, merged, first_ms)).await,
        }
    }

    /// Looks whether what the script told stands there. If not, its answer was damaged: a conflict is one with what stands
    /// there; after anything else it is not known what was done.
    async fn look_after(&self, key: &str, merged: Merged, first_ms: u64) -> Result<Merged, CallError> {
        let flat = self.read_once(key).await?;
        // Another call may have confirmed the stamp meanwhile. Then there is no doubt about it in this second reply either.
        let is_believed = self.horizon.doubts(Some(first_ms)).is_none();
        if is_believed || self.horizon.judge(first_ms, self.horizon.doubted(cells(&flat)))? {
            return Ok(merged);
        }
        let newest = record_of(key, &flat)?.newest();
        match (merged, newest) {
            (Merged::Conflict(_), Some(newest)) => Ok(Merged::Conflict(newest)),
            _ => Err(CallError::Unknown("an answer of the merge script was damaged on its way".to_owned())),
        }
    }

    /// A page of the records of the prefix, each with the cells that tell whether it is alive, and the cursor of the
    /// next page; `0` begins and ends. A page may repeat what an earlier one told.
    pub(crate) async fn scan_page(
        &self,
        keys: &Keys,
        cursor: &str,
    ) -> Result<(String, BTreeMap<Uid, Record>), CallError> {
        let mut scan = redis::cmd("SCAN");
        let reply = self
            .ask(scan.arg(cursor).arg("MATCH").arg(keys.pattern()).arg("COUNT").arg(SCAN_COUNT).arg("TYPE").arg("hash"))
            .await?;
        let (next, page): (String, Vec<Vec<u8>>) = redis::from_redis_value(reply)
            .map_err(|_| CallError::Unknown("SCAN was answered with something else than a page of keys".to_owned()))?;
        let page = page.iter().filter_map(|key| std::str::from_utf8(key).ok());
        let page: Vec<_> = page.filter_map(|key| Some((key, keys.uid(key)?))).collect();
        let existence = self.existence(&page).await?;
        Ok((next, page.into_iter().map(|(_, uid)| uid).zip(existence).collect()))
    }

    /// Existence and tombstone of each key of a page.
    async fn existence(&self, page: &[(&str, Uid)]) -> Result<Vec<Record>, CallError> {
        if page.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipeline = redis::pipe();
        for (key, _) in page {
            pipeline.cmd("HMGET").arg(key).arg("e").arg("d");
        }
        let mut connection = self.multiplexed.clone();
        let mut cells: Vec<[Option<Vec<u8>>; 2]> = pipeline.query_async(&mut connection).await?;
        let doubted =
            |cells: &[[Option<Vec<u8>>; 2]]| self.horizon.doubted(cells.iter().flatten().flatten().map(Vec::as_slice));
        if let Some(first_ms) = doubted(&cells) {
            cells = pipeline.query_async(&mut connection).await?;
            self.horizon.judge(first_ms, doubted(&cells))?;
        }
        Ok(cells.iter().map(existence_of).collect())
    }

    async fn ask(&self, command: &Cmd) -> Result<Value, CallError> {
        Ok(query(&mut self.multiplexed.clone(), command).await?)
    }
}

/// A hash that is no record of ours has neither cell, and is no record in a list either.
fn existence_of(cells: &[Option<Vec<u8>>; 2]) -> Record {
    let fields = ["e", "d"].into_iter().zip(cells);
    let texts = fields.filter_map(|(field, cell)| Some((field, std::str::from_utf8(cell.as_deref()?).ok()?)));
    Record::from_fields(texts).unwrap_or_default()
}

/// An error reply does not name the key.
fn named(error: CallError, key: &str) -> CallError {
    match error {
        CallError::NotARecord { reason, .. } => CallError::not_a_record(key, &reason),
        other => other,
    }
}
