//! Prefixes in one real Redis: whatever one does, every key of the others keeps its bytes.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use contact_cache::{Config, ContactCache, Freshness, Placement, Source, Uid};
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use redis::aio::MultiplexedConnection;
use redis_launcher::{Program, Server};

use crate::client::{config, directory, named, open_with};

/// Prefixes that a careless encoding or pattern would mix up.
const PREFIXES: [&str; 18] = [
    "a",
    "a:b",
    "a:",
    ":a",
    "*",
    "?",
    "[ab]",
    "[^a]",
    "a*",
    "\\",
    "\\*",
    "%",
    "%3A",
    "a%3Ab",
    "{a}",
    "\n",
    "\u{e4}\u{1f980}",
    "cc1:a",
];

const PIECES: [&str; 16] =
    ["a", "b", ":", "*", "?", "[", "]", "^", "-", "\\", "%", "{", "}", "\r\n", "\u{0}", "\u{1f980}"];

fn hostile(rng: &mut StdRng) -> String {
    let len = if rng.random_bool(0.05) { 400 } else { rng.random_range(1..5) };
    (0..len).map(|_| *PIECES.choose(rng).expect("not empty")).collect()
}

/// All keys, each with its type's serialised value.
async fn dump(connection: &mut MultiplexedConnection) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let keys: Vec<Vec<u8>> = redis::cmd("KEYS").arg("*").query_async(connection).await.expect("keys");
    let mut dumped = BTreeMap::new();
    for key in keys {
        let value: Vec<u8> = redis::cmd("DUMP").arg(&key).query_async(connection).await.expect("a dump");
        dumped.insert(key, value);
    }
    dumped
}

async fn every_verb(cache: &ContactCache, uids: &BTreeSet<Uid>) {
    for uid in uids {
        assert_eq!(cache.upsert(uid, &named("mine")).await.expect("a record").placement, Placement::Shared);
        assert_eq!(cache.get(uid).await.expect("a record").source, Source::Shared);
    }
    cache.get_many(uids, Freshness::Any).await.expect("records");
    assert_eq!(cache.list().await.expect("a list").uids, *uids);
    let first = uids.first().expect("some");
    cache.remove(first).await.expect("a record");
    let left: BTreeSet<_> = uids.iter().skip(1).cloned().collect();
    assert_eq!(cache.list().await.expect("a list").uids, left, "a tombstone is no record");
    assert!(Box::pin(cache.clear()).await.expect("a list").complete);
    assert!(cache.list().await.expect("a list").uids.is_empty());
    assert_eq!(cache.sync().await, 0);
}

pub(crate) async fn the_keys_of_other_prefixes_keep_their_bytes(redis: &Program) {
    const ROUNDS: usize = 30;
    let (server, directory) = (Server::running(redis), directory());
    let client = redis::Client::open(format!("redis://127.0.0.1:{}", server.port())).expect("a url");
    let mut connection = client.get_multiplexed_async_connection().await.expect("it runs");
    let mut rng = StdRng::seed_from_u64(1);
    for round in 0..ROUNDS {
        let () = redis::cmd("FLUSHALL").query_async(&mut connection).await.expect("a flush");
        let mut prefixes: BTreeSet<String> = PREFIXES.sample(&mut rng, 4).map(|p| (*p).to_owned()).collect();
        prefixes.insert(hostile(&mut rng));
        let uids: BTreeSet<Uid> = (0..12).map(|_| hostile(&mut rng).parse().expect("a uid")).collect();
        let mut caches = Vec::new();
        for (number, prefix) in prefixes.iter().enumerate() {
            let directory = directory.path().join(format!("{round}-{number}"));
            let config = Config { prefix: prefix.parse().expect("a prefix"), ..config(&server.url(), &directory) };
            let cache = open_with(config).await;
            for uid in &uids {
                cache.upsert(uid, &named(prefix)).await.expect("a record");
            }
            caches.push(cache);
        }
        for foreign in ["plain", "cc1", "cc1:", "a:u", "session:*"] {
            let () = redis::cmd("SET").arg(foreign).arg("x").query_async(&mut connection).await.expect("a value");
        }
        let chosen = rng.random_range(0..caches.len());
        let cache = caches.swap_remove(chosen);
        let before = dump(&mut connection).await;
        every_verb(&cache, &uids).await;
        let after = dump(&mut connection).await;
        let changed: BTreeSet<_> = before.iter().filter(|(key, value)| after.get(*key) != Some(value)).collect();
        assert_eq!(after.len(), before.len(), "round {round}: a key came or went");
        let name = prefixes.iter().nth(chosen).expect("chosen among them");
        assert_eq!(
            changed.len(),
            uids.len(),
            "round {round}: prefix {name:?} changed more than its records: {changed:?}"
        );
        for other in &caches {
            let reads = other.get_many(&uids, Freshness::Shared).await.expect("records");
            let names: BTreeSet<_> = reads
                .into_values()
                .map(|read| read.expect("redis").record.expect("a record").profile["name"].to_string())
                .collect();
            assert_eq!(names.len(), 1, "round {round}: {names:?}");
        }
    }
}

pub(crate) async fn a_list_over_many_pages_names_each_record_once_and_no_tombstone(redis: &Program) {
    const RECORDS: usize = 5000;
    let (server, directory) = (Server::running(redis), directory());
    let cache = open_with(Config {
        // A slow machine should answer as well.
        op_deadline: Duration::from_mins(1),
        ..config(&server.url(), directory.path())
    })
    .await;
    let uids: Vec<Uid> = (0..RECORDS).map(|number| format!("u{number}*").parse().expect("a uid")).collect();
    for page in uids.chunks(100) {
        let patch = named("x");
        let writes = page.iter().map(|uid| cache.upsert(uid, &patch));
        futures_util::future::join_all(writes).await.into_iter().for_each(|written| {
            written.expect("a record");
        });
    }
    for uid in uids.iter().step_by(7) {
        cache.remove(uid).await.expect("a record");
    }
    assert_eq!(server.ask("SET cc1:p:foreign x"), "+OK\r\n");
    let expected: BTreeSet<_> =
        uids.iter().enumerate().filter(|(i, _)| i % 7 != 0).map(|(_, uid)| uid.clone()).collect();
    let listing = cache.list().await.expect("a list");
    assert_eq!((listing.source, listing.uids == expected), (Source::Shared, true));
    let cleared = Box::pin(cache.clear()).await.expect("a list");
    assert_eq!((cleared.complete, cleared.removed.len()), (true, expected.len()));
    assert_eq!(server.ask("GET cc1:p:foreign"), "$1\r\nx\r\n");
}
