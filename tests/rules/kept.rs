//! What the local store keeps, whatever becomes of its disk, its limits and its log; and that what waits for Redis waits for
//! no other record.

use std::{collections::BTreeSet, path::Path, time::Duration};

use contact_cache::{
    Config, Error, Source,
    env::{Disk as _, DiskFile as _, Env as _},
};
use seedbed_contact::{
    faults::{DENIALS, Refusal},
    history::Stop,
};
use serde_json::json;

use crate::stage::{Cache, DIRECTORY, Stage, config, field, play, profile, uid};

/// So many as are merged at a time, and some.
const POISON: usize = 20;

#[test]
fn records_that_redis_refuses_hold_up_none_that_it_takes() {
    play(async |stage| {
        let (cache, other) = (stage.open(1).await, stage.open(2).await);
        stage.at_rest(&cache).await;
        stage.cut(1, true);
        stage.away(&cache).await;
        for number in 0..60 {
            cache.upsert(&uid(&format!("good {number}")), &field("v", "1")).await.expect("the disk works");
        }
        for number in 0..POISON {
            cache.upsert(&uid(&format!("bad-{number}")), &field("v", "1")).await.expect("the disk works");
            stage.command(&["SET", &format!("cc1:p:bad-{number}"), "not ours"]);
        }
        stage.cut(1, false);
        stage.until("those that can be are merged", || cache.health().pending_records == POISON as u64).await;
        assert_eq!(other.list().await.expect("redis").uids.len(), 60);
        assert!(cache.health().refused.is_some_and(|refused| refused.contains("cc1:p:bad-")));
        // And later ones, while the others go on being refused.
        stage.redis.with_engine(|engine| engine.refuse(Some(Refusal::OutOfMemory)));
        cache.upsert(&uid("later"), &field("v", "1")).await.expect("the disk works");
        stage.redis.with_engine(|engine| engine.refuse(None));
        stage.until("merged", || cache.health().pending_records == POISON as u64).await;
        for number in 0..POISON {
            stage.command(&["DEL", &format!("cc1:p:bad-{number}")]);
        }
        stage.at_rest(&cache).await;
        assert_eq!(other.list().await.expect("redis").uids.len(), 61 + POISON);
    });
}

/// The script deletes cells and writes a tombstone, which are two commands with rights of their own.
#[test]
fn a_removal_that_redis_refuses_halfway_takes_no_cell_without_its_tombstone() {
    for denied in DENIALS {
        play(async move |stage| {
            let (cache, other) = (stage.open(1).await, stage.open(2).await);
            stage.at_rest(&cache).await;
            stage.at_rest(&other).await;
            cache.upsert(&uid("u"), &field("v", "1")).await.expect("redis");
            let before = stage.stored("u");
            stage.redis.with_engine(|engine| engine.deny(denied.commands()));
            cache.remove(&uid("u")).await.expect("the disk works");
            stage.redis.with_engine(|engine| engine.deny(&[]));
            let after = stage.stored("u");
            assert!(after == before || after.contains_key("d"), "{denied:?}: {after:?}");
            stage.at_rest(&cache).await;
            stage.at_rest(&other).await;
            assert_eq!(profile(&other, "u").await, (Source::Shared, None), "{denied:?}");
        });
    }
}

#[test]
fn a_copy_that_is_to_be_published_again_is_not_forgotten_to_make_room() {
    play(async |stage| {
        let limit = Config { copies_bytes_max: 5_000, republish_window: Duration::from_secs(1), ..config() };
        let (cache, other) = (stage.open_with(1, limit).await, stage.open(2).await);
        stage.at_rest(&cache).await;
        let names: BTreeSet<_> = (0..12).map(|number| uid(&format!("lost-{number}"))).collect();
        for name in &names {
            cache.upsert(name, &field("v", "1")).await.expect("redis");
        }
        for number in 0..60 {
            other.upsert(&uid(&format!("theirs {number}")), &field("v", "1")).await.expect("redis");
        }
        stage.sleep(Duration::from_secs(10)).await;
        for name in &names {
            assert_eq!(stage.command(&["DEL", &format!("cc1:p:{name}")]), ":1\r\n");
        }
        stage.redis.with_engine(|engine| engine.refuse(Some(Refusal::OutOfMemory)));
        for name in &names {
            assert_eq!(cache.get(name).await.expect("redis answers reads").source, Source::Merged);
        }
        for round in 0..3 {
            for number in 0..60 {
                cache.get(&uid(&format!("theirs {number}"))).await.expect("redis answers reads");
            }
            stage.sleep(Duration::from_secs(2)).await;
            assert_eq!(cache.health().pending_records, 12, "round {round}: {:?}", cache.health());
        }
        assert!(cache.health().forgotten_copies > 0, "there was no need of room");
        stage.redis.with_engine(|engine| engine.refuse(None));
        stage.at_rest(&cache).await;
        for name in &names {
            assert_eq!(other.get(name).await.expect("redis").record.expect("it is back").profile["v"], json!("1"));
        }
    });
}

/// Fills the log until it has been rewritten once more.
async fn rewrite(stage: &Stage, cache: &Cache) {
    let before = cache.health().rewrites;
    for number in 0.. {
        if cache.health().rewrites > before {
            return;
        }
        assert!(number < 2000, "it is never rewritten");
        cache.upsert(&uid("filler"), &field("v", &number.to_string())).await.expect("one of the tiers");
        stage.sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn what_was_forgotten_stays_forgotten_through_rewrites_and_restarts() {
    play(async |stage| {
        let limit = Config {
            copies_bytes_max: 5_000,
            republish_window: Duration::from_secs(1),
            compact_bytes: 1_000,
            ..config()
        };
        let cache = stage.open_with(1, limit.clone()).await;
        stage.at_rest(&cache).await;
        for number in 0..60 {
            cache.upsert(&uid(&number.to_string()), &field("v", "1")).await.expect("redis");
            stage.sleep(Duration::from_millis(100)).await;
        }
        stage.until("some are forgotten", || cache.health().forgotten_copies > 20).await;
        let mut cache = cache;
        for round in 0..3 {
            rewrite(&stage, &cache).await;
            stage.close(1, cache).await;
            stage.cut(1, true);
            cache = stage.open_with(1, limit.clone()).await;
            let name = uid(&round.to_string());
            assert!(matches!(cache.get(&name).await, Err(Error::Forgotten)), "round {round}");
            assert!(matches!(cache.get(&uid("never written")).await, Err(Error::Forgotten)), "it cannot tell");
            assert!(!cache.list().await.expect("the disk works").complete, "round {round}");
            stage.cut(1, false);
            stage.at_rest(&cache).await;
            assert_eq!(cache.get(&name).await.expect("redis").source, Source::Shared);
        }
    });
}

/// An earlier rewriting was cut off, and what it left could not be removed.
#[test]
fn a_log_is_rewritten_over_what_an_earlier_attempt_left_behind() {
    play(async |stage| {
        let small = Config { compact_bytes: 10_000, ..config() };
        let cache = stage.open_with(1, small.clone()).await;
        stage.at_rest(&cache).await;
        for number in 0..10 {
            cache.upsert(&uid(&number.to_string()), &field("v", "1")).await.expect("redis");
        }
        rewrite(&stage, &cache).await;
        let disk = stage.world.env(1).disk().clone();
        let log = Path::new(DIRECTORY).join("store.log");
        let file = disk.open(&log).expect("the disk works");
        let mut longer = vec![0; usize::try_from(file.len().expect("the disk works")).expect("it is small")];
        file.read_at(0, &mut longer).expect("the file is that long");
        let left = disk.create(&log.with_extension("new")).expect("the name is free");
        // It has entries behind those that are to come.
        for copy in 0..20 {
            left.write_at(copy * longer.len() as u64, &longer).expect("the disk works");
        }
        left.sync().expect("the disk works");
        rewrite(&stage, &cache).await;
        stage.kill(1, Stop::PowerLost, cache);
        stage.cut(1, true);
        let cache = stage.open_with(1, small).await;
        assert!(!cache.open_report().damage.is_loss(), "{:?}", cache.open_report());
        for number in 0..10 {
            let read = profile(&cache, &number.to_string()).await;
            assert_eq!(read, (Source::Local, Some(json!({"v": "1"}))), "{number}");
        }
    });
}
