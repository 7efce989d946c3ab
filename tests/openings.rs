//! Openings that are given up, ends at any moment, and several caches in one process. Workloads open one cache a process and
//! wait for it, since an application that gives up an opening has no cache that a plan could ask: so these are scenarios.
//! After each the process holds no socket, task, file or lock (G11), and its directories can be opened again.
//!
//! `close` takes the cache, so no call can be under way beside it; work in the background can.
mod stage;

use std::{future::Future, pin::pin, task::Poll, time::Duration};

use contact_cache::{Config, ContactCache, OpenError, Placement, Source, State, env::Env};
use seedbed_contact::redis_host::REDIS;
use seedbed_contact::world::SimEnv;
use serde_json::json;
use stage::{Cache, Stage, config, field, play, profile, uid};

const INSTANCE: u32 = 1;

/// Polls a future at most so often.
async fn polled<T>(work: impl Future<Output = T>, polls: u32) -> Option<T> {
    let mut work = pin!(work);
    let mut left = polls;
    std::future::poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        work.as_mut().poll(context).map(Some)
    })
    .await
}

fn other(prefix: &str, directory: &str) -> Config {
    let config = config();
    Config::new(config.redis, prefix.parse().expect("a prefix"), directory)
}

/// Sockets, tasks and files of the instance.
fn holds(stage: &Stage) -> [u64; 3] {
    let held = stage.world.held(INSTANCE).expect("its process runs");
    [held.sockets.now, held.tasks.now, held.files.now]
}

async fn assert_holds_nothing(stage: &Stage, after: &str) {
    stage.world.sleep_us(10_000).await;
    assert_eq!(holds(stage), [0, 0, 0], "sockets, tasks, files {after}");
}

/// Gives up an opening after each number of polls, until one completes.
async fn give_up_everywhere(stage: &Stage, env: &SimEnv) {
    for polls in 0.. {
        assert!(polls < 1_000, "it never opens");
        let opened = polled(ContactCache::open(env.clone(), config()), polls).await;
        let is_open = opened.is_some();
        if let Some(cache) = opened {
            cache.expect("the directory is free").close().await.expect("the disk works");
        }
        assert_holds_nothing(stage, &format!("after {polls} polls of an opening")).await;
        if is_open {
            assert!(polls > 3, "it opened in {polls} polls: there is no await to give it up at");
            return;
        }
    }
}

#[test]
fn an_opening_that_is_given_up_at_any_await_leaves_nothing() {
    play(async |stage| {
        let env = stage.world.boot(INSTANCE);
        give_up_everywhere(&stage, &env).await;
        // Requests arrive and replies do not.
        stage.cut_from_redis(INSTANCE, true);
        give_up_everywhere(&stage, &env).await;
        stage.cut(INSTANCE, true);
        give_up_everywhere(&stage, &env).await;
        stage.cut(INSTANCE, false);
        let cache = ContactCache::open(env, config()).await.expect("the directory is free");
        stage.at_rest(&cache).await;
    });
}

#[test]
fn an_opening_of_a_store_with_pending_writes_that_is_given_up_loses_none() {
    play(async |stage| {
        let env = stage.world.boot(INSTANCE);
        stage.cut(INSTANCE, true);
        let cache = ContactCache::open(env.clone(), config()).await.expect("it opens without redis");
        for number in 0..20 {
            let written = cache.upsert(&uid(&format!("u{number}")), &field("v", "1")).await.expect("the disk works");
            assert_eq!(written.placement, Placement::Local);
        }
        cache.close().await.expect("the disk works");
        stage.cut(INSTANCE, false);
        give_up_everywhere(&stage, &env).await;
        let cache = ContactCache::open(env, config()).await.expect("the directory is free");
        stage.at_rest(&cache).await;
        for number in 0..20 {
            let read = profile(&cache, &format!("u{number}")).await;
            assert_eq!(read, (Source::Shared, Some(json!({"v": "1"}))), "u{number}");
        }
    });
}

#[test]
fn a_close_at_any_moment_of_the_work_in_the_background_leaves_nothing_and_loses_none() {
    play(async |stage| {
        let env = stage.world.boot(INSTANCE);
        let mut number = 0;
        // From before the first connection to after the last merge.
        for after_us in (0..60_000).step_by(1_500) {
            stage.cut(INSTANCE, true);
            let cache = ContactCache::open(env.clone(), config()).await.expect("it opens without redis");
            for _ in 0..5 {
                number += 1;
                cache.upsert(&uid(&format!("u{number}")), &field("v", "1")).await.expect("the disk works");
            }
            cache.close().await.expect("the disk works");
            stage.world.net().set_extra_us(INSTANCE, REDIS, 3_000);
            stage.cut(INSTANCE, false);
            let mut opening = pin!(ContactCache::open(env.clone(), config()));
            let cache = opening.as_mut().await.expect("the directory is free");
            stage.world.sleep_us(after_us).await;
            cache.close().await.expect("the disk works");
            assert_holds_nothing(&stage, &format!("after a close {after_us} us after the opening")).await;
        }
        let cache = ContactCache::open(env, config()).await.expect("the directory is free");
        stage.at_rest(&cache).await;
        assert_eq!(cache.list().await.expect("redis").uids.len(), number);
    });
}

#[test]
fn a_close_that_is_given_up_leaves_nothing() {
    play(async |stage| {
        let env = stage.world.boot(INSTANCE);
        for polls in 0.. {
            let cache = ContactCache::open(env.clone(), config()).await.expect("the directory is free");
            cache.upsert(&uid("u"), &field("v", &polls.to_string())).await.expect("the disk works");
            let closed = polled(cache.close(), polls).await;
            assert_holds_nothing(&stage, &format!("after {polls} polls of a close")).await;
            if closed.is_some() {
                break;
            }
        }
    });
}

async fn two(stage: &Stage, env: &SimEnv) -> [Cache; 2] {
    let one = ContactCache::open(env.clone(), other("a", "/data/one")).await.expect("its own directory");
    let two = ContactCache::open(env.clone(), other("a:b", "/data/two")).await.expect("its own directory");
    stage.at_rest(&one).await;
    stage.at_rest(&two).await;
    [one, two]
}

#[test]
fn two_caches_of_one_process_with_two_prefixes_see_nothing_of_each_other() {
    play(async |stage| {
        let env = stage.world.boot(INSTANCE);
        let [one, two] = two(&stage, &env).await;
        for (cache, value) in [(&one, "1"), (&two, "2")] {
            cache.upsert(&uid("u"), &field("v", value)).await.expect("redis");
        }
        let cleared = one.clear().await.expect("redis");
        assert_eq!(cleared.removed.len(), 1);
        assert_eq!(profile(&one, "u").await, (Source::Shared, None));
        assert_eq!(profile(&two, "u").await, (Source::Shared, Some(json!({"v": "2"}))));
        // What one loses, the other keeps.
        one.close().await.expect("the disk works");
        assert_eq!(two.health().state, State::Connected);
        assert_eq!(profile(&two, "u").await, (Source::Shared, Some(json!({"v": "2"}))));
        two.close().await.expect("the disk works");
        assert_holds_nothing(&stage, "after both were closed").await;
    });
}

#[test]
fn a_second_cache_of_one_process_in_the_same_directory_does_not_open_and_harms_none() {
    play(async |stage| {
        let env = stage.world.boot(INSTANCE);
        let first = ContactCache::open(env.clone(), config()).await.expect("the directory is free");
        stage.at_rest(&first).await;
        let before = holds(&stage);
        let second = ContactCache::open(env.clone(), config()).await;
        assert!(matches!(second, Err(OpenError::Store(_))), "{:?}", second.err());
        stage.world.sleep_us(10_000).await;
        assert_eq!(holds(&stage), before, "sockets, tasks, files of the first alone");
        first.upsert(&uid("u"), &field("v", "1")).await.expect("redis");
        first.close().await.expect("the disk works");
        assert_holds_nothing(&stage, "after the first was closed").await;
    });
}

#[test]
fn two_caches_of_one_process_under_one_prefix_are_two_instances() {
    play(async |stage| {
        let env = stage.world.boot(INSTANCE);
        let one = ContactCache::open(env.clone(), other("p", "/data/one")).await.expect("its own directory");
        let two = ContactCache::open(env.clone(), other("p", "/data/two")).await.expect("its own directory");
        stage.at_rest(&one).await;
        stage.at_rest(&two).await;
        // In the same millisecond of one clock: only the ids of the instances tell their stamps apart.
        let (name, title) = (field("name", "1"), field("title", "2"));
        let uid_u = uid("u");
        let (left, right) = tokio::join!(biased; one.upsert(&uid_u, &name), two.upsert(&uid_u, &title));
        let (left, right) = (left.expect("redis"), right.expect("redis"));
        assert_ne!(left.stamp, right.stamp);
        let both = Some(json!({"name": "1", "title": "2"}));
        assert_eq!(profile(&one, "u").await, (Source::Shared, both.clone()));
        assert_eq!(profile(&two, "u").await, (Source::Shared, both));
        env.sleep(Duration::from_millis(1)).await;
    });
}
