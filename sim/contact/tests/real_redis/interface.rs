//! The client as an application meets it.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use contact_cache::{
    CachedContact, ContactCache, Error, Patch, Placement, Source, State, Timestamp,
    env::{Env, TokioDisk, TokioEnv, TokioNetwork, TokioTask},
};
use redis_launcher::{Program, Server};
use serde_json::{Value as Json, json};

use crate::client::{at_rest, config, directory, name, named, object, open, uid};

/// The record that the design shows.
fn record() -> Json {
    json!({
        "uid": "u1",
        "contacts": [{"type": "email", "value": "a@x.org", "label": "work"}],
        "profile": {"name": "A", "company": {"name": "X"}},
        "metadata": {"source": "api", "version": 2},
        "first_revealed_at": "2026-01-31T12:00:00.000Z",
        "last_updated_at": "2026-02-01T08:30:00.000Z"
    })
}

pub(crate) async fn a_record_comes_back_exactly_on_another_instance(redis: &Program) {
    let (server, directory) = (Server::running(redis), directory());
    let expected: CachedContact = serde_json::from_value(record()).expect("a record");
    let env = Calendar::at(expected.first_revealed_at);
    let writer = ContactCache::open(env.clone(), config(&server.url(), &directory.path().join("writer"))).await;
    let writer = writer.expect("an empty directory");
    let first = Patch {
        contacts: expected.contacts.clone(),
        profile: object(&json!({"name": "B"})),
        metadata: object(&json!({"source": "api", "version": 1})),
        ..Patch::default()
    };
    assert_eq!(writer.upsert(&uid("u1"), &first).await.expect("a record").placement, Placement::Shared);
    env.set(expected.last_updated_at);
    let second =
        Patch { profile: expected.profile.clone(), metadata: object(&json!({"version": 2})), ..Patch::default() };
    assert_eq!(writer.upsert(&uid("u1"), &second).await.expect("a record").placement, Placement::Shared);

    let reader = open(&server.url(), &directory.path().join("reader")).await;
    let read = reader.get(&uid("u1")).await.expect("a record");
    assert_eq!(read.source, Source::Shared);
    assert_eq!(serde_json::to_value(read.record).expect("JSON"), record());
    assert_eq!(reader.list().await.expect("a list").uids, [uid("u1")].into());
}

pub(crate) async fn a_cache_opens_without_redis_and_merges_once_it_is_there(redis: &Program) {
    let (mut server, directory) = (Server::absent(redis), directory());
    let cache = open(&server.url(), &directory.path().join("early")).await;
    let written = cache.upsert(&uid("u1"), &named("early")).await.expect("the disk works");
    assert_eq!(written.placement, Placement::Local);
    assert_eq!(name(&cache, "u1").await, (Source::Local, json!("early")));
    assert_eq!(cache.health().pending_records, 1);

    server.start();
    at_rest(&cache).await;
    assert_eq!(name(&cache, "u1").await, (Source::Shared, json!("early")));
    let other = open(&server.url(), &directory.path().join("late")).await;
    assert_eq!(name(&other, "u1").await, (Source::Shared, json!("early")));
}

pub(crate) async fn what_was_pending_at_the_end_of_a_process_is_merged_by_the_next(redis: &Program) {
    let (mut server, directory) = (Server::absent(redis), directory());
    let cache = open(&server.url(), directory.path()).await;
    cache.upsert(&uid("u1"), &named("before")).await.expect("the disk works");
    cache.close().await.expect("the disk works");

    server.start();
    let cache = open(&server.url(), directory.path()).await;
    at_rest(&cache).await;
    assert_eq!(name(&cache, "u1").await, (Source::Shared, json!("before")));
}

pub(crate) async fn a_key_of_another_type_is_a_typed_error_and_left_alone(redis: &Program) {
    let (server, directory) = (Server::running(redis), directory());
    assert_eq!(server.ask("SET cc1:p:u x"), "+OK\r\n");
    let cache = open(&server.url(), directory.path()).await;
    let errors = [
        cache.get(&uid("u")).await.expect_err("no record"),
        cache.upsert(&uid("u"), &named("mine")).await.expect_err("no record"),
        cache.remove(&uid("u")).await.expect_err("no record"),
    ];
    for error in errors {
        assert!(matches!(&error, Error::NotARecord { key, .. } if key == "cc1:p:u"), "{error}");
    }
    assert_eq!(server.ask("GET cc1:p:u"), "$1\r\nx\r\n");
    // One bad key is no reason to leave Redis.
    assert_eq!((cache.health().state, cache.health().pending_records), (State::Connected, 0));
    cache.upsert(&uid("v"), &named("mine")).await.expect("a key of its own");
    assert_eq!(name(&cache, "v").await, (Source::Shared, json!("mine")));
    // Nor to miss what others wrote: this instance holds nothing of its own.
    let other = open(&server.url(), &directory.path().join("other")).await;
    let listing = other.list().await.expect("a list");
    assert_eq!((listing.source, listing.uids), (Source::Shared, [uid("v")].into()));
    let cleared = Box::pin(other.clear()).await.expect("a list");
    assert_eq!((cleared.removed, cleared.complete), ([(uid("v"), Placement::Shared)].into(), true));
    assert_eq!(server.ask("GET cc1:p:u"), "$1\r\nx\r\n");
}

pub(crate) async fn a_wrong_password_leaves_the_cache_local_until_the_right_one(redis: &Program) {
    let mut server = Server::absent(redis).with_password("right");
    server.start();
    let directory = directory();
    for login in ["", ":wrong@", "nobody:right@"] {
        let cache = open(&server.url_for(login), directory.path()).await;
        let written = cache.upsert(&uid("u1"), &named("local")).await.expect("the disk works");
        assert_eq!(written.placement, Placement::Local, "{login}");
        assert_eq!(name(&cache, "u1").await, (Source::Local, json!("local")), "{login}");
        // It may be trying again just now.
        let state = cache.health().state;
        assert!([State::Degraded, State::Probing].contains(&state), "{login} {state}");
        cache.close().await.expect("the disk works");
    }
    let cache = open(&server.url_for(":right@"), directory.path()).await;
    at_rest(&cache).await;
    assert_eq!(name(&cache, "u1").await, (Source::Shared, json!("local")));
}

pub(crate) async fn a_damaged_store_is_set_aside_and_its_pending_writes_are_merged(redis: &Program) {
    let (mut server, directory) = (Server::absent(redis), directory());
    let cache = open(&server.url(), directory.path()).await;
    for name in ["first", "second", "third"] {
        // One after the other: each is an entry of its own, and on disk when this returns.
        cache.upsert(&uid(name), &named(name)).await.expect("the disk works");
    }
    cache.close().await.expect("the disk works");
    let original = flip_a_byte(&directory.path().join("store.log"), b"\"second\"");

    let cache = open(&server.url(), directory.path()).await;
    let report = cache.open_report();
    assert_eq!((report.records, report.damage.unreadable.len(), report.damage.missing_entries), (2, 1, 1));
    let aside = report.set_aside.as_ref().expect("it was damaged");
    assert_eq!(read(aside), original, "the damaged file is kept as it was");
    assert_eq!(cache.health().pending_records, 2);
    assert!(cache.get(&uid("second")).await.expect("the disk works").record.is_none(), "served though damaged");

    server.start();
    at_rest(&cache).await;
    let other = open(&server.url(), &directory.path().join("other")).await;
    assert_eq!(other.list().await.expect("a list").uids, [uid("first"), uid("third")].into());
    assert_eq!(name(&other, "third").await, (Source::Shared, json!("third")));
}

/// Flips a bit of the first `place` in a file; gives what the file holds then.
#[expect(clippy::disallowed_methods, reason = "damage comes from outside")]
fn flip_a_byte(path: &Path, place: &[u8]) -> Vec<u8> {
    let mut bytes = read(path);
    let at = bytes.windows(place.len()).position(|window| window == place).expect("it was written");
    bytes[at + 1] ^= 1;
    fs::write(path, &bytes).expect("a file of our own");
    bytes
}

#[expect(clippy::disallowed_methods, reason = "looked at from outside")]
fn read(path: &Path) -> Vec<u8> {
    fs::read(path).expect("a file of our own")
}

/// The real world at a moment that the test decides.
#[derive(Clone)]
struct Calendar {
    world: TokioEnv,
    wall_ms: Arc<AtomicU64>,
}

impl Calendar {
    fn at(moment: Timestamp) -> Self {
        Self { world: TokioEnv::new(), wall_ms: Arc::new(AtomicU64::new(moment.millis())) }
    }

    fn set(&self, moment: Timestamp) {
        self.wall_ms.store(moment.millis(), Ordering::Relaxed);
    }
}

impl Env for Calendar {
    type Network = TokioNetwork;
    type Disk = TokioDisk;
    type Task = TokioTask;

    fn network(&self) -> &TokioNetwork {
        self.world.network()
    }

    fn disk(&self) -> &TokioDisk {
        self.world.disk()
    }

    fn now(&self) -> Duration {
        self.world.now()
    }

    fn wall_ms(&self) -> u64 {
        self.wall_ms.load(Ordering::Relaxed)
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send + 'static {
        self.world.sleep(duration)
    }

    fn random(&self) -> u64 {
        self.world.random()
    }

    fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) -> TokioTask {
        self.world.spawn(future)
    }

    fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = T> + Send + 'static {
        self.world.blocking(work)
    }
}
