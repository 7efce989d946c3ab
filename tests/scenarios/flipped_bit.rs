//! A bit of a reply flips on its way, and no checksum notices: a stamp of today becomes one of the year 2583.
//!
//! Seen in a trial: the instance that read it moved its clock there, its next write carried the stamp into Redis, and every
//! instance followed, for good. Every kind of reply that shows stamps is damaged once here.

use std::time::Duration;

use contact_cache::{Config, Freshness, Placement, Source, Stamp};
use serde_json::json;

use crate::stage::{Cache, Stage, config, field, play, profile, uid};

/// The lowest bit of the first digit of a stamp: 2^44 ms, 557 years.
const BIT: u8 = 0;
const HOUR_MS: u64 = 60 * 60 * 1000;

/// Two instances at rest, and the stamp of a record that the second one wrote.
async fn begun(stage: &Stage) -> (Cache, Cache, Stamp) {
    let (cache, other) = (stage.open(1).await, stage.open(2).await);
    stage.at_rest(&cache).await;
    stage.at_rest(&other).await;
    let written = other.upsert(&uid("u"), &field("v", "before")).await.expect("redis");
    assert_eq!(written.placement, Placement::Shared);
    (cache, other, written.stamp)
}

/// Nobody's clock has moved, nothing of the damage is kept, and both see the same.
async fn assert_unmoved(stage: &Stage, cache: &Cache, other: &Cache, value: &str) {
    assert!(!stage.redis.is_to_flip(), "no reply was damaged");
    stage.at_rest(cache).await;
    for cache in [cache, other] {
        assert_eq!(cache.health().future_stamps, 0, "{:?}", cache.health());
        assert_eq!(profile(cache, "u").await, (Source::Shared, Some(json!({"v": value}))));
        let written = cache.upsert(&uid("w"), &field("v", "after")).await.expect("redis");
        let now_ms = stage.world.wall_ms(1);
        assert!(written.stamp.millis() < now_ms + HOUR_MS, "{} is 557 years ahead", written.stamp);
    }
    for (field, cell) in stage.stored("u") {
        assert!(!cell.starts_with('1'), "{field} has the stamp {cell}");
    }
}

#[test]
fn a_damaged_read_moves_no_clock() {
    play(async |stage| {
        let (cache, other, stamp) = begun(&stage).await;
        stage.redis.flip_once(&stamp.to_string(), BIT);
        assert_eq!(profile(&cache, "u").await, (Source::Shared, Some(json!({"v": "before"}))));
        assert_unmoved(&stage, &cache, &other, "before").await;
    });
}

#[test]
fn a_damaged_read_of_many_moves_no_clock() {
    play(async |stage| {
        let (cache, other, stamp) = begun(&stage).await;
        stage.redis.flip_once(&stamp.to_string(), BIT);
        let read = cache.get_many(&[uid("u"), uid("x")].into(), Freshness::Any).await.expect("redis");
        let read = read[&uid("u")].as_ref().expect("redis");
        assert_eq!(read.source, Source::Shared);
        assert_unmoved(&stage, &cache, &other, "before").await;
    });
}

#[test]
fn a_damaged_list_moves_no_clock() {
    play(async |stage| {
        let (cache, other, stamp) = begun(&stage).await;
        stage.redis.flip_once(&stamp.to_string(), BIT);
        let listing = cache.list().await.expect("redis");
        assert_eq!((listing.source, listing.uids), (Source::Shared, [uid("u")].into()));
        assert_unmoved(&stage, &cache, &other, "before").await;
    });
}

#[test]
fn a_damaged_conflict_moves_no_clock() {
    play(async |stage| {
        // Its clock is behind, so that what the other one wrote is in its way.
        stage.world.set_offset_ms(1, -1_000_000);
        let (cache, other, stamp) = begun(&stage).await;
        stage.redis.flip_once(&stamp.to_string(), BIT);
        let written = cache.upsert(&uid("u"), &field("v", "mine")).await.expect("redis");
        assert_eq!(written.placement, Placement::Shared);
        assert!(written.stamp > stamp);
        assert_unmoved(&stage, &cache, &other, "mine").await;
    });
}

#[test]
fn a_damaged_answer_to_a_merge_moves_no_clock() {
    play(async |stage| {
        // Written without Redis and with a clock that is behind: the merge is told what wins over it.
        stage.world.set_offset_ms(1, -1_000_000);
        stage.cut(1, true);
        let quick = Config { backoff_first: Duration::from_millis(50), ..config() };
        let cache = stage.open_with(1, quick).await;
        let kept = cache.upsert(&uid("u"), &field("v", "mine")).await.expect("the disk works");
        assert_eq!(kept.placement, Placement::Local);
        let other = stage.open(2).await;
        let written = other.upsert(&uid("u"), &field("v", "theirs")).await.expect("redis");
        stage.redis.flip_once(&written.stamp.to_string(), BIT);
        stage.cut(1, false);
        stage.at_rest(&cache).await;
        assert_unmoved(&stage, &cache, &other, "theirs").await;
    });
}

/// One bit of the answer to TIME makes it 1991 or 2273. What was written before the first contact is corrected by that answer.
#[test]
fn a_damaged_clock_ends_no_record() {
    for bit in [0, 3] {
        play(async move |stage| {
            let expiring = Config { record_ttl: Some(Duration::from_mins(1)), ..config() };
            let other = stage.open_with(2, expiring.clone()).await;
            other.upsert(&uid("x"), &field("v", "theirs")).await.expect("redis");
            other.close().await.expect("the disk works");
            stage.cut(1, true);
            let cache = stage.open_with(1, expiring.clone()).await;
            let kept = cache.upsert(&uid("u"), &field("v", "mine")).await.expect("the disk works");
            assert_eq!(kept.placement, Placement::Local);
            let seconds = (stage.world.wall_ms(1) / 1000).to_string();
            stage.redis.flip_once(&seconds[..6], bit);
            stage.cut(1, false);
            stage.at_rest(&cache).await;
            assert!(!stage.redis.is_to_flip(), "no reply was damaged");
            assert_eq!(profile(&cache, "u").await, (Source::Shared, Some(json!({"v": "mine"}))));
            assert_eq!(profile(&cache, "x").await, (Source::Shared, Some(json!({"v": "theirs"}))));
            // And later, by a probe.
            stage.redis.flip_once(&seconds[..6], bit);
            stage.until("a probe", || !stage.redis.is_to_flip()).await;
            stage.sleep(Duration::from_millis(20)).await;
            stage.cut(1, true);
            stage.away(&cache).await;
            assert_eq!(profile(&cache, "x").await, (Source::Local, Some(json!({"v": "theirs"}))));
            let other = stage.open_with(3, expiring).await;
            stage.at_rest(&other).await;
            assert_eq!(profile(&other, "u").await, (Source::Shared, Some(json!({"v": "mine"}))));
        });
    }
}

/// What two replies show is so: the clock of an instance is wrong, and its writes count like any other (R4).
#[test]
fn a_stamp_of_the_far_future_that_is_there_is_believed() {
    play(async |stage| {
        stage.world.set_offset_ms(2, 1 << 44);
        let (cache, other, stamp) = begun(&stage).await;
        assert!(stamp.millis() > stage.world.wall_ms(1) + HOUR_MS);
        assert_eq!(profile(&cache, "u").await, (Source::Shared, Some(json!({"v": "before"}))));
        assert_eq!(cache.health().future_stamps, 1);
        let written = cache.upsert(&uid("u"), &field("v", "after")).await.expect("redis");
        assert!(written.placement == Placement::Shared && written.stamp > stamp);
        assert_eq!(profile(&other, "u").await, (Source::Shared, Some(json!({"v": "after"}))));
    });
}
