//! What was written without Redis, merged when it is there: how fast, how much memory it takes meanwhile, and what calls
//! that go on notice of it.

#![expect(clippy::disallowed_methods, reason = "a benchmark, in the real world")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use contact_cache::{
    ContactCache, Placement, State,
    env::{Env, TokioEnv},
};
use redis_launcher::Server;

use crate::{
    measure::{Latencies, round},
    records::{patch, uid},
    world::{open, redis_server},
};

pub(crate) const THOUSANDS: usize = 100_000;
pub(crate) const A_MILLION: usize = 1_000_000;

/// Tasks that write without Redis: so many share a group commit.
const WRITERS: usize = 64;
/// Between two calls in the foreground.
const PAUSE: Duration = Duration::from_millis(1);
/// How often it is looked at how far the merging is.
const LOOK: Duration = Duration::from_millis(10);

/// Whether calls go on meanwhile.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Foreground {
    Busy,
    Idle,
}

pub(crate) async fn report(records: usize, foreground: Foreground) {
    println!("## {records} records written without Redis, and merged\n");
    let mut server = Server::absent(&redis_server());
    let directory = tempfile::tempdir().expect("room for a directory");
    let cache = Arc::new(open(&server.url(), directory.path()).await);
    let writer = cache.clone();
    let written = round(WRITERS, records, &move |number| {
        let cache = writer.clone();
        async move {
            let written = cache.upsert(&uid(number), &patch(number, 0)).await.expect("the disk works");
            assert_eq!(written.placement, Placement::Local);
        }
    })
    .await;
    let health = cache.health();
    assert_eq!(health.pending_records, records as u64);
    println!(
        "- written by {WRITERS} tasks: {:.0} records/s, each synced before it was answered; p50, p99, p999 in",
        written.per_second
    );
    println!("  microseconds: {}", written.latencies.columns().replace(" |", ","));
    println!(
        "- pending: {} MiB on disk; the process has used {} MiB of memory at most",
        health.pending_bytes >> 20,
        peak_mib()
    );
    server.start();
    let env = TokioEnv::new();
    while cache.health().state != State::Recovering {
        env.sleep(LOOK).await;
    }
    let begun = env.now();
    let over = Arc::new(AtomicBool::new(false));
    let calls = (foreground == Foreground::Busy).then(|| tokio::spawn(calls(cache.clone(), over.clone())));
    while cache.health().pending_records > 0 {
        env.sleep(LOOK).await;
    }
    let took = env.now().saturating_sub(begun).as_secs_f64();
    over.store(true, Ordering::Relaxed);
    #[expect(clippy::cast_precision_loss, reason = "a million")]
    let per_second = records as f64 / took;
    println!(
        "- merged once Redis was there: {took:.1} s, {per_second:.0} records/s; {} MiB of memory at most",
        peak_mib()
    );
    if let Some(calls) = calls {
        let latencies = calls.await.expect("a call failed");
        println!(
            "- meanwhile {} reads and writes of other records; p50, p99, p999 in microseconds: {}",
            latencies.calls(),
            latencies.columns().replace(" |", ",")
        );
    }
    println!();
}

/// Reads and writes of records that nobody wrote before, one after the other.
async fn calls(cache: Arc<ContactCache>, over: Arc<AtomicBool>) -> Latencies {
    let env = TokioEnv::new();
    let mut latencies = Latencies::default();
    let mut number = A_MILLION;
    while !over.load(Ordering::Relaxed) {
        let begun = env.now();
        cache.upsert(&uid(number), &patch(number, 0)).await.expect("the disk works");
        latencies.record(env.now().saturating_sub(begun));
        let begun = env.now();
        cache.get(&uid(number)).await.expect("the disk works");
        latencies.record(env.now().saturating_sub(begun));
        number += 1;
        env.sleep(PAUSE).await;
    }
    latencies
}

/// The most memory that this process has used so far, in MiB, as Linux tells it.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux tells it");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") >> 10
}
