//! Disks without room, while Redis is well; and volumes that are smaller than two logs.

use std::{io, path::Path, time::Duration};

use contact_cache::{Config, ContactCache, Error, OpenError, Placement, Source, env::TokioEnv, error::StoreError};
use seedbed_contact::{history::Stop, world::disk::Verb};
use serde_json::json;

use crate::{
    mount::{Mount, not_shown},
    stage::{config, field, play, profile, uid},
};

#[test]
fn with_a_full_disk_what_redis_answers_goes_on_and_local_writes_are_errors() {
    play(async |stage| {
        let (cache, other) = (stage.open(1).await, stage.open(2).await);
        stage.at_rest(&cache).await;
        stage.at_rest(&other).await;
        cache.upsert(&uid("a"), &field("v", "before")).await.expect("redis is there");
        stage.world.disk(1).inject(Verb::Write, io::ErrorKind::StorageFull, u32::MAX);
        for round in 0..60 {
            // For longer than the ceiling of the clock was raised ahead (R4).
            stage.sleep(Duration::from_secs(10)).await;
            let value = round.to_string();
            let written = cache.upsert(&uid("a"), &field("v", &value)).await.expect("redis takes it");
            assert_eq!(written.placement, Placement::Shared);
            assert_eq!(profile(&cache, "a").await, (Source::Shared, Some(json!({"v": value}))));
            other.upsert(&uid("b"), &field("v", &value)).await.expect("redis takes it");
            assert_eq!(profile(&cache, "b").await, (Source::Shared, Some(json!({"v": value}))));
        }
        let health = cache.health();
        let degraded = health.store_degraded.expect("the disk is full");
        assert!(degraded.contains("no space left") && degraded.contains("/data/store"), "{degraded}");
        assert_eq!(health.store_error, None);
        stage.cut(1, true);
        stage.away(&cache).await;
        assert_eq!(profile(&cache, "a").await, (Source::Local, Some(json!({"v": "59"}))));
        let error = cache.upsert(&uid("a"), &field("v", "local")).await.expect_err("there is no room");
        assert!(matches!(&error, Error::Store(StoreError::DiskFull { .. })), "{error}");
        stage.world.disk(1).heal();
        stage.until("written", || cache.health().store_degraded.is_none()).await;
        cache.upsert(&uid("a"), &field("v", "local")).await.expect("there is room");
    });
}

#[test]
fn r4_a_ceiling_that_a_full_disk_took_in_place_holds_after_a_loss_of_power() {
    play(async |stage| {
        let cache = stage.open(1).await;
        stage.at_rest(&cache).await;
        stage.sleep(Duration::from_secs(1)).await;
        stage.world.disk(1).inject(Verb::Write, io::ErrorKind::StorageFull, u32::MAX);
        for round in 0..60 {
            stage.sleep(Duration::from_mins(1)).await;
            let written = cache.upsert(&uid("a"), &field("v", &round.to_string())).await.expect("redis takes it");
            assert_eq!(written.placement, Placement::Shared);
        }
        stage.kill(1, Stop::PowerLost, cache);
        stage.world.disk(1).heal();
        stage.world.step_clock_ms(1, -7_200_000);
        stage.cut(1, true);
        let cache = stage.open(1).await;
        cache.upsert(&uid("a"), &field("v", "mine, and later")).await.expect("the disk works");
        stage.cut(1, false);
        stage.at_rest(&cache).await;
        assert_eq!(profile(&cache, "a").await, (Source::Shared, Some(json!({"v": "mine, and later"}))));
    });
}

#[test]
fn a_log_that_there_is_no_room_to_rewrite_is_left_and_said_and_rewritten_once_there_is() {
    play(async |stage| {
        stage.cut(1, true);
        let disk = stage.world.disk(1);
        let small = Config { compact_bytes: 8_000, ..config() };
        let cache = stage.open_with(1, small).await;
        for number in 0..40 {
            cache.upsert(&uid(&format!("live {number}")), &field("v", "1")).await.expect("the disk works");
        }
        let live = disk.content(Path::new("/data/store/store.log")).expect("it is there").len() as u64;
        // Room for the log to grow, and none for another.
        disk.set_capacity(disk.used_bytes() + live * 8 / 5);
        for round in 0.. {
            if let Err(error) = cache.upsert(&uid("live 0"), &field("v", &round.to_string())).await {
                panic!("round {round}: {error}");
            }
            let files = stage.world.disk(1).content(Path::new("/data/store/store.new"));
            assert_eq!(files, None, "round {round}: begun without room");
            if cache.health().store_degraded.is_some() {
                break;
            }
        }
        assert_eq!(cache.health().rewrites, 0);
        let said = cache.health().store_degraded.expect("it is put off");
        assert!(said.contains("not rewritten") && said.contains("/data/store"), "{said}");
        disk.set_capacity(u64::MAX);
        for round in 0.. {
            cache.upsert(&uid("live 0"), &field("v", &round.to_string())).await.expect("the disk works");
            if cache.health().rewrites > 0 {
                break;
            }
            assert!(round < 1000, "never rewritten");
        }
        assert_eq!(cache.health().store_degraded, None);
    });
}

#[test]
fn a_rewriting_that_runs_out_of_room_gives_back_what_it_took() {
    play(async |stage| {
        stage.cut(1, true);
        let disk = stage.world.disk(1);
        let small = Config { compact_bytes: 8_000, ..config() };
        let cache = stage.open_with(1, small.clone()).await;
        for number in 0..40 {
            cache.upsert(&uid(&format!("live {number}")), &field("v", "1")).await.expect("the disk works");
        }
        stage.close(1, cache).await;
        let cache = stage.open_with(1, small).await;
        let mut begun = false;
        for round in 0..2000 {
            cache.upsert(&uid("live 0"), &field("v", &round.to_string())).await.expect("the disk works");
            if disk.content(Path::new("/data/store/store.new")).is_some() {
                // Others fill the volume in the middle of it.
                disk.set_capacity(disk.used_bytes());
                begun = true;
                break;
            }
        }
        assert!(begun, "never rewritten");
        stage.sleep(Duration::from_secs(1)).await;
        disk.set_capacity(u64::MAX);
        stage
            .until("it goes on", || cache.health().store_degraded.as_ref().is_none_or(|said| !said.contains("append")))
            .await;
        assert_eq!(disk.content(Path::new("/data/store/store.new")), None, "it keeps the room");
        cache.upsert(&uid("live 0"), &field("v", "last")).await.expect("the disk works");
        stage.kill(1, Stop::PowerLost, cache);
        let cache = stage.open(1).await;
        assert!(!cache.open_report().damage.is_loss(), "{:?}", cache.open_report());
        assert_eq!(profile(&cache, "live 0").await.1, Some(json!({"v": "last"})));
    });
}

#[test]
fn what_a_crash_left_of_a_rewriting_is_removed_at_opening() {
    play(async |stage| {
        stage.cut(1, true);
        let cache = stage.open(1).await;
        stage.close(1, cache).await;
        let path = Path::new("/data/store/store.new");
        let disk = {
            use contact_cache::env::{Disk as _, DiskFile as _, Env as _};
            let env = stage.world.boot(1);
            env.disk().open(path).and_then(|file| file.write_at(0, &[1; 5000])).expect("the disk works");
            stage.world.kill(1, Stop::Killed);
            stage.world.disk(1)
        };
        assert!(disk.content(path).is_some());
        let _cache = stage.open(1).await;
        assert_eq!(disk.content(path), None);
    });
}

/// On a real volume of a megabyte, whose Redis refuses connections.
#[tokio::test]
async fn a_small_volume_is_not_filled_by_the_rewriting_of_a_log() {
    let volume = match Mount::of_kib(1024) {
        Ok(volume) => volume,
        Err(why) => return not_shown(&format!("a small volume: {why}")),
    };
    let redis = "redis://127.0.0.1:1".parse().expect("a url");
    let store = volume.path().join("store");
    let small = Config { compact_bytes: 100_000, ..Config::new(redis, "p".parse().expect("a prefix"), &store) };
    let cache = ContactCache::open(TokioEnv::new(), small).await.expect("an empty directory");
    let live = "x".repeat(1_000);
    for number in 0..400 {
        cache.upsert(&uid(&number.to_string()), &field("v", &live)).await.expect("there is room");
    }
    let (mut least, mut full, mut put_off) = (u64::MAX, 0, false);
    for round in 0..600 {
        let number = round % 40;
        match cache.upsert(&uid(&number.to_string()), &field("v", &live)).await {
            Ok(_) => {
                let free = rustix::fs::statvfs(volume.path()).map(|volume| volume.f_bavail * volume.f_frsize);
                least = least.min(free.expect("it is mounted"));
            }
            Err(Error::Store(StoreError::DiskFull { .. })) if full == 3 => break,
            Err(Error::Store(StoreError::DiskFull { .. })) => full += 1,
            Err(error) => panic!("{error}"),
        }
        assert!(!store.join("store.new").exists(), "round {round}: it is begun where it does not fit");
        if let Some(said) = cache.health().store_degraded.filter(|_| full == 0) {
            // And not that it was begun and met the end of the volume.
            assert!(said.contains("of which a quarter is left alone"), "round {round}: {said}");
            put_off = true;
        }
    }
    assert!(full > 0 && put_off, "the log filled the volume by itself, with {least} bytes left at least");
    let said = cache.health().store_degraded.expect("there is no room");
    assert!(said.contains(store.to_str().expect("a path in UTF-8")), "{said}");
    assert_eq!(cache.get(&uid("7")).await.expect("reads go on").source, Source::Local);
    cache.close().await.expect_err("not all of it could be written");
    let again = Config::new("redis://127.0.0.1:1".parse().expect("a url"), "p".parse().expect("a prefix"), &store);
    match ContactCache::open(TokioEnv::new(), again).await {
        Ok(cache) => assert!(!cache.open_report().damage.is_loss(), "{:?}", cache.open_report()),
        Err(OpenError::Store(StoreError::DiskFull { .. })) => {}
        Err(error) => panic!("{error}"),
    }
}
