//! Two hosts and one store: a volume that both have mounted, where neither sees the other's lock; and a copy of the directory that
//! runs beside its original. In the simulated world, since one host's kernel knows all of its locks.

use std::{collections::BTreeMap, path::Path, time::Duration};

use contact_cache::{
    Config, Error, Placement, Source,
    env::{Disk as _, DiskFile as _, Env as _},
    error::StoreError,
};
use rand::RngExt;
use seedbed_contact::history::Stop;
use serde_json::json;

use crate::stage::{Cache, DIRECTORY, Stage, config, field, play, play_seed, profile, uid};

const LOG: &str = "/data/store/store.log";

/// The host that opens the store first, and the one that opens it beside it.
const FIRST: u32 = 1;
const SECOND: u32 = 2;

#[track_caller]
fn is_taken(error: &Error) {
    assert!(matches!(error, Error::Store(StoreError::Taken { dir, .. }) if dir == Path::new(DIRECTORY)), "{error:?}");
}

async fn write(cache: &Cache, name: &str, value: &str) -> Result<Placement, Error> {
    Ok(cache.upsert(&uid(name), &field("v", value)).await?.placement)
}

/// A stage on which both hosts have the first one's volume, without Redis.
fn share(stage: &Stage) {
    stage.world.mount(SECOND, stage.world.disk(FIRST));
    stage.cut(FIRST, true);
    stage.cut(SECOND, true);
}

/// Both hosts with the store open, the second later than the write of the first.
async fn opened_by_both(stage: &Stage) -> [Cache; 2] {
    share(stage);
    let first = stage.open(FIRST).await;
    write(&first, "a", "first").await.expect("the disk works");
    [first, stage.open(SECOND).await]
}

#[test]
fn a_store_that_a_second_host_opens_is_its_own_and_the_first_host_notices_at_its_next_sync() {
    play(async |stage| {
        let [first, second] = opened_by_both(&stage).await;
        assert!(!second.open_report().is_copy && !second.open_report().damage.is_loss());
        assert_eq!(profile(&second, "a").await, (Source::Local, Some(json!({"v": "first"}))));
        write(&second, "b", "second").await.expect("the disk works");
        is_taken(&write(&first, "c", "first, too late").await.expect_err("it would be written over"));
        is_taken(&first.get(&uid("a")).await.expect_err("it may have changed"));
        let said = first.health().store_error.expect("the store has ended");
        assert!(said.contains(DIRECTORY) && said.contains("another process"), "{said}");
        is_taken(&first.close().await.expect_err("it is not the store's last word"));

        write(&second, "d", "second").await.expect("it is alone");
        stage.close(SECOND, second).await;
        stage.world.kill(FIRST, Stop::Killed);
        let again = stage.open(FIRST).await;
        let report = again.open_report();
        assert!(report.clean_end && report.is_whole && !report.damage.is_loss(), "{report:?}");
        for (name, value) in [("a", "first"), ("b", "second"), ("d", "second")] {
            assert_eq!(profile(&again, name).await.1, Some(json!({"v": value})), "{name}");
        }
        // The sender was told that it is not in the store, and merges it as long as it lives.
        assert_eq!(profile(&again, "c").await.1, None);
    });
}

#[test]
fn an_instance_whose_store_a_second_host_opened_closes_with_an_error_although_it_wrote_nothing_since() {
    play(async |stage| {
        let [first, second] = opened_by_both(&stage).await;
        is_taken(&first.close().await.expect_err("another process goes on in it"));
        write(&second, "b", "second").await.expect("it is alone");
        stage.close(SECOND, second).await;
    });
}

#[test]
fn what_an_instance_owes_is_merged_and_what_redis_answers_goes_on_after_a_second_host_opened_its_store() {
    play(async |stage| {
        share(&stage);
        let first = stage.open(FIRST).await;
        stage.away(&first).await;
        write(&first, "owed", "first").await.expect("the disk works");
        let second = stage.open(SECOND).await;
        is_taken(&write(&first, "a", "first").await.expect_err("it would be written over"));
        stage.cut(FIRST, false);
        stage.until("connected", || stage.stored_profile("owed").contains_key("v")).await;
        for round in 0..60 {
            stage.sleep(Duration::from_mins(1)).await;
            let value = round.to_string();
            assert_eq!(write(&first, "a", &value).await.expect("redis takes it"), Placement::Shared);
            assert_eq!(profile(&first, "a").await, (Source::Shared, Some(json!({"v": value}))));
        }
        // The same write, under the same stamp, of both.
        stage.cut(SECOND, false);
        stage.at_rest(&second).await;
        assert_eq!(profile(&second, "owed").await, (Source::Shared, Some(json!({"v": "first"}))));
        assert_eq!(profile(&second, "a").await, (Source::Shared, Some(json!({"v": "59"}))));
    });
}

/// Small enough that logs are rewritten again and again.
fn rewriting() -> Config {
    Config { compact_bytes: 2_000, ..config() }
}

#[test]
fn of_two_hosts_that_take_turns_none_loses_a_write_that_it_acknowledged() {
    for seed in 0..200 {
        play_seed(seed, async move |stage| {
            share(&stage);
            let mut draw = stage.seed.stream("turns");
            let mut hosts = BTreeMap::<u32, Cache>::new();
            let (mut acknowledged, mut taken) = (BTreeMap::new(), 0);
            for turn in 0..60 {
                let host = if draw.random() { FIRST } else { SECOND };
                let Some(cache) = hosts.get(&host) else {
                    let cache = stage.open_with(host, rewriting()).await;
                    let report = cache.open_report();
                    assert!(!report.damage.is_loss() && !report.lost_log && !report.is_copy, "turn {turn}: {report:?}");
                    hosts.insert(host, cache);
                    continue;
                };
                for _ in 0..draw.random_range(1..20) {
                    let name = format!("{}", draw.random_range(0..6));
                    let value = format!("{turn} of {host}{}", "x".repeat(draw.random_range(0..200)));
                    match write(cache, &name, &value).await {
                        Ok(_) => drop(acknowledged.insert(name, value)),
                        Err(error) => {
                            is_taken(&error);
                            taken += 1;
                            break;
                        }
                    }
                }
                if cache.health().store_error.is_some() || draw.random_bool(0.2) {
                    stage.kill(host, Stop::Killed, hosts.remove(&host).expect("it is there"));
                }
            }
            assert!(taken > 0, "no host met the other");
            for (host, cache) in hosts {
                stage.kill(host, Stop::Killed, cache);
            }
            let last = stage.open(FIRST).await;
            let report = last.open_report();
            assert!(!report.damage.is_loss(), "{report:?}");
            for (name, value) in acknowledged {
                assert_eq!(profile(&last, &name).await.1, Some(json!({"v": value})), "{name}");
            }
        });
    }
}

#[test]
fn bytes_of_another_behind_the_log_are_noticed_at_the_next_sync_and_stay() {
    play(async |stage| {
        share(&stage);
        let first = stage.open(FIRST).await;
        write(&first, "a", "1").await.expect("the disk works");
        // As a client does that leaves no word in the lock file.
        let log = stage.world.boot(SECOND).disk().open(Path::new(LOG)).expect("it is there");
        let end = log.len().expect("the disk works");
        log.write_at(end, b"another's").expect("the disk works");
        log.sync().expect("the disk works");
        is_taken(&write(&first, "b", "1").await.expect_err("it would be written over"));
        let content = stage.world.disk(FIRST).content(Path::new(LOG)).expect("it is there");
        assert!(content.ends_with(b"another's"));
    });
}

#[test]
fn a_copy_that_runs_beside_its_original_loses_nothing_and_doubles_nothing() {
    for whole_volume in [false, true] {
        for seed in 0..50 {
            play_seed(seed, async move |stage| {
                beside_its_original(&stage, whole_volume).await;
            });
        }
    }
}

async fn beside_its_original(stage: &Stage, whole_volume: bool) {
    let original = stage.open(FIRST).await;
    stage.at_rest(&original).await;
    write(&original, "shared", "1").await.expect("redis is there");
    stage.cut(FIRST, true);
    stage.cut(SECOND, true);
    stage.away(&original).await;
    for name in ["owed", "again"] {
        assert_eq!(write(&original, name, "original").await.expect("the disk works"), Placement::Local);
    }
    let directory = Path::new(DIRECTORY);
    stage.world.disk(SECOND).copy_from(&stage.world.disk(FIRST), directory, directory, whole_volume);
    let copy = stage.open(SECOND).await;
    // A volume's files have the numbers that they had.
    let report = copy.open_report();
    assert!(report.is_copy != whole_volume && !report.clean_end && !report.damage.is_loss(), "{report:?}");
    assert_eq!(profile(&copy, "owed").await, (Source::Local, Some(json!({"v": "original"}))));
    // From one state both go on, and neither stamp is the other's.
    write(&original, "again", "of the original").await.expect("the disk works");
    write(&copy, "again", "of the copy, later").await.expect("the disk works");
    write(&copy, "new", "of the copy").await.expect("the disk works");
    write(&original, "owed", "of the original, later").await.expect("the disk works");
    stage.cut(SECOND, false);
    stage.at_rest(&copy).await;
    stage.cut(FIRST, false);
    stage.at_rest(&original).await;
    for cache in [&original, &copy] {
        for (name, value) in [
            ("shared", "1"),
            ("again", "of the copy, later"),
            ("new", "of the copy"),
            ("owed", "of the original, later"),
        ] {
            assert_eq!(profile(cache, name).await, (Source::Shared, Some(json!({"v": value}))), "{name}");
        }
    }
    stage.close(FIRST, original).await;
    stage.close(SECOND, copy).await;
}
