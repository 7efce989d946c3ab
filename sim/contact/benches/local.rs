//! Calls without Redis, on a real disk, beside redb at equal durability: what is answered is synced.
//!
//! ```text
//! cargo bench -p seedbed-contact --bench local
//! ```

#[path = "report/records.rs"]
#[expect(dead_code, reason = "the report uses the rest")]
mod records;

use std::{path::Path, sync::Arc};

use contact_cache::{Config, ContactCache, Placement, Source, env::TokioEnv};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use futures_util::future::join_all;
use records::{PREFIX, RECORDS, patch, uid};
use redb::{Database, ReadableDatabase, TableDefinition};
use tokio::runtime::Runtime;

const TABLE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("records");

/// Calls that wait for the disk together.
const TOGETHER: usize = 32;

criterion_group!(benches, reads, writes, writes_together);
criterion_main!(benches);

/// A cache that finds nobody at its port, with all records written.
fn cache(runtime: &Runtime, directory: &Path) -> Arc<ContactCache> {
    let config =
        Config::new("redis://127.0.0.1:1".parse().expect("a url"), PREFIX.parse().expect("a prefix"), directory);
    runtime.block_on(async {
        let cache = ContactCache::open(TokioEnv::new(), config).await.expect("a directory of its own");
        for result in
            join_all((0..RECORDS).map(async |number| cache.upsert(&uid(number), &patch(number, 0)).await)).await
        {
            assert_eq!(result.expect("the disk works").placement, Placement::Local);
        }
        Arc::new(cache)
    })
}

/// The same records as JSON.
fn database(directory: &Path) -> Database {
    let database = Database::create(directory.join("records.redb")).expect("a directory of its own");
    commit(&database, 0..RECORDS, 0);
    database
}

/// One durable commit.
fn commit(database: &Database, numbers: impl Iterator<Item = usize>, version: usize) {
    let transaction = database.begin_write().expect("the only writer");
    {
        let mut table = transaction.open_table(TABLE).expect("a table");
        for number in numbers {
            let patch = patch(number, version);
            let record = (&patch.contacts, &patch.profile, &patch.metadata);
            let record = serde_json::to_vec(&record).expect("JSON");
            table.insert(uid(number).as_str(), record.as_slice()).expect("room");
        }
    }
    transaction.commit().expect("the disk works");
}

fn runtime() -> (Runtime, tempfile::TempDir) {
    (Runtime::new().expect("a runtime"), tempfile::tempdir().expect("room for a directory"))
}

fn reads(criterion: &mut Criterion) {
    let (runtime, directory) = runtime();
    let (cache, database) = (cache(&runtime, directory.path()), database(directory.path()));
    let mut group = criterion.benchmark_group("read without Redis");
    let mut number = 0;
    let mut next = move || {
        number += 1;
        number % RECORDS
    };
    group.bench_function("contact-cache get", |bencher| {
        bencher.to_async(&runtime).iter_batched(
            &mut next,
            async |number| {
                let read = cache.get(&uid(number)).await.expect("the disk works");
                assert!(read.source == Source::Local && read.record.is_some());
            },
            BatchSize::SmallInput,
        );
    });
    group.bench_function("redb get, and its JSON parsed", |bencher| {
        bencher.iter_batched(
            &mut next,
            |number| {
                let table = database.begin_read().expect("a reader").open_table(TABLE).expect("a table");
                let bytes = table.get(uid(number).as_str()).expect("the disk works").expect("it is there");
                serde_json::from_slice::<serde_json::Value>(bytes.value()).expect("JSON")
            },
            BatchSize::SmallInput,
        );
    });
}

fn writes(criterion: &mut Criterion) {
    let (runtime, directory) = runtime();
    let (cache, database) = (cache(&runtime, directory.path()), database(directory.path()));
    let mut group = criterion.benchmark_group("write without Redis, one after the other");
    let mut version = 0;
    let mut next = move || {
        version += 1;
        version
    };
    group.bench_function("contact-cache upsert", |bencher| {
        bencher.to_async(&runtime).iter_batched(
            &mut next,
            async |version| {
                cache.upsert(&uid(version % RECORDS), &patch(version, version)).await.expect("the disk works")
            },
            BatchSize::SmallInput,
        );
    });
    group.bench_function("redb commit", |bencher| {
        bencher.iter_batched(
            &mut next,
            |version| commit(&database, std::iter::once(version % RECORDS), version),
            BatchSize::SmallInput,
        );
    });
}

fn writes_together(criterion: &mut Criterion) {
    let (runtime, directory) = runtime();
    let (cache, database) = (cache(&runtime, directory.path()), database(directory.path()));
    let mut group = criterion.benchmark_group(format!("{TOGETHER} writes without Redis at once"));
    group.bench_function("contact-cache upserts", |bencher| {
        bencher.to_async(&runtime).iter(async || {
            let writes = (0..TOGETHER).map(async |number| cache.upsert(&uid(number), &patch(number, 1)).await);
            for result in join_all(writes).await {
                result.expect("the disk works");
            }
        });
    });
    group.bench_function("redb, one commit", |bencher| {
        bencher.iter(|| commit(&database, 0..TOGETHER, 1));
    });
}
