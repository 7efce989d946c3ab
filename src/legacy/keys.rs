//! The keys of the cache that came before: a string at `<prefix>:<uid>`, the record as JSON. They are read, by SCAN and
//! GET, and left as they are.

use std::{collections::BTreeSet, future::Future, str::FromStr, sync::atomic::AtomicBool, time::Duration};

use redis::{RedisResult, Value, aio::MultiplexedConnection};

use super::BadRecord;
use crate::{
    config::{Config, RedisUrl},
    contact::CachedContact,
    env::{Env, Tls, timeout},
    key::{Prefix, glob_escape},
    shared::{
        CallError,
        addresses::Addresses,
        connection::{Dialled, dial},
        said::{kind_of, reason_of},
    },
    shown::Line,
};

/// Keys that Redis looks at for a page.
const SCAN_COUNT: u32 = 500;

/// How long an answer may take. Nobody waits for a single one.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why the keys cannot be read on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the legacy redis at {redis} cannot be read: {}", Line(reason))]
pub struct Unreadable {
    redis: String,
    reason: String,
}

/// A key under the prefix.
#[derive(Clone, Debug, PartialEq)]
pub struct LegacyKey {
    /// The key; bytes that are no text are replaced.
    pub key: String,
    /// Its record, or where in its value it is wrong.
    pub record: Result<CachedContact, BadRecord>,
}

/// A scan over the keys of a prefix.
pub struct LegacyKeys<E: Env> {
    env: E,
    redis: RedisUrl,
    dialled: Dialled,
    prefix: String,
    /// Where the scan goes on; none at its end.
    cursor: Option<String>,
    /// SCAN may tell a key again.
    seen: BTreeSet<Vec<u8>>,
}

impl<E: Env> LegacyKeys<E> {
    /// Connects to the Redis of the cache that came before.
    ///
    /// # Errors
    /// It cannot be reached within ten seconds, or does not let us in.
    pub async fn connect(env: E, redis: RedisUrl, tls: Tls, prefix: &str) -> Result<Self, Unreadable> {
        // Dialling looks at neither prefix nor directory.
        let empty = Prefix::from_str("").expect("nothing is not too long");
        let mut config = Config::new(redis.clone(), empty, "");
        config.tls = tls;
        let (addresses, reached) = (Addresses::default(), AtomicBool::default());
        let dialled = within(&env, dial(&env, &config, &addresses, 0, &reached, || ())).await;
        let dialled = dialled.map_err(|reason| unreadable(&redis, reason))?;
        Ok(Self { env, redis, dialled, prefix: prefix.to_owned(), cursor: Some("0".to_owned()), seen: BTreeSet::new() })
    }

    /// The next page, which may be empty; none at the end. Each key once.
    ///
    /// # Errors
    /// Redis does not answer, or refuses to. The page may be asked for again.
    pub async fn next_page(&mut self) -> Result<Option<Vec<LegacyKey>>, Unreadable> {
        let Some(cursor) = self.cursor.clone() else { return Ok(None) };
        let connection = self.dialled.multiplexed.clone();
        let page = page(connection, &self.prefix, &cursor, &self.seen);
        let (next, values) = within(&self.env, page).await.map_err(|reason| unreadable(&self.redis, reason))?;
        self.cursor = (next != "0").then_some(next);
        let mut page = Vec::with_capacity(values.len());
        for (key, value) in values {
            // A key that is gone since was removed by its owner.
            if !matches!(value, Ok(Value::Nil)) {
                let record = record(&self.prefix, &key, value);
                page.push(LegacyKey { key: String::from_utf8_lossy(&key).into_owned(), record });
            }
            self.seen.insert(key);
        }
        Ok(Some(page))
    }
}

type Page = (String, Vec<(Vec<u8>, RedisResult<Value>)>);

async fn page(
    mut connection: MultiplexedConnection,
    prefix: &str,
    cursor: &str,
    seen: &BTreeSet<Vec<u8>>,
) -> Result<Page, CallError> {
    let mut scan = redis::cmd("SCAN");
    scan.arg(cursor).arg("MATCH").arg(format!("{}:*", glob_escape(prefix))).arg("COUNT").arg(SCAN_COUNT);
    let (next, keys): (String, Vec<Vec<u8>>) = scan.query_async(&mut connection).await?;
    let keys: BTreeSet<_> = keys.into_iter().filter(|key| !seen.contains(key)).collect();
    if keys.is_empty() {
        return Ok((next, Vec::new()));
    }
    let mut pipeline = redis::pipe();
    // A key of another type is no reason to fail the others.
    pipeline.ignore_errors();
    for key in &keys {
        pipeline.cmd("GET").arg(key);
    }
    let values: Vec<RedisResult<Value>> = pipeline.query_async(&mut connection).await?;
    Ok((next, keys.into_iter().zip(values).collect()))
}

fn record(prefix: &str, key: &[u8], value: RedisResult<Value>) -> Result<CachedContact, BadRecord> {
    let bad = |reason: String| BadRecord { line: 1, column: 1, reason };
    let uid = std::str::from_utf8(key).map_err(|_| bad("the key is no text".to_owned()))?;
    let uid = uid.strip_prefix(prefix).and_then(|rest| rest.strip_prefix(':'));
    let uid = uid.ok_or_else(|| bad("the key is not under the prefix".to_owned()))?;
    match value {
        Ok(Value::BulkString(bytes)) => {
            let text = std::str::from_utf8(&bytes);
            super::record(uid, text.map_err(|error| bad(format!("the value is no text: {error}")))?)
        }
        Ok(other) => Err(bad(format!("GET was answered with {}", kind_of(&other)))),
        Err(error) => Err(bad(format!("the value cannot be read: {}", reason_of(&error)))),
    }
}

async fn within<E: Env, T>(env: &E, work: impl Future<Output = Result<T, CallError>>) -> Result<T, String> {
    let answer = timeout(env, PATIENCE, work).await;
    answer.ok_or_else(|| format!("no answer within {PATIENCE:?}"))?.map_err(|error| error.to_string())
}

fn unreadable(redis: &RedisUrl, reason: String) -> Unreadable {
    Unreadable { redis: format!("{redis:?}"), reason }
}
