//! A cache is used from another tokio runtime than it was opened on, which is idle or has ended, and with it the cache's
//! background tasks. A call then ends by its deadline, with an error that says what happened: it neither panics nor hangs.
//! Redis is not needed for any of this, and not there.

#![expect(clippy::disallowed_methods, reason = "the runtimes are the tests' own")]

use std::{
    collections::BTreeSet,
    path::Path,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use contact_cache::{
    Config, ContactCache, Error, Freshness, OpenError, Patch, State, Uid,
    env::{Env, TokioEnv},
    error::Effect,
};
use futures_util::FutureExt as _;
use seedbed_redis::serve_tcp::spawn_embedded;
use serde_json::json;
use tokio::runtime::{Builder, Runtime};

/// How long a test may take before it counts as hanging.
const PATIENCE: Duration = Duration::from_mins(1);

#[test]
fn on_a_runtime_that_has_ended_every_call_is_a_typed_error_and_the_directory_is_given_back() {
    ends(|| {
        let directory = tempfile::tempdir().expect("room for a directory");
        let (first, second) = (several_threads(), several_threads());
        let cache = first.block_on(open(directory.path())).expect("a directory of its own");
        first.block_on(cache.upsert(&uid(), &named("Ada"))).expect("the disk works");
        drop(first);
        second.block_on(async {
            let has_ended = |error: &Error| matches!(error, Error::BackgroundEnded) && error.effect() == Effect::None;
            assert!(cache.get(&uid()).await.is_err_and(|error| has_ended(&error)));
            assert!(cache.upsert(&uid(), &named("Dora")).await.is_err_and(|error| has_ended(&error)));
            assert!(cache.remove(&uid()).await.is_err_and(|error| has_ended(&error)));
            let many = cache.get_many(&BTreeSet::from([uid()]), Freshness::Any).await;
            assert!(many.is_err_and(|error| has_ended(&error)));
            assert!(cache.list().await.is_err_and(|error| has_ended(&error)));
            assert!(cache.clear().await.is_err_and(|error| has_ended(&error)));
            assert_eq!(cache.sync().await, 1, "one record is pending, and stays so");
            let health = cache.health();
            assert_eq!(health.state, State::Degraded);
            assert!(health.away_because.is_some_and(|reason| reason.contains("runtime")));
            assert!(cache.close().await.is_err_and(|error| has_ended(&error)));
            // What was acknowledged is there, for the next one.
            let again = open(directory.path()).await.expect("the directory was given back");
            assert!(again.get(&uid()).await.expect("the disk works").record.is_some());
        });
    });
}

#[test]
fn a_cache_whose_runtime_ended_while_it_was_connected_does_not_count_as_connected() {
    ends(|| {
        let directory = tempfile::tempdir().expect("room for a directory");
        let (first, second) = (several_threads(), several_threads());
        let redis = second.block_on(spawn_embedded()).expect("a free port");
        let config = Config { redis: redis.url().parse().expect("a url"), ..config(directory.path()) };
        let cache = first
            .block_on(async { ContactCache::open(TokioEnv::new(), config).await })
            .expect("a directory of its own");
        first.block_on(cache.connected());
        drop(first);
        assert!(cache.connected().now_or_never().is_none());
    });
}

#[test]
fn on_a_runtime_that_is_idle_every_call_ends_by_its_deadline() {
    ends(|| {
        let directory = tempfile::tempdir().expect("room for a directory");
        let (first, second) = (one_thread(), several_threads());
        let cache = first.block_on(open(directory.path())).expect("a directory of its own");
        second.block_on(async {
            assert!(cache.get(&uid()).await.expect("it needs no task").record.is_none());
            let written = cache.upsert(&uid(), &named("Ada")).await;
            assert!(matches!(written, Err(Error::DeadlineExceeded { .. })), "{written:?}");
            assert_eq!(cache.sync().await, 1);
            let closed = cache.close().await;
            assert!(matches!(closed, Err(Error::DeadlineExceeded { .. })), "{closed:?}");
        });
        // Its tasks hold the directory until it ends.
        drop(first);
        second.block_on(open(directory.path())).expect("the directory was given back");
    });
}

#[test]
fn a_cache_works_from_a_runtime_without_timers() {
    ends(|| {
        let directory = tempfile::tempdir().expect("room for a directory");
        let (first, second) = (several_threads(), Builder::new_current_thread().build().expect("room for a runtime"));
        let cache = first.block_on(open(directory.path())).expect("a directory of its own");
        second.block_on(cache.upsert(&uid(), &named("Ada"))).expect("the disk works");
        second.block_on(cache.close()).expect("the disk works");
    });
}

#[test]
fn opening_on_a_runtime_that_has_ended_is_an_error() {
    ends(|| {
        let directory = tempfile::tempdir().expect("room for a directory");
        let first = several_threads();
        let env = first.block_on(async { TokioEnv::new() });
        drop(first);
        let opened = several_threads().block_on(ContactCache::open(env, config(directory.path())));
        assert!(matches!(opened.err(), Some(OpenError::BackgroundEnded)));
    });
}

#[test]
fn timers_and_blocking_work_need_no_runtime_that_lives() {
    ends(|| {
        let (ended, idle) = (several_threads(), one_thread());
        let envs = [&ended, &idle].map(|runtime| runtime.block_on(async { TokioEnv::new() }));
        drop(ended);
        for env in envs {
            several_threads().block_on(async {
                let begun = Instant::now();
                env.sleep(Duration::from_millis(20)).await;
                assert!(begun.elapsed() >= Duration::from_millis(20));
                assert_eq!(env.blocking(|| 6 * 7).await, 42);
            });
        }
        drop(idle);
    });
}

/// Runs `test` on a thread of its own, which must end.
fn ends(test: impl FnOnce() + Send + 'static) {
    let (done, is_done) = mpsc::channel();
    let thread = thread::spawn(move || {
        test();
        // Nobody may wait any more.
        let _ = done.send(());
    });
    let ended = is_done.recv_timeout(PATIENCE);
    assert!(ended != Err(mpsc::RecvTimeoutError::Timeout), "it hangs");
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

fn several_threads() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("room for a runtime")
}

fn one_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("room for a runtime")
}

async fn open(directory: &Path) -> Result<ContactCache, OpenError> {
    ContactCache::open(TokioEnv::new(), config(directory)).await
}

/// Nobody listens where Redis should be.
fn config(directory: &Path) -> Config {
    Config::new("redis://127.0.0.1:1".parse().expect("a url"), "p".parse().expect("a prefix"), directory)
}

fn uid() -> Uid {
    "u".parse().expect("a uid")
}

fn named(name: &str) -> Patch {
    let mut patch = Patch::default();
    patch.profile.insert("name".to_owned(), json!(name));
    patch
}
