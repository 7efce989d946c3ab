//! The contact cache as a subject: the only place in which the bed touches the client's interface.

pub(super) mod stored;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use contact_cache::{
    CachedContact, Config, ContactCache, ContactPoint, Durability, Error, Freshness, OnLoss, OpenError, Patch, Read,
    Timestamp, Uid, error::Effect,
};
use seedbed_env::Env;
use tokio::sync::RwLock;

use super::{Pending, Settings, Status, Subject, SubjectLimits, Tuning};
use crate::history::{
    self, Answer, Call, Imported, Outcome, Placement, ReadOfOne, RecordName, Shown, Source, StoreReport,
};

/// A connection, and for a moment the one whose place it takes: a delay may be close to zero, and a task ends when it
/// is next polled; while it is opened, one to a second address of the name; beside them one each for large records, for large
/// writes and for a record that is tried alone; the tasks that drive these five, that own them, and that write the log; the log and
/// its lock, the log that takes its place, and, where damage is found meanwhile, the two ends of the copy that is set aside.
pub(super) const LIMITS: SubjectLimits = SubjectLimits { sockets: Some(6), tasks: Some(7), files: Some(5) };

/// An opened cache.
pub(super) struct ContactCacheSubject<E: Env> {
    cache: RwLock<Option<ContactCache<E>>>,
    /// The most bytes that it keeps: pending, and of copies.
    bytes_max: (u64, u64),
    shown: LastShown,
}

/// What each record last was, and that as JSON: a client that answers the very same again has it taken apart once.
#[derive(Default)]
struct LastShown(Mutex<BTreeMap<Uid, Converted>>);

type Converted = (Arc<CachedContact>, Shown);

impl LastShown {
    fn json(&self, record: Arc<CachedContact>) -> Shown {
        let mut shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match shown.get(&record.uid) {
            Some((last, json)) if Arc::ptr_eq(last, &record) => json.clone(),
            _ => {
                let json = Shown::from(serde_json::to_value(&record).expect("a record becomes JSON"));
                shown.insert(record.uid.clone(), (record, json.clone()));
                json
            }
        }
    }
}

/// The client's settings. Small where a run is short: the log is rewritten often enough to be seen doing it.
pub(super) fn config(settings: &Settings) -> Config {
    let redis = settings.redis.parse().expect("the bed names a Redis that the client can reach");
    let prefix = settings.prefix.parse().expect("workloads use prefixes within the limit");
    let mut config = Config::new(redis, prefix, &settings.directory);
    config.compact_bytes = 16 << 10;
    config.backoff_max = settings.backoff_max;
    config.backoff_first = config.backoff_first.min(config.backoff_max);
    let Tuning {
        record_ttl_ms,
        tombstone_ttl_ms,
        pending_bytes_max,
        copies_bytes_max,
        syncs_every_write,
        accepts_losses,
    } = settings.tuning;
    if syncs_every_write {
        config.durability = Durability::Always;
    }
    if accepts_losses {
        config.on_loss = OnLoss::Accept;
    }
    config.record_ttl = record_ttl_ms.map(Duration::from_millis);
    if let Some(tombstone_ttl) = tombstone_ttl_ms.map(Duration::from_millis) {
        config.tombstone_ttl = tombstone_ttl;
        config.republish_window = config.republish_window.min(tombstone_ttl / 2);
    }
    config.pending_bytes_max = pending_bytes_max.unwrap_or(config.pending_bytes_max);
    config.copies_bytes_max = copies_bytes_max.unwrap_or(config.copies_bytes_max);
    config
}

impl<E: Env> ContactCacheSubject<E> {
    /// Opens a cache.
    pub(super) async fn open(env: E, settings: &Settings) -> Result<Self, OpenError> {
        let config = config(settings);
        let bytes_max = (config.pending_bytes_max, config.copies_bytes_max);
        let cache = ContactCache::open(env, config).await?;
        Ok(Self { cache: RwLock::new(Some(cache)), bytes_max, shown: LastShown::default() })
    }

    async fn answer(&self, cache: &ContactCache<E>, call: &Call) -> Result<Outcome, Error> {
        let answer = match call {
            Call::Upsert { uid, patch, shared: false } => written(cache.upsert(&uid.parse()?, &patch_of(patch)).await?),
            Call::Remove { uid, shared: false } => written(cache.remove(&uid.parse()?).await?),
            Call::Get { uid, freshness: history::Freshness::Any } => self.read(cache.get(&uid.parse()?).await?),
            // Apart: their futures are memory that every call would reserve and copy for them.
            _ => return Box::pin(self.answer_rarer(cache, call)).await,
        };
        Ok(Outcome::Ok { answer })
    }

    /// To a call that workloads ask for less often.
    async fn answer_rarer(&self, cache: &ContactCache<E>, call: &Call) -> Result<Outcome, Error> {
        let answer = match call {
            Call::Upsert { uid, patch, .. } => written(cache.upsert_shared(&uid.parse()?, &patch_of(patch)).await?),
            Call::Remove { uid, .. } => written(cache.remove_shared(&uid.parse()?).await?),
            Call::Get { uid, freshness: demand } => self.read(cache.get_with(&uid.parse()?, freshness(*demand)).await?),
            Call::Import { uid, patch, first_revealed_ms, last_updated_ms, preview } => {
                let contact = contact_of(uid.parse()?, patch, (*first_revealed_ms, *last_updated_ms));
                imported(if *preview { cache.preview_import(&contact).await? } else { cache.import(&contact).await? })
            }
            Call::GetMany { uids, freshness } => return self.read_many(cache, uids, *freshness).await,
            Call::List => return list(cache).await,
            Call::Clear => return clear(cache).await,
            Call::Sync => Answer::Synced { pending: cache.sync().await },
        };
        Ok(Outcome::Ok { answer })
    }

    fn read(&self, read: Read) -> Answer {
        Answer::Read { source: source(read.source), record: read.record.map(|record| self.shown.json(record)) }
    }

    /// Notes the answer as it is: that it has each record once is for the checkers to say.
    async fn read_many(
        &self,
        cache: &ContactCache<E>,
        uids: &[String],
        demand: history::Freshness,
    ) -> Result<Outcome, Error> {
        let uids: BTreeSet<Uid> = uids.iter().map(|uid| uid.parse()).collect::<Result<_, _>>()?;
        let reads = cache.get_many(&uids, freshness(demand)).await?;
        let reads = reads.into_iter().map(|(uid, read)| {
            let outcome = match read {
                Ok(read) => Outcome::Ok { answer: self.read(read) },
                Err(error) => failed(&error),
            };
            ReadOfOne { uid: uid.as_str().to_owned(), outcome }
        });
        Ok(Outcome::Ok { answer: Answer::ReadMany { reads: reads.collect() } })
    }
}

impl<E: Env> Subject for ContactCacheSubject<E> {
    fn call<'a>(&'a self, call: &'a Call) -> Pending<'a, Outcome> {
        Box::pin(async {
            let guard = self.cache.read().await;
            let Some(cache) = &*guard else { return Outcome::Fail { error: "the cache is closed".to_owned() } };
            self.answer(cache, call).await.unwrap_or_else(|error| failed(&error))
        })
    }

    fn close(&self) -> Pending<'_, Result<(), String>> {
        Box::pin(async {
            match self.cache.write().await.take() {
                Some(cache) => cache.close().await.map_err(|error| error.to_string()),
                None => Ok(()),
            }
        })
    }

    fn status(&self) -> Status {
        let away = |state: &str| Status { state: state.to_owned(), ..Status::default() };
        // Only closing holds it against readers.
        let Ok(guard) = self.cache.try_read() else { return away("closing") };
        let Some(cache) = &*guard else { return away("closed") };
        let (health, opened) = (cache.health(), cache.open_report());
        let store = StoreReport {
            clean_end: opened.clean_end,
            lost: opened.damage.is_loss(),
            set_aside: opened.set_aside.is_some(),
            damaged_records: health.damaged_records,
            lost_log: opened.lost_log,
            is_copy: opened.is_copy,
        };
        Status {
            state: health.state.to_string(),
            pending: health.pending_records,
            store_error: health.store_error,
            pending_bytes: Some((health.pending_bytes, self.bytes_max.0)),
            copies_bytes: Some((health.copies_bytes, self.bytes_max.1)),
            store: Some(store),
        }
    }

    fn connects(&self) -> Option<Pending<'static, ()>> {
        let connected = self.cache.try_read().ok()?.as_ref()?.connected();
        Some(Box::pin(connected))
    }
}

/// Says by its first word what the checkers excuse.
fn failed(error: &Error) -> Outcome {
    let kind = match error {
        Error::PendingFull { .. } => "full: ",
        Error::Forgotten => "forgotten: ",
        Error::NotShared { .. } => "not shared: ",
        Error::TooOld { .. } => "too old: ",
        _ => "",
    };
    let said = format!("{kind}{error}");
    match error.effect() {
        Effect::None => Outcome::Fail { error: said },
        Effect::Unknown => Outcome::Info { error: said },
    }
}

async fn list<E: Env>(cache: &ContactCache<E>) -> Result<Outcome, Error> {
    let listing = cache.list().await?;
    let answer = Answer::Listed { source: source(listing.source), uids: texts(listing.uids.iter()) };
    Ok(Outcome::Ok { answer })
}

async fn clear<E: Env>(cache: &ContactCache<E>) -> Result<Outcome, Error> {
    let cleared = cache.clear().await?;
    if !cleared.unknown.is_empty() {
        // The history has no answer that is in part unknown: all of it is, then.
        return Ok(Outcome::Info { error: format!("removals may take effect yet: {:?}", cleared.unknown) });
    }
    let lowest = cleared.removed.values().max().copied();
    let answer = Answer::Cleared {
        placement: placement(lowest.unwrap_or(contact_cache::Placement::Shared)),
        uids: texts(cleared.removed.keys()),
        complete: cleared.complete,
    };
    Ok(Outcome::Ok { answer })
}

/// The record behind a key of Redis, if it is one's. Escapes are undone by hand: what the client made of a name is checked
/// by its own tests.
pub(super) fn record_of_key(key: &[u8]) -> Option<RecordName> {
    let (prefix, uid) = std::str::from_utf8(key).ok()?.strip_prefix("cc1:")?.split_once(':')?;
    Some(RecordName { prefix: unescaped(prefix)?, uid: unescaped(uid)? })
}

/// The prefix whose marker a key of Redis is.
pub(super) fn prefix_of_marker(key: &[u8]) -> Option<String> {
    unescaped(std::str::from_utf8(key).ok()?.strip_prefix("cc1g:")?)
}

fn unescaped(escaped: &str) -> Option<String> {
    let mut parts = escaped.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (code, rest) = part.split_at_checked(2)?;
        let byte = u8::from_str_radix(code, 16).ok()?;
        // A name in another spelling is no name of a record.
        if byte.is_ascii_alphanumeric() || code.bytes().any(|digit| digit.is_ascii_lowercase()) {
            return None;
        }
        bytes.push(byte);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

pub(super) fn patch_of(patch: &history::Patch) -> Patch {
    let contact = |json: &serde_json::Value| {
        serde_json::from_value::<ContactPoint>(json.clone())
            .expect("workloads write contact points with type and value")
    };
    Patch {
        contacts: patch.contacts.iter().map(contact).collect(),
        profile: patch.profile.clone(),
        metadata: patch.metadata.clone(),
        without_contacts: patch.without_contacts.clone(),
        without_profile: patch.without_profile.clone(),
        without_metadata: patch.without_metadata.clone(),
    }
}

fn written(written: contact_cache::Written) -> Answer {
    Answer::Written { placement: placement(written.placement), stamp: Some(written.stamp.to_string()) }
}

fn placement(placement: contact_cache::Placement) -> Placement {
    match placement {
        contact_cache::Placement::Shared => Placement::Shared,
        contact_cache::Placement::Local => Placement::Local,
    }
}

/// A record as another cache kept it, with the times of its first and its last write.
fn contact_of(uid: Uid, patch: &history::Patch, (first_ms, last_ms): (u64, u64)) -> CachedContact {
    let Patch { contacts, profile, metadata, .. } = patch_of(patch);
    CachedContact {
        uid,
        contacts,
        profile,
        metadata,
        first_revealed_at: Timestamp::from_millis(first_ms),
        last_updated_at: Timestamp::from_millis(last_ms),
    }
}

fn imported(became: contact_cache::Imported) -> Answer {
    let became = match became {
        contact_cache::Imported::Created => Imported::Created,
        contact_cache::Imported::Joined => Imported::Joined,
        contact_cache::Imported::Present => Imported::Present,
        contact_cache::Imported::Removed => Imported::Removed,
    };
    Answer::Imported { became }
}

fn freshness(freshness: history::Freshness) -> Freshness {
    match freshness {
        history::Freshness::Any => Freshness::Any,
        history::Freshness::WithinMs(ms) => Freshness::Within(Duration::from_millis(ms)),
        history::Freshness::Shared => Freshness::Shared,
    }
}

fn source(source: contact_cache::Source) -> Source {
    match source {
        contact_cache::Source::Shared => Source::Shared,
        contact_cache::Source::Merged => Source::Merged,
        contact_cache::Source::Local => Source::Local,
    }
}

fn texts<'a>(uids: impl Iterator<Item = &'a Uid>) -> Vec<String> {
    uids.map(|uid| uid.as_str().to_owned()).collect()
}
