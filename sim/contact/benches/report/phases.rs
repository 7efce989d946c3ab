//! Reads while Redis is healthy, stopped, healthy again, killed and back; beside `redis::aio::ConnectionManager`, which
//! is what an application would use otherwise.

#![expect(clippy::disallowed_methods, reason = "a benchmark, in the real world")]

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use contact_cache::env::{Env, TokioEnv};
use redis::{RedisResult, Value, aio::ConnectionManager};
use redis_launcher::Server;
use tokio::task::JoinSet;

use crate::{
    measure::Latencies,
    records::{RECORDS, key, patch, uid},
    world::{client, open, server},
};

/// Tasks of each subject, each waiting for its own call.
const TASKS: usize = 8;
/// Between two calls of a task: what is measured is how long calls take, not how many there can be.
const PAUSE: Duration = Duration::from_millis(2);
/// How long a phase lasts.
const PHASE: Duration = Duration::from_secs(6);

/// What happens to the server when a phase begins.
type Turn = fn(&mut Server);

const PHASES: [(&str, Turn); 5] = [
    ("healthy", |_| {}),
    ("stopped (SIGSTOP)", |server| server.pause()),
    ("goes on (SIGCONT)", |server| server.resume()),
    ("killed (SIGKILL)", Server::kill),
    ("back, empty", Server::start),
];

/// Of each phase: the times of the calls that began in it, and how many failed.
type Outcome = Vec<(Latencies, u64)>;

pub(crate) async fn report() {
    println!("## Reads through an outage\n");
    println!(
        "{TASKS} tasks of each subject read all {RECORDS} records in turn, a call every {} ms and task, {} s a phase.",
        PAUSE.as_millis(),
        PHASE.as_secs()
    );
    println!("Times in milliseconds, of the calls that began in the phase.\n");
    let mut server = server();
    let directory = tempfile::tempdir().expect("room for a directory");
    let cache = Arc::new(open(&server.url(), directory.path()).await);
    for number in 0..RECORDS {
        cache.upsert(&uid(number), &patch(number, 0)).await.expect("redis");
    }
    let manager = ConnectionManager::new(client(&server)).await.expect("redis");
    let phase = Arc::new(AtomicUsize::new(0));
    let ours = tokio::spawn(calls(phase.clone(), move |number| {
        let cache = cache.clone();
        async move { cache.get(&uid(number)).await.is_ok_and(|read| read.record.is_some()) }
    }));
    let theirs = tokio::spawn(calls(phase.clone(), move |number| {
        let mut manager = manager.clone();
        async move {
            let read: RedisResult<Value> = redis::cmd("HGETALL").arg(key(number)).query_async(&mut manager).await;
            read.is_ok_and(|read| matches!(read, Value::Array(fields) if !fields.is_empty()))
        }
    }));
    let env = TokioEnv::new();
    for (number, (_, turn)) in PHASES.iter().enumerate() {
        turn(&mut server);
        phase.store(number, Ordering::Relaxed);
        env.sleep(PHASE).await;
    }
    phase.store(PHASES.len(), Ordering::Relaxed);
    table(["contact-cache get", "ConnectionManager HGETALL"], [ours, theirs]).await;
}

async fn table(names: [&str; 2], subjects: [tokio::task::JoinHandle<Outcome>; 2]) {
    println!("| Redis | subject | calls | without an answer | p50 | p99 | longest |");
    println!("| --- | --- | ---: | ---: | ---: | ---: | ---: |");
    let mut outcomes = Vec::new();
    for subject in subjects {
        outcomes.push(subject.await.expect("a call panicked"));
    }
    for (number, (phase, _)) in PHASES.iter().enumerate() {
        for (name, outcome) in names.iter().zip(&outcomes) {
            let (latencies, failed) = &outcome[number];
            println!("| {phase} | {name} | {} | {failed} | {} |", latencies.calls(), latencies.columns_ms());
        }
    }
    println!();
}

/// Calls until the phases are over.
async fn calls<F: Future<Output = bool> + Send + 'static>(
    phase: Arc<AtomicUsize>,
    call: impl Fn(usize) -> F + Clone + Send + 'static,
) -> Outcome {
    let mut running = JoinSet::new();
    for task in 0..TASKS {
        let (phase, call) = (phase.clone(), call.clone());
        running.spawn(async move {
            let env = TokioEnv::new();
            let mut outcome: Outcome = PHASES.iter().map(|_| (Latencies::default(), 0)).collect();
            let mut number = task;
            while let Some((latencies, failed)) = outcome.get_mut(phase.load(Ordering::Relaxed)) {
                let begun = env.now();
                let answered = call(number % RECORDS).await;
                latencies.record(env.now().saturating_sub(begun));
                *failed += u64::from(!answered);
                number += TASKS;
                env.sleep(PAUSE).await;
            }
            outcome
        });
    }
    let mut all: Outcome = PHASES.iter().map(|_| (Latencies::default(), 0)).collect();
    while let Some(of_one) = running.join_next().await {
        for ((latencies, failed), (more, more_failed)) in all.iter_mut().zip(of_one.expect("a call panicked")) {
            latencies.add(&more);
            *failed += more_failed;
        }
    }
    all
}
