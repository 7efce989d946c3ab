//! The Python client `RedisContactCache`, in Rust, faults and all. Nothing here is meant to be good.
//!
//! - A record is a JSON string at `<prefix>:<uid>`, neither part escaped. Beside it, `revealed_contacts.json` in the
//!   instance's directory holds the records that the instance wrote: one object, written over in place, never synced. A
//!   file that does not parse counts as empty.
//! - Redis is pinged once, when the client is made. If that fails it is never asked again.
//! - `upsert` gets the record, merges into it, and saves. `get` asks Redis, and takes its own record if Redis has none or
//!   there is an error. `save` writes the file, then SETs every record that it holds, whole, however old. `clear` DELs
//!   what `KEYS <prefix>:*` finds, and forgets its own.
//! - Every error of Redis is swallowed. Those of the disk are raised.
//!
//! Where the original leaves something open, this is the kinder reading: a contact point that is given again replaces the
//! old one in its place; numbers keep all their digits; no wrong
//! clock takes back when a record was last updated.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use contact_cache::{CachedContact, Patch, Timestamp, Uid};
use redis::Value;
use seedbed_env::{Disk, DiskFile, Env};
use serde_json::Value as Json;

use super::pool::Pool;
use crate::subject::Settings;

/// The local file.
pub(in crate::subject) const FILE: &str = "revealed_contacts.json";

type CachedRecords = BTreeMap<String, CachedContact>;

pub(super) struct RedisContactCache<E: Env> {
    env: E,
    prefix: String,
    path: PathBuf,
    /// None if Redis did not answer when the client was made.
    redis: Option<Pool<E>>,
    records: Mutex<CachedRecords>,
}

/// Where the client got what it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AnsweredFrom {
    Redis,
    Memory,
}

/// What became of an attempt to tell Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum RedisTold {
    Redis,
    /// There was an error, or Redis is not asked.
    Nobody,
}

impl<E: Env> RedisContactCache<E> {
    pub(super) async fn new(env: E, settings: &Settings) -> io::Result<Self> {
        let path = settings.directory.join(FILE);
        let records = env.blocking({
            let (disk, directory, path) = (env.disk().clone(), settings.directory.clone(), path.clone());
            move || load(&disk, &directory, &path)
        });
        let records = Mutex::new(records.await?);
        let pool = Pool::new(env.clone(), &settings.redis);
        let answers = pool.ask(&redis::cmd("PING")).await.is_ok();
        Ok(Self { env, prefix: settings.prefix.clone(), path, redis: answers.then_some(pool), records })
    }

    /// Whether Redis answered when the client was made.
    pub(super) fn is_redis_available(&self) -> bool {
        self.redis.is_some()
    }

    /// How many records it holds itself.
    pub(super) fn held(&self) -> u64 {
        self.records().len() as u64
    }

    pub(super) async fn get(&self, uid: &str) -> (Option<CachedContact>, AnsweredFrom) {
        let reply = self.ask(redis::cmd("GET").arg(self.key(uid))).await;
        if let Some(Value::BulkString(json)) = &reply
            && let Ok(record) = serde_json::from_slice(json)
        {
            return (Some(record), AnsweredFrom::Redis);
        }
        let own = self.records().get(uid).cloned();
        let from = if own.is_none() && reply == Some(Value::Nil) { AnsweredFrom::Redis } else { AnsweredFrom::Memory };
        (own, from)
    }

    pub(super) async fn upsert(&self, uid: &Uid, patch: Patch) -> io::Result<RedisTold> {
        let now = Timestamp::from_millis(self.env.wall_ms());
        let fresh = || CachedContact {
            uid: uid.clone(),
            contacts: Vec::new(),
            profile: serde_json::Map::new(),
            metadata: serde_json::Map::new(),
            first_revealed_at: now,
            last_updated_at: now,
        };
        let mut record = self.get(uid.as_str()).await.0.unwrap_or_else(fresh);
        merge(&mut record, patch);
        record.last_updated_at = record.last_updated_at.max(now);
        self.records().insert(uid.as_str().to_owned(), record);
        self.save().await
    }

    pub(super) async fn save(&self) -> io::Result<RedisTold> {
        let records = self.records().clone();
        self.write_file(&records).await?;
        for (uid, record) in &records {
            let json = serde_json::to_vec(record).expect("a record becomes JSON");
            if self.ask(redis::cmd("SET").arg(self.key(uid)).arg(json)).await.is_none() {
                return Ok(RedisTold::Nobody);
            }
        }
        Ok(if self.is_redis_available() { RedisTold::Redis } else { RedisTold::Nobody })
    }

    /// The keys that it deleted, and the uids of the records that it forgot.
    pub(super) async fn clear(&self) -> io::Result<(Vec<Vec<u8>>, Vec<String>, RedisTold)> {
        let keys = self.delete_keys().await;
        let forgotten = std::mem::take(&mut *self.records());
        self.write_file(&CachedRecords::new()).await?;
        let told = if keys.is_some() { RedisTold::Redis } else { RedisTold::Nobody };
        Ok((keys.unwrap_or_default(), forgotten.into_keys().collect(), told))
    }

    async fn delete_keys(&self) -> Option<Vec<Vec<u8>>> {
        let found = self.ask(redis::cmd("KEYS").arg(format!("{}:*", self.prefix))).await?;
        let keys: Vec<Vec<u8>> = redis::from_redis_value(found).ok()?;
        if !keys.is_empty() {
            self.ask(redis::cmd("DEL").arg(&keys)).await?;
        }
        Some(keys)
    }

    /// What Redis replies. Errors are swallowed, as everywhere in this client.
    async fn ask(&self, command: &redis::Cmd) -> Option<Value> {
        self.redis.as_ref()?.ask(command).await.ok()
    }

    fn key(&self, uid: &str) -> String {
        format!("{}:{uid}", self.prefix)
    }

    async fn write_file(&self, records: &CachedRecords) -> io::Result<()> {
        let json: Arc<[u8]> = serde_json::to_vec(records).expect("records become JSON").into();
        let (disk, path) = (self.env.disk().clone(), self.path.clone());
        let write = move || {
            let file = disk.open(&path)?;
            file.set_len(0)?;
            file.write_at(0, &json)
        };
        self.env.blocking(write).await
    }

    fn records(&self) -> MutexGuard<'_, CachedRecords> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn load(disk: &impl Disk, directory: &Path, path: &Path) -> io::Result<CachedRecords> {
    disk.create_dir_all(directory)?;
    let file = disk.open(path)?;
    let mut bytes = vec![0; usize::try_from(file.len()?).expect("a file that fits into memory")];
    file.read_at(0, &mut bytes)?;
    Ok(serde_json::from_slice(&bytes).unwrap_or_default())
}

/// Contact points are united by type and value, fields one by one; a profile field that is null is ignored.
fn merge(record: &mut CachedContact, patch: Patch) {
    for given in patch.contacts {
        let same = |held: &&mut contact_cache::ContactPoint| held.kind == given.kind && held.value == given.value;
        match record.contacts.iter_mut().find(same) {
            Some(held) => *held = given,
            None => record.contacts.push(given),
        }
    }
    record.profile.extend(patch.profile.into_iter().filter(|(_, value)| *value != Json::Null));
    record.metadata.extend(patch.metadata);
}
