//! Calls on a healthy Redis, beside what they cost at least: a bare connection that asks the same of the same server.

use std::{future::Future, sync::Arc};

use contact_cache::{ContactCache, Freshness};
use redis::{Value, aio::MultiplexedConnection};

use crate::{
    measure::{Latencies, round, spread},
    records::{RECORDS, bare_key, cells, key, patch, uid},
    world::{open, raw, server},
};

/// Calls of one round, over all its tasks.
const CALLS: usize = 40_000;
/// Rounds of each subject, one after the other in turn: what the machine does meanwhile meets both.
const ROUNDS: usize = 7;

/// When a bare write says that it was made, as the script takes it.
const TIME: &str = "019bfd000000";

/// The same script as the client's.
const MERGE: &str = include_str!("../../../../src/shared/merge.lua");

pub(crate) async fn report() {
    println!("## Calls, Redis healthy\n");
    println!(
        "{RECORDS} records of 2 contact points and 3 fields; {CALLS} calls a round, {ROUNDS} rounds of each in turn."
    );
    println!(
        "Calls a second and the ratio: median (least .. most) of the rounds. Latencies: all rounds, in microseconds.\n"
    );
    println!("| call | tasks | calls/s | p50 | p99 | p999 | ratio to bare |");
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: |");
    let server = server();
    let directory = tempfile::tempdir().expect("room for a directory");
    let cache = Arc::new(open(&server.url(), directory.path()).await);
    for number in 0..RECORDS {
        cache.upsert(&uid(number), &patch(number, 0)).await.expect("redis");
    }
    let raw = raw(&server).await;
    let sha: String = redis::cmd("SCRIPT").arg("LOAD").arg(MERGE).query_async(&mut raw.clone()).await.expect("redis");
    for tasks in [1, 16, 128] {
        let (held, bare) = (cache.clone(), raw.clone());
        compare(
            tasks,
            ["HGETALL", "get"],
            move |number| bare_read(bare.clone(), number),
            move |number| read(held.clone(), number),
        )
        .await;
        let (held, bare, sha) = (cache.clone(), raw.clone(), sha.clone());
        compare(
            tasks,
            ["EVALSHA", "upsert"],
            move |number| bare_write(bare.clone(), sha.clone(), number),
            move |number| write(held.clone(), number),
        )
        .await;
    }
    println!();
}

async fn read(cache: Arc<ContactCache>, number: usize) {
    let read = cache.get_with(&uid(number % RECORDS), Freshness::Shared).await.expect("redis");
    assert!(read.record.is_some());
}

async fn bare_read(mut raw: MultiplexedConnection, number: usize) {
    let read: Value = redis::cmd("HGETALL").arg(key(number % RECORDS)).query_async(&mut raw).await.expect("redis");
    assert!(matches!(read, Value::Array(fields) if !fields.is_empty()));
}

async fn write(cache: Arc<ContactCache>, number: usize) {
    cache.upsert_shared(&uid(number % RECORDS), &patch(number % RECORDS, number)).await.expect("redis");
}

/// What an upsert sends, put together by hand.
async fn bare_write(mut raw: MultiplexedConnection, sha: String, number: usize) {
    let mut call = redis::cmd("EVALSHA");
    call.arg(sha).arg(1).arg(bare_key(number % RECORDS)).arg("all").arg(86_400_000_u64 * 30).arg(TIME).arg(TIME);
    for (field, cell) in cells(number % RECORDS) {
        call.arg(field).arg(cell);
    }
    let _: Value = call.query_async(&mut raw).await.expect("redis");
}

async fn compare<A, B>(
    tasks: usize,
    names: [&str; 2],
    bare: impl Fn(usize) -> A + Clone + Send + 'static,
    call: impl Fn(usize) -> B + Clone + Send + 'static,
) where
    A: Future<Output = ()> + Send + 'static,
    B: Future<Output = ()> + Send + 'static,
{
    let (mut bare_rounds, mut rounds) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        bare_rounds.push(round(tasks, CALLS, &bare).await);
        rounds.push(round(tasks, CALLS, &call).await);
    }
    let ratios: Vec<_> =
        bare_rounds.iter().zip(&rounds).map(|(bare, call)| call.per_second / bare.per_second).collect();
    let ratios = [String::new(), spread(&ratios, 2)];
    for ((name, rounds), ratio) in names.iter().zip([bare_rounds, rounds]).zip(ratios) {
        let rates: Vec<_> = rounds.iter().map(|round| round.per_second).collect();
        let mut all = Latencies::default();
        for round in &rounds {
            all.add(&round.latencies);
        }
        println!("| {name} | {tasks} | {} | {} | {ratio} |", spread(&rates, 0), all.columns());
    }
}
