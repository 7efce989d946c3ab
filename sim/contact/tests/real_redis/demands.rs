//! What a caller can demand: freshness, Redis or nothing, many records at once; and what settings trade.

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use contact_cache::{
    Config, Durability, Error, Freshness, OnLoss, Placement, Source,
    env::{Env, TokioEnv},
    error::Effect,
};
use redis_launcher::{Program, Server};

use crate::client::{PATIENCE, at_rest, config, directory, named, open, open_with, uid};

pub(crate) async fn a_call_can_demand_redis_or_an_error(redis: &Program) {
    let (mut server, directory) = (Server::absent(redis), directory());
    let cache = open(&server.url(), directory.path()).await;
    cache.upsert(&uid("u"), &named("here")).await.expect("the disk works");
    let refused = [
        cache.get_with(&uid("u"), Freshness::Shared).await.expect_err("no redis"),
        cache.upsert_shared(&uid("v"), &named("there")).await.expect_err("no redis"),
        cache.remove_shared(&uid("u")).await.expect_err("no redis"),
    ];
    for error in refused {
        assert!(matches!(&error, Error::NotShared { reason, .. } if !reason.is_empty()), "{error}");
        assert_eq!(error.effect(), Effect::None, "nothing was sent");
    }
    assert_eq!(cache.health().pending_records, 1, "what was refused is not kept");

    server.start();
    at_rest(&cache).await;
    assert_eq!(cache.upsert_shared(&uid("v"), &named("there")).await.expect("redis").placement, Placement::Shared);
    let read = cache.get_with(&uid("v"), Freshness::Shared).await.expect("redis");
    assert_eq!((read.source, read.record.is_some()), (Source::Shared, true));
    assert_eq!(cache.remove_shared(&uid("v")).await.expect("redis").placement, Placement::Shared);
}

pub(crate) async fn a_call_can_bound_the_age_of_a_local_answer(redis: &Program) {
    let (mut server, directory) = (Server::running(redis), directory());
    let other = open(&server.url(), &directory.path().join("other")).await;
    other.upsert(&uid("u"), &named("x")).await.expect("a record");
    let cache = open(&server.url(), &directory.path().join("cache")).await;
    cache.get(&uid("u")).await.expect("a record");
    server.kill();
    let read = cache.get_with(&uid("u"), Freshness::Within(Duration::from_mins(1))).await.expect("a young copy");
    assert_eq!((read.source, read.record.is_some()), (Source::Local, true));
    // Its own write is as young as can be, the rest of the record is not.
    TokioEnv::new().sleep(Duration::from_millis(50)).await;
    let error = cache.get_with(&uid("u"), Freshness::Within(Duration::from_millis(20))).await.expect_err("too old");
    assert!(matches!(error, Error::TooOld { age_ms: Some(50..), max_ms: 20 }), "{error}");
    let error = cache.get_with(&uid("v"), Freshness::Within(Duration::MAX)).await.expect_err("never seen");
    assert!(matches!(error, Error::TooOld { age_ms: None, .. }), "{error}");
    cache.upsert(&uid("v"), &named("mine")).await.expect("the disk works");
    cache.get_with(&uid("v"), Freshness::Within(Duration::ZERO)).await.expect("all of it was written here");
}

pub(crate) async fn many_records_are_read_at_once_each_by_itself(redis: &Program) {
    let (mut server, directory) = (Server::running(redis), directory());
    let cache = open(&server.url(), directory.path()).await;
    let uids: BTreeSet<_> = (0..600).map(|number| uid(&number.to_string())).collect();
    for uid in uids.iter().filter(|uid| uid.as_str() != "7") {
        cache.upsert(uid, &named(uid.as_str())).await.expect("a record");
    }
    assert_eq!(server.ask("SET cc1:p:8x x"), "+OK\r\n");
    let mut asked = uids.clone();
    asked.insert(uid("8x"));
    let reads = cache.get_many(&asked, Freshness::Any).await.expect("in time");
    assert_eq!(reads.keys().cloned().collect::<BTreeSet<_>>(), asked);
    for (read_uid, read) in &reads {
        match (read_uid.as_str(), read) {
            ("7", Ok(read)) => assert_eq!((read.source, read.record.is_none()), (Source::Shared, true)),
            ("8x", Err(Error::NotARecord { key, .. })) => assert_eq!(key, "cc1:p:8x"),
            (name, Ok(read)) => assert_eq!(read.record.as_ref().expect("written").profile["name"], name),
            (name, Err(error)) => panic!("{name}: {error}"),
        }
    }
    server.kill();
    let reads = cache.get_many(&uids, Freshness::Any).await.expect("in time");
    assert!(reads.values().all(|read| read.as_ref().is_ok_and(|read| read.source == Source::Local)));
    let shared = cache.get_many(&uids, Freshness::Shared).await.expect("in time");
    assert!(shared.values().all(|read| matches!(read, Err(Error::NotShared { .. }))));
}

pub(crate) async fn an_operator_who_flushed_on_purpose_is_taken_at_their_word_if_so_set(redis: &Program) {
    let directory = directory();
    for (on_loss, survives) in [(OnLoss::Republish, true), (OnLoss::Accept, false)] {
        let server = Server::running(redis);
        let directory = directory.path().join(format!("{on_loss:?}"));
        let cache = open_with(Config { on_loss, ..config(&server.url(), &directory) }).await;
        cache.upsert(&uid("u"), &named("x")).await.expect("a record");
        assert_eq!(server.ask("FLUSHALL"), "+OK\r\n");
        let env = TokioEnv::new();
        // The next probe notices. Until then a read may bring the copy back, or let it yield, just the same.
        while server.ask("EXISTS cc1g:p") == ":0\r\n" {
            assert!(env.now() < PATIENCE);
            env.sleep(Duration::from_millis(10)).await;
        }
        at_rest(&cache).await;
        assert_eq!(server.ask("EXISTS cc1:p:u"), format!(":{}\r\n", u8::from(survives)), "{on_loss:?}");
        // A read that was sent before the instance had noticed is not answered from Redis (R6).
        let read = loop {
            match cache.get_with(&uid("u"), Freshness::Shared).await {
                Ok(read) => break read,
                Err(error) => assert!(env.now() < PATIENCE, "{error}"),
            }
        };
        assert_eq!((read.source, read.record.is_some()), (Source::Shared, survives), "{on_loss:?}");
    }
}

pub(crate) async fn a_copy_is_on_disk_before_the_answer_if_so_set(redis: &Program) {
    const WRITES: usize = 20;
    let (server, directory) = (Server::running(redis), directory());
    for durability in [Durability::Always, Durability::WriteBehind] {
        let directory = directory.path().join(format!("{durability:?}"));
        let lazy = Config { durability, flush_interval: Duration::from_hours(1), ..config(&server.url(), &directory) };
        let cache = open_with(lazy).await;
        let mut on_disk = 0;
        for number in 0..WRITES {
            let value = format!("value-{durability:?}-{number}");
            let written = cache.upsert(&uid("u"), &named(&value)).await.expect("a record");
            assert_eq!(written.placement, Placement::Shared);
            let log = read_file(&directory.join("store.log"));
            on_disk += usize::from(log.windows(value.len()).any(|window| window == value.as_bytes()));
        }
        match durability {
            Durability::Always => assert_eq!(on_disk, WRITES),
            // Some may be: whatever has to be on disk takes along what waits.
            Durability::WriteBehind => assert!(on_disk < WRITES / 2, "{on_disk}"),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "looked at from outside")]
fn read_file(path: &Path) -> Vec<u8> {
    fs::read(path).expect("a file of our own")
}
