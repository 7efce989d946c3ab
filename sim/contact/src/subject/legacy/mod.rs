//! The Python client that came before ([`client`]) as a subject: the second one, and the proof that the judges need no
//! stamps. A report on mocks had passed it in 4 of 4 validations.
//!
//! It tells its callers nothing of tiers, so this file claims for it what it could honestly claim:
//!
//! | call | what is done | what is answered |
//! | --- | --- | --- |
//! | upsert | `upsert`, which saves | `Shared` if every SET went through, `Local` if an error was swallowed |
//! | get | `get` | `Shared` if the record, or that there is none, came from Redis; `Local` if from memory |
//! | clear | `clear` | the uids of the keys that it deleted and of the records that it forgot; a key that is not under the prefix as it is |
//! | sync | `save` | everything is pending if an error was swallowed, else nothing |
//! | remove, list | nothing: the client has neither | refused |
//!
//! An error of the disk, which it raises, comes after its memory has changed: the outcome is unknown. It calls itself
//! connected for ever if Redis answered its first PING, and degraded for ever if not. Of its file it reports nothing.

mod client;
mod pool;
pub(super) mod stored;
#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, io};

use seedbed_env::Env;
use tokio::sync::RwLock;

pub(super) use self::client::FILE;
use self::client::{AnsweredFrom, RedisContactCache, RedisTold};
use super::{Pending, Settings, Status, Subject, contact_cache::patch_of};
use crate::history::{Answer, Call, Freshness, Outcome, Placement, RecordName, Source};

/// A client, until it is closed.
pub(super) struct LegacySubject<E: Env> {
    prefix: String,
    client: RwLock<Option<RedisContactCache<E>>>,
}

impl<E: Env> LegacySubject<E> {
    /// Makes a client.
    pub(super) async fn open(env: E, settings: &Settings) -> io::Result<Self> {
        let client = RwLock::new(Some(RedisContactCache::new(env, settings).await?));
        Ok(Self { prefix: settings.prefix.clone(), client })
    }

    async fn answer(&self, client: &RedisContactCache<E>, call: &Call) -> io::Result<Outcome> {
        let answer = match call {
            Call::Upsert { uid, patch, shared: false } if !patch.removes_cells() => match uid.parse() {
                Ok(uid) => written(client.upsert(&uid, patch_of(patch)).await?),
                Err(error) => return Ok(Outcome::Fail { error: format!("refused: {error}") }),
            },
            Call::Get { uid, freshness: Freshness::Any } => {
                let (record, from) = client.get(uid).await;
                let record = record.map(|record| serde_json::to_value(record).expect("a record becomes JSON").into());
                let source = if from == AnsweredFrom::Redis { Source::Shared } else { Source::Local };
                Answer::Read { source, record }
            }
            Call::Clear => {
                let (keys, forgotten, told) = client.clear().await?;
                let mut uids: BTreeSet<_> = keys.iter().map(|key| self.uid_of_key(key)).collect();
                uids.extend(forgotten);
                let (placement, uids) = (placement(told), uids.into_iter().collect());
                Answer::Cleared { placement, uids, complete: placement == Placement::Shared }
            }
            Call::Sync => Answer::Synced {
                pending: match client.save().await? {
                    RedisTold::Redis => 0,
                    RedisTold::Nobody => client.held(),
                },
            },
            Call::Upsert { .. }
            | Call::Get { .. }
            | Call::GetMany { .. }
            | Call::Import { .. }
            | Call::Remove { .. }
            | Call::List => {
                return Ok(Outcome::Fail { error: "refused: this client cannot do that".to_owned() });
            }
        };
        Ok(Outcome::Ok { answer })
    }

    fn uid_of_key(&self, key: &[u8]) -> String {
        let key = String::from_utf8_lossy(key);
        let uid = key.strip_prefix(&self.prefix).and_then(|rest| rest.strip_prefix(':'));
        uid.unwrap_or(&key).to_owned()
    }
}

impl<E: Env> Subject for LegacySubject<E> {
    fn call<'a>(&'a self, call: &'a Call) -> Pending<'a, Outcome> {
        Box::pin(async {
            let guard = self.client.read().await;
            let Some(client) = &*guard else { return Outcome::Fail { error: "the client is closed".to_owned() } };
            let outcome = self.answer(client, call).await;
            outcome.unwrap_or_else(|error| Outcome::Info { error: error.to_string() })
        })
    }

    fn close(&self) -> Pending<'_, Result<(), String>> {
        Box::pin(async {
            *self.client.write().await = None;
            Ok(())
        })
    }

    fn status(&self) -> Status {
        let state = match self.client.try_read().as_deref() {
            Ok(Some(client)) if client.is_redis_available() => "connected",
            Ok(Some(_)) => "degraded",
            Ok(None) => "closed",
            Err(_) => "closing",
        };
        Status { state: state.to_owned(), ..Status::default() }
    }
}

/// A key belongs to every record of the run that it could be of.
pub(super) fn records_of_key(key: &[u8], prefixes: &[&str]) -> Vec<RecordName> {
    let Ok(key) = std::str::from_utf8(key) else { return Vec::new() };
    let record = |prefix: &&str| {
        let uid = key.strip_prefix(prefix)?.strip_prefix(':')?;
        Some(RecordName { prefix: (*prefix).to_owned(), uid: uid.to_owned() })
    };
    prefixes.iter().filter_map(record).collect()
}

fn written(told: RedisTold) -> Answer {
    Answer::Written { placement: placement(told), stamp: None }
}

fn placement(told: RedisTold) -> Placement {
    match told {
        RedisTold::Redis => Placement::Shared,
        RedisTold::Nobody => Placement::Local,
    }
}
