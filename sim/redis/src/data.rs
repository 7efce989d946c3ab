//! The data of a server: databases of keys, each of one of the types of Redis, with a deadline or without.
//!
//! Keys are kept in the order of a hash of their bytes, because SCAN needs an order that inserts and removals do not
//! disturb: a cursor is the hash at which to go on, and so holds no state. Two keys of one hash share a slot and are
//! answered together.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use xxhash_rust::xxh3::xxh3_64;

use super::{
    Content, Dumped,
    error_reply::{Done, ErrorReply, WRONG_TYPE},
    limits::ServerLimits,
    random::Random,
    ranking::SortedSet,
    reply,
    waits::Waits,
};
use crate::Refusal;

/// The number of databases, as in the default configuration.
pub(super) const DATABASES: usize = 16;

/// The data and the counters of one process.
#[derive(Debug, Default)]
pub(super) struct Server {
    pub(super) databases: Vec<Database>,
    /// The clients that wait for an element.
    pub(super) waits: Waits,
    /// Which process on this data this is, from 0.
    generation: u64,
    /// When the first bytes came, in milliseconds since the epoch.
    pub(super) started_at_ms: Option<i64>,
    /// Connections so far.
    pub(super) connections: i64,
    /// Commands executed so far.
    pub(super) commands: u64,
    /// Words that scripts took and were answered so far.
    pub(super) script_words: u64,
    pub(super) limits: ServerLimits,
    /// The commands that no user may run at present.
    pub(super) denied: &'static [&'static str],
    /// Why it refuses some commands at present, if it does.
    pub(super) state: Option<Refusal>,
    /// Whether the script that keeps it busy can be killed: it has written nothing.
    pub(super) is_killable: bool,
    /// Commands and clients refused for such a reason so far.
    pub(super) refusals: u64,
    /// What SPOP and other commands draw from. Scripts have a generator of their own, whose numbers are those of Redis.
    pub(super) random: Random,
    /// The commands of Redis that were asked for and are not here.
    pub(super) missing: BTreeSet<&'static str>,
}

/// One database.
#[derive(Debug, Default)]
pub(super) struct Database {
    slots: Slots,
    /// The clients that watch a key, by key.
    watches: BTreeMap<Vec<u8>, Vec<Watch>>,
    /// The keys that clients wait for.
    pub(super) awaited: BTreeSet<Vec<u8>>,
    /// Those of them that have come into being since the last look.
    ready: Vec<Vec<u8>>,
}

type Slots = BTreeMap<u64, Vec<(Vec<u8>, KeyEntry)>>;

/// That a client watches a key.
#[derive(Debug)]
struct Watch {
    /// What CLIENT ID answers it.
    client: i64,
    /// Whether there was such a key when it began.
    was_live: bool,
    /// Whether the key has been written to since.
    is_touched: bool,
}

/// What a key holds, and until when.
#[derive(Clone, Debug)]
pub(super) struct KeyEntry {
    pub(super) value: KeyData,
    /// The deadline, in milliseconds since the epoch.
    pub(super) expires_at_ms: Option<i64>,
}

/// What a key holds.
#[derive(Clone, Debug)]
pub(super) enum KeyData {
    String(Vec<u8>),
    Hash(Hash),
    /// It has at least one element: with the last one the key goes.
    List(List),
    /// It has at least one member.
    Set(Set),
    /// It has at least one member. In a box: all values have the size of the largest kind.
    SortedSet(Box<SortedSet>),
}

/// The members of a set.
pub(super) type Set = BTreeSet<Vec<u8>>;

/// The elements of a list, from left to right.
pub(super) type List = VecDeque<Vec<u8>>;

/// A field of a hash, and its value.
pub(super) type Pair<'a> = (&'a [u8], &'a [u8]);

/// A hash, whose fields keep the order in which they came, as in a small hash of Redis.
#[derive(Clone, Debug, Default)]
pub(super) struct Hash {
    fields: BTreeMap<Vec<u8>, (u64, Vec<u8>)>,
    came: u64,
    /// What HGETALL answered last, until a field changes: one piece of memory, where fields and values are many.
    reply: Option<Vec<u8>>,
}

impl Server {
    pub(super) fn new(generation: u64) -> Self {
        let databases = std::iter::repeat_with(Database::default).take(DATABASES).collect();
        let mut random = Random::default();
        random.seed(generation.cast_signed());
        Self { databases, generation, random, ..Self::default() }
    }

    /// The next process: what it was configured with, and the data.
    pub(super) fn restarted(&self) -> Self {
        let mut next = Self {
            limits: self.limits,
            denied: self.denied,
            missing: self.missing.clone(),
            ..Self::new(self.generation + 1)
        };
        next.take_data(self);
        next
    }

    /// Holds what another held. Its clients are not taken over.
    pub(super) fn take_data(&mut self, other: &Self) {
        for (database, other) in self.databases.iter_mut().zip(&other.databases) {
            database.slots.clone_from(&other.slots);
        }
    }

    /// The id of this process: a hash of which process it is, because nothing here is random.
    pub(super) fn run_id(&self) -> String {
        sha1_smol::Sha1::from(format!("process {}", self.generation)).digest().to_string()
    }

    /// Whether it is a replica.
    pub(super) fn is_replica(&self) -> bool {
        matches!(self.state, Some(Refusal::ReadOnly | Refusal::MasterDown))
    }

    /// Refuses a command for the state that the server is in.
    pub(super) fn refuse(&mut self, refusal: ErrorReply) -> Done {
        self.refusals += 1;
        Err(refusal)
    }

    pub(super) fn number_client(&mut self) -> i64 {
        self.connections += 1;
        self.connections
    }

    /// The database of this number; SELECT has checked it.
    pub(super) fn database(&mut self, number: usize) -> &mut Database {
        &mut self.databases[number]
    }

    /// The keys that clients waited for and that have come into being, by database. Each is told once.
    pub(super) fn take_ready(&mut self) -> Vec<(usize, Vec<u8>)> {
        let databases = self.databases.iter_mut().enumerate();
        databases.flat_map(|(number, database)| database.ready.drain(..).map(move |key| (number, key))).collect()
    }

    pub(super) fn flush_all(&mut self) {
        self.databases.iter_mut().for_each(Database::clear);
    }

    pub(super) fn dump(&self, database: usize, now_ms: u64) -> BTreeMap<Vec<u8>, Dumped> {
        let now_ms = i64::try_from(now_ms).unwrap_or(i64::MAX);
        let live = self.databases.get(database).into_iter().flat_map(Database::entries);
        live.filter(|(_, entry)| !entry.is_expired(now_ms))
            .map(|(key, entry)| {
                let content = match &entry.value {
                    KeyData::String(bytes) => Content::String(bytes.clone()),
                    KeyData::Hash(hash) => Content::Hash(
                        hash.fields.iter().map(|(field, (_, value))| (field.clone(), value.clone())).collect(),
                    ),
                    KeyData::List(list) => Content::List(list.iter().cloned().collect()),
                    KeyData::Set(set) => Content::Set(set.clone()),
                    KeyData::SortedSet(set) => Content::SortedSet(set.scores().clone()),
                };
                let expires_at_ms = entry.expires_at_ms.and_then(|at| u64::try_from(at).ok());
                (key.clone(), Dumped { content, expires_at_ms })
            })
            .collect()
    }
}

impl Database {
    /// The live entry of a key; an expired one is removed.
    pub(super) fn get(&mut self, key: &[u8], now_ms: i64) -> Option<&mut KeyEntry> {
        let hash = xxh3_64(key);
        let slot = self.slots.get_mut(&hash)?;
        let at = slot.iter().position(|(held, _)| held == key)?;
        if slot[at].1.is_expired(now_ms) {
            self.remove_at(hash, at);
            return None;
        }
        self.slots.get_mut(&hash).map(|slot| &mut slot[at].1)
    }

    /// Puts an entry under a key in place of any other. Who watches the key will know.
    pub(super) fn put(&mut self, key: &[u8], entry: KeyEntry) {
        self.touch(key);
        let slot = self.slots.entry(xxh3_64(key)).or_default();
        if let Some((_, held)) = slot.iter_mut().find(|(held, _)| held == key) {
            *held = entry;
            return;
        }
        if !self.awaited.is_empty() && self.awaited.contains(key) && entry.value.is_awaitable() {
            self.ready.push(key.to_vec());
        }
        slot.push((key.to_vec(), entry));
    }

    /// Removes a key; answers whether it was live.
    pub(super) fn remove(&mut self, key: &[u8], now_ms: i64) -> bool {
        let live = self.get(key, now_ms).is_some();
        if live {
            let hash = xxh3_64(key);
            if let Some(at) = self.slots.get(&hash).and_then(|slot| slot.iter().position(|(held, _)| held == key)) {
                self.remove_at(hash, at);
            }
        }
        live
    }

    /// The string at a key.
    pub(super) fn string(&mut self, key: &[u8], now_ms: i64) -> Result<Option<&mut Vec<u8>>, ErrorReply> {
        match self.get(key, now_ms).map(|entry| &mut entry.value) {
            None => Ok(None),
            Some(KeyData::String(bytes)) => Ok(Some(bytes)),
            Some(_) => Err(WRONG_TYPE),
        }
    }

    /// The hash at a key.
    pub(super) fn hash(&mut self, key: &[u8], now_ms: i64) -> Result<Option<&mut Hash>, ErrorReply> {
        match self.get(key, now_ms).map(|entry| &mut entry.value) {
            None => Ok(None),
            Some(KeyData::Hash(hash)) => Ok(Some(hash)),
            Some(_) => Err(WRONG_TYPE),
        }
    }

    /// The hash at a key, which is there afterwards.
    pub(super) fn hash_or_new(&mut self, key: &[u8], now_ms: i64) -> Result<&mut Hash, ErrorReply> {
        if self.get(key, now_ms).is_none() {
            self.put(key, KeyEntry { value: KeyData::Hash(Hash::default()), expires_at_ms: None });
        }
        self.hash(key, now_ms)?.ok_or(WRONG_TYPE)
    }

    /// The list at a key.
    pub(super) fn list(&mut self, key: &[u8], now_ms: i64) -> Result<Option<&mut List>, ErrorReply> {
        match self.get(key, now_ms).map(|entry| &mut entry.value) {
            None => Ok(None),
            Some(KeyData::List(list)) => Ok(Some(list)),
            Some(_) => Err(WRONG_TYPE),
        }
    }

    /// The list at a key, which is there afterwards, and empty if it is new.
    pub(super) fn list_or_new(&mut self, key: &[u8], now_ms: i64) -> Result<&mut List, ErrorReply> {
        if self.get(key, now_ms).is_none() {
            self.put(key, KeyEntry { value: KeyData::List(List::new()), expires_at_ms: None });
        }
        self.list(key, now_ms)?.ok_or(WRONG_TYPE)
    }

    /// The set at a key.
    pub(super) fn set(&mut self, key: &[u8], now_ms: i64) -> Result<Option<&mut Set>, ErrorReply> {
        match self.get(key, now_ms).map(|entry| &mut entry.value) {
            None => Ok(None),
            Some(KeyData::Set(set)) => Ok(Some(set)),
            Some(_) => Err(WRONG_TYPE),
        }
    }

    /// The set at a key, which is there afterwards, and empty if it is new.
    pub(super) fn set_or_new(&mut self, key: &[u8], now_ms: i64) -> Result<&mut Set, ErrorReply> {
        if self.get(key, now_ms).is_none() {
            self.put(key, KeyEntry { value: KeyData::Set(Set::new()), expires_at_ms: None });
        }
        self.set(key, now_ms)?.ok_or(WRONG_TYPE)
    }

    /// The sorted set at a key.
    pub(super) fn sorted_set(&mut self, key: &[u8], now_ms: i64) -> Result<Option<&mut SortedSet>, ErrorReply> {
        match self.get(key, now_ms).map(|entry| &mut entry.value) {
            None => Ok(None),
            Some(KeyData::SortedSet(set)) => Ok(Some(set)),
            Some(_) => Err(WRONG_TYPE),
        }
    }

    /// The sorted set at a key, which is there afterwards, and empty if it is new.
    pub(super) fn sorted_set_or_new(&mut self, key: &[u8], now_ms: i64) -> Result<&mut SortedSet, ErrorReply> {
        if self.get(key, now_ms).is_none() {
            self.put(key, KeyEntry { value: KeyData::SortedSet(Box::default()), expires_at_ms: None });
        }
        self.sorted_set(key, now_ms)?.ok_or(WRONG_TYPE)
    }

    /// What is at a key was written to: who watches the key will know, and without members it goes.
    pub(super) fn written(&mut self, key: &[u8], now_ms: i64) {
        self.touch(key);
        if self.get(key, now_ms).is_some_and(|entry| entry.value.is_empty()) {
            self.remove(key, now_ms);
        }
    }

    /// Takes the entry of a key out, if it is live.
    pub(super) fn take(&mut self, key: &[u8], now_ms: i64) -> Option<KeyEntry> {
        let entry = self.get(key, now_ms)?.clone();
        self.remove(key, now_ms);
        Some(entry)
    }

    /// A client watches a key from now on. Answers `false` if it does so already.
    pub(super) fn watch(&mut self, key: &[u8], client: i64, now_ms: i64) -> bool {
        let was_live = self.held(key).is_some_and(|entry| !entry.is_expired(now_ms));
        let watches = self.watches.entry(key.to_vec()).or_default();
        let is_new = watches.iter().all(|watch| watch.client != client);
        if is_new {
            watches.push(Watch { client, was_live, is_touched: false });
        }
        is_new
    }

    /// A client no longer watches a key.
    pub(super) fn unwatch(&mut self, key: &[u8], client: i64) {
        if let Some(watches) = self.watches.get_mut(key) {
            watches.retain(|watch| watch.client != client);
            if watches.is_empty() {
                self.watches.remove(key);
            }
        }
    }

    /// Tells those who watch a key that it was written to, as Redis's `signalModifiedKey` does. A key that is removed, expires
    /// or is flushed needs no such word: its absence tells.
    pub(super) fn touch(&mut self, key: &[u8]) {
        for watch in self.watches.get_mut(key).into_iter().flatten() {
            watch.is_touched = true;
        }
    }

    /// Whether a key has changed since a client began to watch it. `now_ms` is given where an entry that has expired and was not
    /// looked at since counts as removed.
    pub(super) fn has_changed(&self, key: &[u8], client: i64, now_ms: Option<i64>) -> bool {
        let watch = self.watches.get(key).and_then(|watches| watches.iter().find(|watch| watch.client == client));
        let is_held = || self.held(key).is_some_and(|entry| !now_ms.is_some_and(|now_ms| entry.is_expired(now_ms)));
        watch.is_some_and(|watch| watch.is_touched || (watch.was_live && !is_held()))
    }

    /// The entry of a key, expired or not.
    fn held(&self, key: &[u8]) -> Option<&KeyEntry> {
        let slot = self.slots.get(&xxh3_64(key))?;
        slot.iter().find(|(held, _)| held == key).map(|(_, entry)| entry)
    }

    /// Every key and entry, expired ones included, in the order of SCAN.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&Vec<u8>, &KeyEntry)> {
        self.slots.values().flatten().map(|(key, entry)| (key, entry))
    }

    /// Keys and entries from `cursor` on, expired ones included: whole slots until there are `count`; and the cursor of
    /// the rest, 0 if there is none.
    pub(super) fn page(&self, cursor: u64, count: usize) -> (u64, Vec<(&[u8], &KeyEntry)>) {
        let mut page = Vec::new();
        for (&hash, slot) in self.slots.range(cursor..) {
            if page.len() >= count {
                // Not 0: at least one slot with a smaller hash came before.
                return (hash, page);
            }
            page.extend(slot.iter().map(|(key, entry)| (key.as_slice(), entry)));
        }
        (0, page)
    }

    pub(super) fn remove_expired(&mut self, now_ms: i64) {
        self.slots.retain(|_, slot| {
            slot.retain(|(_, entry)| !entry.is_expired(now_ms));
            !slot.is_empty()
        });
    }

    /// Removes every key.
    pub(super) fn clear(&mut self) {
        self.slots.clear();
    }

    fn remove_at(&mut self, hash: u64, at: usize) {
        if let Some(slot) = self.slots.get_mut(&hash) {
            slot.remove(at);
            if slot.is_empty() {
                self.slots.remove(&hash);
            }
        }
    }
}

impl KeyEntry {
    pub(super) fn of(dumped: &Dumped) -> Self {
        let value = match &dumped.content {
            Content::String(bytes) => KeyData::String(bytes.clone()),
            Content::Hash(fields) => {
                let mut hash = Hash::default();
                for (field, value) in fields {
                    hash.set(field, value);
                }
                KeyData::Hash(hash)
            }
            Content::List(elements) => KeyData::List(elements.iter().cloned().collect()),
            Content::Set(members) => KeyData::Set(members.clone()),
            Content::SortedSet(scores) => KeyData::SortedSet(Box::new(SortedSet::of(scores))),
        };
        Self { value, expires_at_ms: dumped.expires_at_ms.and_then(|at_ms| i64::try_from(at_ms).ok()) }
    }

    pub(super) fn is_expired(&self, now_ms: i64) -> bool {
        self.expires_at_ms.is_some_and(|at| at <= now_ms)
    }

    /// What TYPE answers.
    pub(super) fn type_name(&self) -> &'static str {
        match self.value {
            KeyData::String(_) => "string",
            KeyData::Hash(_) => "hash",
            KeyData::List(_) => "list",
            KeyData::Set(_) => "set",
            KeyData::SortedSet(_) => "zset",
        }
    }
}

impl From<Vec<u8>> for KeyEntry {
    /// A string without a deadline.
    fn from(bytes: Vec<u8>) -> Self {
        Self { value: KeyData::String(bytes), expires_at_ms: None }
    }
}

impl KeyData {
    /// Whether a client can wait for such a value.
    fn is_awaitable(&self) -> bool {
        matches!(self, Self::List(_) | Self::SortedSet(_))
    }

    /// Whether it has lost its last member, and the key is to go.
    fn is_empty(&self) -> bool {
        match self {
            Self::String(_) => false,
            Self::Hash(hash) => hash.len() == 0,
            Self::List(list) => list.is_empty(),
            Self::Set(set) => set.is_empty(),
            Self::SortedSet(set) => set.len() == 0,
        }
    }
}

impl Hash {
    pub(super) fn get(&self, field: &[u8]) -> Option<&[u8]> {
        self.fields.get(field).map(|(_, value)| value.as_slice())
    }

    /// Sets a field, which keeps its place if it has one; answers whether it is new.
    pub(super) fn set(&mut self, field: &[u8], value: &[u8]) -> bool {
        self.reply = None;
        if let Some((_, held)) = self.fields.get_mut(field) {
            value.clone_into(held);
            return false;
        }
        self.came += 1;
        self.fields.insert(field.to_vec(), (self.came, value.to_vec()));
        true
    }

    pub(super) fn remove(&mut self, field: &[u8]) -> bool {
        self.reply = None;
        self.fields.remove(field).is_some()
    }

    pub(super) fn len(&self) -> usize {
        self.fields.len()
    }

    /// What HGETALL answers.
    pub(super) fn reply(&mut self) -> &[u8] {
        let reply = self.reply.take().unwrap_or_else(|| {
            let mut reply = Vec::new();
            reply::array(&mut reply, 2 * self.len());
            for (field, value) in self.in_order() {
                reply::bulk(&mut reply, field);
                reply::bulk(&mut reply, value);
            }
            reply
        });
        self.reply.insert(reply)
    }

    /// Fields and values in the order in which the fields came.
    pub(super) fn in_order(&self) -> Vec<Pair<'_>> {
        let mut all: Vec<_> = self.fields.iter().map(|(field, (came, value))| (*came, field, value)).collect();
        all.sort_unstable_by_key(|&(came, ..)| came);
        all.into_iter().map(|(_, field, value)| (field.as_slice(), value.as_slice())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_of_a_value_is_that_of_a_hash() {
        // A run holds many values, and copies them where a server restarts.
        assert_eq!(size_of::<KeyData>(), size_of::<Hash>());
    }
}
