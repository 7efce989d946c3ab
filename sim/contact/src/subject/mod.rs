//! What is under test, behind one trait: the bed knows no more of it than this. docs/ANOTHER-CONTACT-CACHE.md tells how to
//! add one.

#[cfg(test)]
mod cheating;
mod contact_cache;
mod legacy;

use std::{fmt, future::Future, path::PathBuf, pin::Pin, str::FromStr, sync::Arc, time::Duration};

use seedbed_env::Env;
use seedbed_redis::{Content, Dumped};
use serde::{Deserialize, Serialize};

use self::{contact_cache::ContactCacheSubject, legacy::LegacySubject};
pub use crate::history::Tuning;
use crate::history::{
    Call, Outcome, RecordName, StoreReport, StoredEntry, StoredKey,
    contents::{Raw, StoredValue},
};

/// A future of a subject.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One opened instance of what is under test.
pub trait Subject: Send + Sync {
    /// Does what is asked. May be dropped at any await.
    fn call<'a>(&'a self, call: &'a Call) -> Pending<'a, Outcome>;

    /// Waits for the calls under way and closes.
    fn close(&self) -> Pending<'_, Result<(), String>>;

    /// How it is, without waiting.
    fn status(&self) -> Status;

    /// Completes when it is connected to Redis; perhaps never, if it ends before. A subject without this future is polled every
    /// tenth of a second instead, which costs long runs more than all of their events.
    fn connects(&self) -> Option<Pending<'static, ()>> {
        None
    }
}

/// How a subject is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Its view of Redis.
    pub state: String,
    /// Records with something that Redis does not have yet.
    pub pending: u64,
    /// Why its store takes no writes until it is opened again, if it does not.
    pub store_error: Option<String>,
    /// Bytes of writes that Redis does not have yet, and how many it promises never to pass, if it says.
    pub pending_bytes: Option<(u64, u64)>,
    /// The same of copies of what Redis holds.
    pub copies_bytes: Option<(u64, u64)>,
    /// What it says of its store, if it says anything.
    pub store: Option<StoreReport>,
}

impl Status {
    /// Connected, and nothing pending.
    pub fn is_at_rest(&self) -> bool {
        self.state == "connected" && self.pending == 0
    }
}

/// What a subject promises never to hold more of at once, for an instance (G11); none where it promises nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubjectLimits {
    /// Sockets.
    pub sockets: Option<u64>,
    /// Tasks that it has spawned.
    pub tasks: Option<u64>,
    /// Open files and locks.
    pub files: Option<u64>,
}

/// What the bed decides about an instance.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The Redis to use, as a URL.
    pub redis: String,
    /// The key prefix.
    pub prefix: String,
    /// The directory of the local store.
    pub directory: PathBuf,
    /// The longest delay before a reconnect.
    pub backoff_max: Duration,
    /// What the run sets.
    pub tuning: Tuning,
}

impl Settings {
    /// For this Redis, prefix and directory.
    pub fn new(redis: &str, prefix: &str, directory: impl Into<PathBuf>) -> Self {
        let backoff_max = Duration::from_secs(8);
        let (redis, prefix, directory) = (redis.to_owned(), prefix.to_owned(), directory.into());
        Self { redis, prefix, directory, backoff_max, tuning: Tuning::default() }
    }

    /// The deadline that every call is held to: the contact cache's, for every subject.
    pub fn op_deadline(&self) -> Duration {
        contact_cache::config(self).op_deadline
    }
}

/// A memo of the stored records that were decoded so far: the same bytes are decoded once.
#[derive(Default)]
pub struct DecodedRecords(contact_cache::stored::KnownRecords);

/// Whether instances can have this prefix. If not, says why.
///
/// # Errors
/// It is longer than the client takes.
pub fn check_prefix(prefix: &str) -> Result<(), String> {
    let parsed: Result<::contact_cache::Prefix, _> = prefix.parse();
    parsed.map(drop).map_err(|error| error.to_string())
}

/// The subjects that there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SubjectKind {
    /// The contact cache.
    #[default]
    ContactCache,
    /// The Python cache that came before, in Rust.
    Legacy,
    /// The contact cache with a habit that the checkers must catch.
    #[cfg(test)]
    Cheating(cheating::Cheat),
}

/// Whose form it has what a subject keeps in Redis and on disk, and whose limits it has.
enum StorageForm {
    ContactCache,
    Legacy,
}

/// All subjects, in the order of reports.
pub const SUBJECTS: [SubjectKind; 2] = [SubjectKind::ContactCache, SubjectKind::Legacy];

impl SubjectKind {
    /// Opens an instance.
    ///
    /// # Errors
    /// Says why it does not open; whoever runs it starts it again after a while.
    pub async fn open<E: Env>(self, env: E, settings: &Settings) -> Result<Arc<dyn Subject>, String> {
        match self {
            Self::ContactCache => match ContactCacheSubject::open(env, settings).await {
                Ok(subject) => Ok(Arc::new(subject)),
                Err(error) => Err(error.to_string()),
            },
            Self::Legacy => match LegacySubject::open(env, settings).await {
                Ok(subject) => Ok(Arc::new(subject)),
                Err(error) => Err(error.to_string()),
            },
            #[cfg(test)]
            Self::Cheating(cheat) => match cheating::CheatingSubject::open(env, settings, cheat).await {
                Ok(subject) => Ok(Arc::new(subject)),
                Err(error) => Err(error.to_string()),
            },
        }
    }

    /// The file that holds the local store, for faults that damage it.
    pub fn store(self, settings: &Settings) -> PathBuf {
        settings.directory.join(match self.form() {
            StorageForm::ContactCache => "store.log",
            StorageForm::Legacy => legacy::FILE,
        })
    }

    /// What an instance of it promises never to pass.
    pub fn limits(self) -> SubjectLimits {
        match self.form() {
            StorageForm::ContactCache => contact_cache::LIMITS,
            StorageForm::Legacy => SubjectLimits::default(),
        }
    }

    /// The records behind a key of Redis, in a run of these prefixes: none if it is no record's, several if the subject's
    /// keys are ambiguous.
    pub fn records_of_key(self, key: &[u8], prefixes: &[&str]) -> Vec<RecordName> {
        match self.form() {
            StorageForm::ContactCache => contact_cache::record_of_key(key).into_iter().collect(),
            StorageForm::Legacy => legacy::records_of_key(key, prefixes),
        }
    }

    /// Whether a key of Redis belongs neither to a record nor to other data of the subject.
    pub fn is_of_others(self, key: &[u8], prefixes: &[&str]) -> bool {
        let is_marker = match self.form() {
            StorageForm::ContactCache => contact_cache::prefix_of_marker(key).is_some(),
            StorageForm::Legacy => false,
        };
        !is_marker && self.records_of_key(key, prefixes).is_empty()
    }

    /// A key of Redis with what the bed makes of it, in a run of these prefixes, at this time of Redis's clock.
    pub fn stored_key(
        self,
        key: Vec<u8>,
        dumped: Dumped,
        prefixes: &[&str],
        now_ms: u64,
        known: &mut DecodedRecords,
    ) -> StoredKey {
        let value = match dumped.content {
            Content::String(bytes) => StoredValue::String(Raw(bytes)),
            Content::Hash(fields) => {
                StoredValue::Hash(fields.into_iter().map(|(field, value)| (Raw(field), Raw(value))).collect())
            }
            Content::List(elements) => StoredValue::List(elements.into_iter().map(Raw).collect()),
            Content::Set(members) => StoredValue::Set(members.into_iter().map(Raw).collect()),
            Content::SortedSet(scores) => StoredValue::SortedSet(
                scores.into_iter().map(|(member, score)| (Raw(member), score.to_string())).collect(),
            ),
        };
        let record = |name| match self.form() {
            StorageForm::ContactCache => contact_cache::stored::in_redis(name, &value, now_ms, &mut known.0),
            StorageForm::Legacy => legacy::stored::in_redis(name, &value),
        };
        let records = self.records_of_key(&key, prefixes).into_iter().map(record).collect();
        let expires_at_ms = dumped.expires_at_ms;
        let marker = match self.form() {
            StorageForm::ContactCache => contact_cache::stored::marker(&key, &value, expires_at_ms),
            StorageForm::Legacy => None,
        };
        StoredKey { key: Raw(key), value, expires_at_ms, records, marker }
    }

    /// What the file of a local store holds, at this time of Redis's clock.
    pub fn stored_entries(
        self,
        file: &[u8],
        settings: &Settings,
        now_ms: u64,
        known: &mut DecodedRecords,
    ) -> Vec<StoredEntry> {
        match self.form() {
            StorageForm::ContactCache => contact_cache::stored::in_file(file, &settings.prefix, now_ms, &mut known.0),
            StorageForm::Legacy => legacy::stored::in_file(file, &settings.prefix),
        }
    }

    fn form(self) -> StorageForm {
        match self {
            Self::ContactCache => StorageForm::ContactCache,
            Self::Legacy => StorageForm::Legacy,
            #[cfg(test)]
            Self::Cheating(_) => StorageForm::ContactCache,
        }
    }

    /// The name on the command line and in replay files.
    pub fn name(self) -> &'static str {
        match self {
            Self::ContactCache => "contact-cache",
            Self::Legacy => "legacy",
            #[cfg(test)]
            Self::Cheating(_) => "cheating",
        }
    }

    /// What it is, in a few words.
    pub fn about(self) -> &'static str {
        match self {
            Self::ContactCache => "the client of this workspace",
            #[cfg(test)]
            Self::Cheating(_) => "the client of this workspace with a habit that the checkers must catch",
            Self::Legacy => "the Python client that came before, which a mock-based report had passed",
        }
    }
}

impl fmt::Display for SubjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A name that no subject has.
#[derive(Debug, thiserror::Error)]
#[error("unknown subject {name:?}: there are contact-cache and legacy")]
pub struct UnknownSubject {
    name: String,
}

impl FromStr for SubjectKind {
    type Err = UnknownSubject;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let found = SUBJECTS.into_iter().find(|subject| subject.name() == name);
        found.ok_or_else(|| UnknownSubject { name: name.to_owned() })
    }
}
