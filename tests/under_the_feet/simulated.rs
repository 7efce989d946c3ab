//! The simulated file system, with Redis: what goes on without the disk, and what does not.

use std::{path::Path, time::Duration};

use contact_cache::{Error, Placement, Source, State, error::StoreError};
use seedbed_contact::{history::Stop, world::disk::Disk};
use serde_json::json;

use crate::stage::{Cache, DIRECTORY, Stage, field, play, profile, uid};

const LOG: &str = "/data/store/store.log";
const MOVED: &str = "/data/moved";

#[track_caller]
fn is_displaced(error: &Error) {
    assert!(
        matches!(error, Error::Store(StoreError::Displaced { dir, .. }) if dir == Path::new(DIRECTORY)),
        "{error:?}"
    );
}

fn without_directory(disk: &Disk) {
    disk.remove(Path::new(DIRECTORY));
}

fn without_log(disk: &Disk) {
    disk.remove(Path::new(LOG));
}

fn moved(disk: &Disk) {
    disk.rename(Path::new(DIRECTORY), Path::new(MOVED));
}

fn swapped(disk: &Disk) {
    disk.copy(Path::new(DIRECTORY), Path::new("/data/copy"));
    moved(disk);
    disk.rename(Path::new("/data/copy"), Path::new(DIRECTORY));
}

#[test]
fn a_store_that_is_taken_away_ends_and_what_redis_answers_goes_on_for_an_hour() {
    for change in [without_directory, without_log, moved, swapped] {
        play(async move |stage| {
            let cache = stage.open(1).await;
            stage.at_rest(&cache).await;
            cache.upsert(&uid("a"), &field("v", "before")).await.expect("redis is there");
            stage.cut(1, true);
            stage.away(&cache).await;
            cache.upsert(&uid("owed"), &field("v", "1")).await.expect("the disk works");
            change(&stage.world.disk(1));
            is_displaced(&cache.upsert(&uid("b"), &field("v", "1")).await.expect_err("nobody would find it"));
            is_displaced(&cache.get(&uid("a")).await.expect_err("what is held is not what was last held"));
            assert!(cache.health().store_error.is_some_and(|said| said.contains(DIRECTORY)));

            stage.cut(1, false);
            works_without_its_disk(&stage, &cache).await;
            // What was acknowledged before is merged: the file is open yet.
            assert_eq!(stage.stored_profile("owed").get("v").map(String::as_str), Some("1"));
            is_displaced(&cache.close().await.expect_err("the store is gone"));
        });
    }
}

/// For longer than the ceiling of the clock was raised ahead (R4).
async fn works_without_its_disk(stage: &Stage, cache: &Cache) {
    stage.until("connected", || matches!(cache.health().state, State::Connected | State::Recovering)).await;
    for round in 0..60 {
        stage.sleep(Duration::from_mins(1)).await;
        let value = round.to_string();
        let written = cache.upsert(&uid("a"), &field("v", &value)).await.expect("redis takes it");
        assert_eq!(written.placement, Placement::Shared);
        assert_eq!(profile(cache, "a").await, (Source::Shared, Some(json!({"v": value}))));
    }
}

#[test]
fn a_flush_of_redis_is_survived_by_an_instance_whose_store_was_taken_away() {
    play(async |stage| {
        let cache = stage.open(1).await;
        stage.at_rest(&cache).await;
        cache.upsert(&uid("a"), &field("v", "before")).await.expect("redis is there");
        stage.sleep(Duration::from_secs(1)).await;
        stage.world.disk(1).remove(Path::new(DIRECTORY));
        cache.upsert(&uid("b"), &field("v", "1")).await.expect("redis is there");
        stage.until("noticed", || cache.health().store_error.is_some()).await;
        stage.command(&["FLUSHALL"]);
        stage.sleep(Duration::from_secs(10)).await;
        for value in ["1", "2"] {
            let written = cache.upsert(&uid("c"), &field("v", value)).await.expect("redis takes it");
            assert_eq!(written.placement, Placement::Shared);
            assert_eq!(profile(&cache, "c").await, (Source::Shared, Some(json!({"v": value}))));
            assert_eq!(profile(&cache, "c").await, (Source::Shared, Some(json!({"v": value}))));
        }
    });
}

#[test]
fn r4_stamps_of_an_instance_whose_directory_was_away_are_above_those_before_when_it_is_back() {
    play(async |stage| {
        let cache = stage.open(1).await;
        stage.at_rest(&cache).await;
        cache.upsert(&uid("a"), &field("v", "0")).await.expect("redis is there");
        stage.sleep(Duration::from_secs(1)).await;
        moved(&stage.world.disk(1));
        works_without_its_disk(&stage, &cache).await;
        stage.kill(1, Stop::PowerLost, cache);
        stage.world.disk(1).rename(Path::new(MOVED), Path::new(DIRECTORY));
        // Its clock is behind by more than it was away: without the ceiling its next write would be below its last.
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
fn a_log_that_vanished_between_two_openings_is_missed_and_one_that_was_never_there_is_not() {
    play(async |stage| {
        stage.cut(1, true);
        let cache = stage.open(1).await;
        assert!(cache.open_report().clean_end && !cache.open_report().lost_log);
        cache.upsert(&uid("a"), &field("v", "1")).await.expect("the disk works");
        stage.close(1, cache).await;
        stage.world.disk(1).remove(Path::new(LOG));
        let cache = stage.open(1).await;
        let report = cache.open_report().clone();
        assert!(report.lost_log && !report.clean_end && !report.is_whole, "{report:?}");
        stage.close(1, cache).await;
    });
}

#[test]
fn a_log_that_is_cut_under_the_process_is_damaged_at_the_next_opening() {
    play(async |stage| {
        stage.cut(1, true);
        let cache = stage.open(1).await;
        cache.upsert(&uid("a"), &field("v", "1")).await.expect("the disk works");
        let len = stage.world.disk(1).content(Path::new(LOG)).expect("it is there").len();
        cache.upsert(&uid("b"), &field("v", "1")).await.expect("the disk works");
        stage.kill(1, Stop::Killed, cache);
        stage.world.disk(1).cut(Path::new(LOG), len);
        let cache = stage.open(1).await;
        assert!(cache.open_report().damage.is_loss(), "{:?}", cache.open_report());
        assert_eq!(profile(&cache, "a").await.1, Some(json!({"v": "1"})));
    });
}

#[test]
fn no_loss_of_power_makes_a_store_look_cut_or_vanished() {
    for seed in 0..200 {
        crate::stage::play_seed(seed, async move |stage| {
            stage.cut(1, true);
            for round in 0..4 {
                let cache =
                    stage.open_with(1, contact_cache::Config { compact_bytes: 2_000, ..crate::stage::config() }).await;
                let report = cache.open_report();
                assert!(!report.lost_log && !report.is_copy && !report.damage.is_loss(), "round {round}: {report:?}");
                for number in 0..20 {
                    cache.upsert(&uid("a"), &field("v", &number.to_string())).await.expect("the disk works");
                }
                stage.kill(1, Stop::PowerLost, cache);
            }
        });
    }
}
