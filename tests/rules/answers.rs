//! How fresh an answer is, within which time it comes, and what it must not count: writes made since Redis was asked, and replies
//! of a Redis whose data was lost since.

use std::{
    collections::BTreeSet,
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use contact_cache::{Config, ContactCache, Error, Freshness, Patch, Placement, Source, State, env::Env as _};
use futures_util::FutureExt as _;
use seedbed_contact::redis_host::REDIS;
use seedbed_redis::Engine;
use serde_json::json;

use crate::stage::{Cache, Stage, config, field, play, profile, uid};

const MINUTE: Duration = Duration::from_mins(1);

/// The age that was told, or the tier that answered, asked for one record and for several.
async fn within(cache: &Cache, name: &str, max: Duration) -> Result<Source, Option<u64>> {
    let one = cache.get_with(&uid(name), Freshness::Within(max)).await;
    let mut several = cache.get_many(&[uid(name)].into(), Freshness::Within(max)).await.expect("in time");
    let [one, several] = [one, several.remove(&uid(name)).expect("it was asked for")].map(|read| match read {
        Ok(read) => Ok(read.source),
        Err(Error::TooOld { age_ms, max_ms }) => {
            assert_eq!(u128::from(max_ms), max.as_millis());
            Err(age_ms)
        }
        Err(error) => panic!("{name}: {error}"),
    });
    assert_eq!(one, several, "{name}");
    one
}

#[test]
fn who_waits_for_redis_is_told_when_it_is_there_and_has_what_was_pending() {
    play(async |stage| {
        stage.cut(1, true);
        let cache = stage.open(1).await;
        let (connected, world) = (cache.connected(), stage.world.clone());
        let mut told = stage.spawn(1, async move {
            connected.await;
            world.now_us()
        });
        cache.upsert(&uid("ada"), &field("v", "1")).await.expect("the disk works");
        stage.sleep(MINUTE).await;
        assert!(told.try_recv().is_err(), "redis is away");
        stage.cut(1, false);
        stage.until("told", || cache.health().state == State::Connected).await;
        let late_us = stage.world.now_us() - told.await.expect("it lives");
        assert!(late_us <= 1_000, "told {late_us} us before");
        assert_eq!(cache.health().pending_records, 0);
        assert!(cache.connected().now_or_never().is_some(), "it is connected");
        let connected = cache.connected();
        cache.close().await.expect("the disk works");
        assert!(connected.now_or_never().is_none(), "of a cache that has ended");
    });
}

#[test]
fn without_redis_a_copy_is_as_old_as_the_last_reply_that_covered_all_of_it() {
    play(async |stage| {
        let (cache, other) = (stage.open(1).await, stage.open(2).await);
        stage.at_rest(&cache).await;
        other.upsert(&uid("read"), &field("v", "1")).await.expect("redis");
        for name in ["read", "written", "read again", "written in part", "absent"] {
            if name.starts_with("written") || name == "read again" {
                cache.upsert(&uid(name), &field("v", "1")).await.expect("redis");
            }
            cache.get(&uid(name)).await.expect("redis");
        }
        stage.sleep(MINUTE).await;
        assert_eq!(within(&cache, "read again", Duration::ZERO).await, Ok(Source::Shared), "redis was asked");
        cache.upsert(&uid("written in part"), &field("w", "1")).await.expect("redis");
        stage.cut(1, true);
        stage.away(&cache).await;
        cache.upsert(&uid("written here"), &field("v", "1")).await.expect("the disk works");
        cache.upsert(&uid("read"), &field("w", "1")).await.expect("the disk works");
        stage.sleep(MINUTE).await;
        let ages = [("read", 2), ("written", 2), ("read again", 1), ("written in part", 2)];
        for (name, minutes) in ages {
            let age = within(&cache, name, Duration::ZERO).await.expect_err("it is older").expect("its age is known");
            // Up to the time that it took to notice that Redis is away.
            assert!((minutes * 60_000..minutes * 60_000 + 5_000).contains(&age), "{name}: {age} ms");
            assert_eq!(within(&cache, name, Duration::from_millis(age)).await, Ok(Source::Local), "{name}");
            let less = Duration::from_millis(age - 1);
            assert_eq!(within(&cache, name, less).await, Err(Some(age)), "{name}");
            let shared = cache.get_with(&uid(name), Freshness::Shared).await;
            assert!(matches!(shared, Err(Error::NotShared { sent: false, .. })), "{name}: {shared:?}");
            let several = cache.get_many(&[uid(name)].into(), Freshness::Shared).await.expect("in time");
            assert!(matches!(several[&uid(name)], Err(Error::NotShared { sent: false, .. })), "{name}: {several:?}");
        }
        assert_eq!(within(&cache, "written here", Duration::ZERO).await, Ok(Source::Local), "nobody else wrote to it");
        assert_eq!(within(&cache, "never asked for", MINUTE).await, Err(None));
        assert_eq!(cache.get(&uid("never asked for")).await.expect("the disk works").source, Source::Local);
    });
}

#[test]
fn an_answer_that_shows_what_redis_lacks_is_not_the_word_of_redis() {
    play(async |stage| {
        let cache = stage.open(1).await;
        stage.at_rest(&cache).await;
        cache.upsert(&uid("u"), &field("v", "1")).await.expect("redis");
        stage.redis.with_engine(|engine| engine.refuse(Some(seedbed_contact::faults::Refusal::OutOfMemory)));
        cache.upsert(&uid("u"), &field("w", "1")).await.expect("the disk works");
        let one = cache.get_with(&uid("u"), Freshness::Shared).await;
        let several = cache.get_many(&[uid("u")].into(), Freshness::Shared).await.expect("in time");
        for read in [&one, &several[&uid("u")]] {
            assert!(matches!(read, Err(Error::NotShared { sent: false, .. })), "{read:?}");
        }
        assert_eq!(within(&cache, "u", Duration::ZERO).await, Ok(Source::Merged));
    });
}

/// The second attempt of a write that met a conflict has what the first one left of the time.
#[test]
fn all_attempts_of_a_write_together_wait_no_longer_than_for_one_reply() {
    for extra_ms in [0, 150, 200, 240] {
        play(async move |stage| {
            stage.world.set_offset_ms(2, 900_000);
            let (cache, fast) = (stage.open(1).await, stage.open(2).await);
            stage.at_rest(&cache).await;
            cache.upsert(&uid("warm"), &field("v", "1")).await.expect("redis");
            fast.upsert(&uid("u"), &field("v", "theirs")).await.expect("redis");
            stage.world.net().set_extra_us(1, REDIS, extra_ms * 1000);
            let before_us = stage.world.now_us();
            let written = cache.upsert(&uid("u"), &field("v", "mine")).await.expect("one of the tiers");
            let took_ms = (stage.world.now_us() - before_us) / 1000;
            assert!(took_ms < 280, "{extra_ms}: {took_ms} ms");
            assert_eq!(written.placement == Placement::Local, extra_ms > 0, "{extra_ms}: there was time for one");
            stage.world.net().set_extra_us(1, REDIS, 0);
            stage.at_rest(&cache).await;
            assert_eq!(profile(&fast, "u").await, (Source::Shared, Some(json!({"v": "mine"}))), "{extra_ms}");
        });
    }
}

/// Keys of another application, and so many that a list takes many pages.
fn fill(engine: &mut Engine, stage: &Stage) {
    let client = seedbed_redis::ClientId(u64::MAX);
    engine.connect(client);
    let words = |number: usize| format!("*3\r\n$3\r\nSET\r\n$10\r\nother{number:05}\r\n$1\r\n1\r\n");
    let requests: String = (0..12_000).map(words).collect();
    let mut replies = Vec::new();
    engine.feed(client, requests.as_bytes(), stage.world.wall_ms(REDIS), &mut replies);
    assert!(!replies.contains(&b'-'), "an error");
    engine.disconnect(client);
}

fn attentive() -> Config {
    Config { probe_interval: Duration::from_millis(20), ..config() }
}

#[test]
fn r6_a_list_that_began_before_redis_lost_its_data_is_not_the_word_of_redis() {
    play(async |stage| {
        let cache = Arc::new(stage.open_with(1, attentive()).await);
        stage.at_rest(&cache).await;
        let names: BTreeSet<_> = (0..100).map(|number| uid(&number.to_string())).collect();
        for name in &names {
            cache.upsert(name, &field("v", "1")).await.expect("redis");
        }
        stage.redis.with_engine(|engine| fill(engine, &stage));
        stage.world.net().set_extra_us(1, REDIS, 8_000);
        let lister = cache.clone();
        let listing = stage.spawn(1, async move { lister.list().await.expect("one of the tiers") });
        // Some pages are here, and some are to come.
        stage.sleep(Duration::from_millis(40)).await;
        stage.redis.with_engine(|engine| {
            engine.flush_all();
            fill(engine, &stage);
        });
        let listing = listing.await.expect("it ends");
        assert_eq!(listing.local_because.as_deref(), Some("redis lost its data while it was asked"));
        assert_eq!((listing.uids == names, listing.source), (true, Source::Local));
    });
}

#[test]
fn r6_a_reply_that_redis_gave_before_it_lost_its_data_says_nothing() {
    play(async |stage| {
        let settings = attentive();
        let other = stage.open_with(2, Config { record_ttl: Some(Duration::from_secs(8)), ..config() }).await;
        let cache = Arc::new(stage.open_with(1, settings).await);
        stage.at_rest(&cache).await;
        stage.at_rest(&other).await;
        let names: BTreeSet<_> = ["a", "b", "c", "d", "e", "f", "kept"].map(uid).into();
        for name in &names {
            let writer = if *name == uid("kept") { &*cache } else { &other };
            writer.upsert(name, &field("v", "1")).await.expect("redis");
            cache.get(name).await.expect("redis");
        }
        stage.sleep(Duration::from_secs(6)).await;
        stage.world.net().set_extra_us(1, REDIS, 25_000);
        stage.sleep(Duration::from_millis(200)).await;
        // All replies come together. Redis is asked once more for each that is near its end, and the last one waits.
        let reader = cache.clone();
        let reads = stage.spawn(1, async move { reader.get_many(&names, Freshness::Any).await.expect("in time") });
        stage.sleep(Duration::from_millis(40)).await;
        stage.redis.with_engine(Engine::flush_all);
        let reads = reads.await.expect("it ends");
        let kept = reads[&uid("kept")].as_ref().expect("it is held");
        assert_eq!(kept.source, Source::Local);
        assert_eq!(kept.record.as_ref().map(|record| &record.profile["v"]), Some(&json!("1")));
    });
}

/// What `call` comes to if it does so within that many polls.
async fn polled<T>(call: impl Future<Output = T>, mut polls: u32) -> Option<T> {
    let mut call = pin!(call);
    let poll = |context: &mut Context| {
        let Some(left) = polls.checked_sub(1) else { return Poll::Ready(None) };
        polls = left;
        call.as_mut().poll(context).map(Some)
    };
    std::future::poll_fn(poll).await
}

#[test]
fn an_opening_that_is_given_up_leaves_no_task_no_connection_and_no_lock() {
    for silent in [false, true] {
        play(async move |stage| {
            let env = stage.world.boot(1);
            stage.cut_from_redis(1, silent);
            for polls in 0.. {
                assert!(polls < 100, "it never opens");
                let opened = polled(ContactCache::open(env.clone(), config()), polls).await;
                let is_open = opened.is_some();
                drop(opened.map(|opened| opened.expect("the directory is free")));
                stage.until("no connection is left", || stage.world.net().open_connections(1) == 0).await;
                env.sleep(Duration::from_millis(10)).await;
                if is_open {
                    break;
                }
            }
            stage.cut(1, false);
            let cache = ContactCache::open(env, config()).await.expect("the directory is free");
            stage.at_rest(&cache).await;
            stage.sleep(Duration::from_secs(30)).await;
            assert_eq!(stage.world.net().open_connections(1), 1);
            cache.upsert(&uid("u"), &field("v", "1")).await.expect("redis");
        });
    }
}

#[test]
fn a_record_of_thousands_of_cells_is_written_read_changed_and_removed_like_any_other() {
    play(async |stage| {
        let ending = Config { record_ttl: Some(MINUTE), ..config() };
        let (cache, other) = (stage.open_with(1, ending.clone()).await, stage.open_with(2, ending).await);
        stage.at_rest(&cache).await;
        stage.at_rest(&other).await;
        for (round, away) in [(1, false), (2, false), (3, true)] {
            stage.cut(1, away);
            if away {
                stage.away(&cache).await;
            }
            let profile = (0..5000).map(|number| (number.to_string(), json!(number * round))).collect();
            let patch = Patch { profile, ..Patch::default() };
            let written = cache.upsert(&uid("u"), &patch).await.expect("one of the tiers");
            assert_eq!(written.placement == Placement::Local, away, "{round}");
            stage.cut(1, false);
            stage.at_rest(&cache).await;
            let read = other.get(&uid("u")).await.expect("redis");
            assert_eq!(read.source, Source::Shared);
            assert_eq!(read.record.expect("it was written").profile, patch.profile, "{round}");
        }
        cache.remove(&uid("u")).await.expect("redis");
        assert_eq!(stage.stored("u").len(), 3, "a removal and two times");
        cache.upsert(&uid("u"), &field("v", "1")).await.expect("redis");
        let profile_of = (0..5000).map(|number| (number.to_string(), json!(number))).collect();
        cache.upsert(&uid("u"), &Patch { profile: profile_of, ..Patch::default() }).await.expect("redis");
        stage.sleep(2 * MINUTE).await;
        assert_eq!(profile(&other, "u").await, (Source::Shared, None), "it has ended");
        assert_eq!(stage.stored("u").len(), 3);
    });
}
