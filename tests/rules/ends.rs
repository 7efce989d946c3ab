//! A record lives as long as Redis has told, a removal as long as the settings say, and both tiers know of it. The key in Redis
//! lives as long as what it holds.

use std::time::Duration;

use contact_cache::{Config, Placement, Source};
use seedbed_contact::redis_host::REDIS;
use serde_json::json;

use crate::stage::{Cache, Stage, config, field, play, profile, uid};

const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);

fn living(record_ttl: Option<Duration>, tombstone_ttl: Duration) -> Config {
    Config { record_ttl, tombstone_ttl, republish_window: Duration::from_secs(10), ..config() }
}

/// For how long Redis keeps the key; none for ever.
fn kept_for(stage: &Stage, name: &str) -> Option<Duration> {
    let reply = stage.command(&["PTTL", &format!("cc1:p:{name}")]);
    let ms: i64 = reply.trim_start_matches(':').trim_end().parse().expect("a number");
    assert!(ms >= -1, "there is no such key");
    u64::try_from(ms).ok().map(Duration::from_millis)
}

/// When the record ends, by Redis's clock.
fn end_ms(stage: &Stage, name: &str) -> u64 {
    let existence = stage.stored(name)["e"].clone();
    u64::from_str_radix(&existence[existence.len() - 12..], 16).expect("a time")
}

/// Waits until that moment of Redis's clock.
async fn until_redis_says(stage: &Stage, at_ms: u64) {
    let left_ms = at_ms.checked_sub(stage.world.wall_ms(REDIS)).expect("it is still to come");
    stage.sleep(Duration::from_millis(left_ms)).await;
}

/// Without Redis, the record is shown until the end that Redis has told, and no longer.
async fn check_end(stage: &Stage, cache: &Cache, end_ms: u64) {
    stage.cut(1, true);
    stage.away(cache).await;
    until_redis_says(stage, end_ms - 1500).await;
    let (source, record) = profile(cache, "u").await;
    assert!(source == Source::Local && record.is_some(), "it has ended too early");
    assert_eq!(cache.list().await.expect("the disk works").uids, [uid("u")].into());
    until_redis_says(stage, end_ms + 1500).await;
    assert_eq!(profile(cache, "u").await, (Source::Local, None), "it has ended");
    assert!(cache.list().await.expect("the disk works").uids.is_empty());
}

#[test]
fn a_key_lives_as_long_as_its_record_and_as_long_as_removals_are_remembered() {
    for (record_ttl, tombstone_ttl) in [(None, HOUR), (Some(MINUTE), HOUR), (Some(HOUR), MINUTE), (None, MINUTE)] {
        play(async move |stage| {
            let cache = stage.open_with(1, living(record_ttl, tombstone_ttl)).await;
            stage.at_rest(&cache).await;
            let is_about = |kept: Option<Duration>, least: Duration, most: Duration| {
                let kept = kept.expect("it has an end");
                assert!(kept + Duration::from_secs(1) >= least && kept <= most, "{kept:?}, not {least:?} to {most:?}");
            };
            let check_record = |name: &str| match record_ttl {
                None => assert_eq!(kept_for(&stage, name), None),
                // Up to a tenth less, so that not all expire together; never less than a removal is remembered.
                Some(ttl) => {
                    is_about(kept_for(&stage, name), (ttl / 10 * 9).max(tombstone_ttl), ttl.max(tombstone_ttl));
                }
            };
            let check_removal = |name: &str| is_about(kept_for(&stage, name), tombstone_ttl, tombstone_ttl);
            for away in [false, true] {
                let name = if away { "away" } else { "there" };
                stage.cut(1, away);
                if away {
                    stage.away(&cache).await;
                }
                cache.upsert(&uid(name), &field("v", "1")).await.expect("one of the tiers");
                stage.cut(1, false);
                stage.at_rest(&cache).await;
                if !away {
                    check_record(name);
                }
                cache.upsert(&uid(name), &field("w", "1")).await.expect("redis");
                check_record(name);
                cache.remove(&uid(name)).await.expect("redis");
                check_removal(name);
                stage.sleep(Duration::from_secs(20)).await;
                assert_eq!(profile(&cache, name).await, (Source::Shared, None));
                let left = tombstone_ttl.saturating_sub(Duration::from_secs(20));
                is_about(kept_for(&stage, name), left, left);
                // Removed again, it is remembered anew; written again, it lives as before.
                cache.remove(&uid(name)).await.expect("redis");
                check_removal(name);
                cache.upsert(&uid(name), &field("v", "2")).await.expect("redis");
                check_record(name);
            }
        });
    }
}

#[test]
fn a_removal_is_remembered_for_its_time_though_the_record_written_since_has_ended() {
    play(async |stage| {
        let (late, other) =
            (stage.open_with(1, living(None, HOUR)).await, stage.open_with(2, living(Some(MINUTE), HOUR)).await);
        stage.at_rest(&late).await;
        stage.at_rest(&other).await;
        other.upsert(&uid("u"), &field("v", "1")).await.expect("redis");
        stage.cut(1, true);
        stage.away(&late).await;
        late.upsert(&uid("u"), &field("late", "1")).await.expect("the disk works");
        stage.sleep(Duration::from_secs(5)).await;
        other.remove(&uid("u")).await.expect("redis");
        other.upsert(&uid("u"), &field("v", "2")).await.expect("redis");
        stage.sleep(10 * MINUTE).await;
        assert_eq!(profile(&other, "u").await, (Source::Shared, None), "it has ended");
        stage.cut(1, false);
        stage.at_rest(&late).await;
        for cache in [&late, &other] {
            assert_eq!(profile(cache, "u").await.1, None, "it was removed after it was written");
        }
    });
}

#[test]
fn whoever_has_read_a_record_knows_its_end() {
    play(async |stage| {
        let (cache, other) = (stage.open(1).await, stage.open_with(2, living(Some(5 * MINUTE), HOUR)).await);
        stage.at_rest(&cache).await;
        stage.at_rest(&other).await;
        other.upsert(&uid("u"), &field("v", "1")).await.expect("redis");
        assert_eq!(profile(&cache, "u").await.0, Source::Shared);
        check_end(&stage, &cache, end_ms(&stage, "u")).await;
    });
}

/// Its own wish was another: Redis knows of more, or its clock is another than was thought.
#[test]
fn whoever_writes_to_a_record_keeps_the_end_that_redis_told() {
    for (theirs, own) in [(10 * MINUTE, 2 * MINUTE), (2 * MINUTE, 10 * MINUTE)] {
        for replayed in [false, true] {
            play(async move |stage| {
                let other = stage.open_with(2, living(Some(theirs), HOUR)).await;
                let cache = stage.open_with(1, living(Some(own), HOUR)).await;
                stage.at_rest(&cache).await;
                stage.at_rest(&other).await;
                other.upsert(&uid("u"), &field("v", "1")).await.expect("redis");
                if replayed {
                    stage.cut(1, true);
                    stage.away(&cache).await;
                }
                let written = cache.upsert(&uid("u"), &field("w", "1")).await.expect("one of the tiers");
                assert_eq!(written.placement == Placement::Local, replayed);
                stage.cut(1, false);
                stage.at_rest(&cache).await;
                let left = Duration::from_millis(end_ms(&stage, "u") - stage.world.wall_ms(REDIS));
                assert!(left + Duration::from_secs(30) > theirs.max(own) / 10 * 9 && left <= theirs.max(own));
                check_end(&stage, &cache, end_ms(&stage, "u")).await;
            });
        }
    }
}

#[test]
fn a_clock_that_was_wrong_when_it_wrote_is_told_the_end_as_redis_has_it() {
    for offset_ms in [-900_000, 900_000] {
        play(async move |stage| {
            stage.world.set_offset_ms(1, offset_ms);
            stage.cut(1, true);
            let cache = stage.open_with(1, living(Some(10 * MINUTE), HOUR)).await;
            cache.upsert(&uid("u"), &field("v", "1")).await.expect("the disk works");
            stage.cut(1, false);
            stage.at_rest(&cache).await;
            check_end(&stage, &cache, end_ms(&stage, "u")).await;
        });
    }
}

/// Redis's clock is asked at each probe, and not at the contact alone.
#[test]
fn a_clock_of_redis_that_is_set_or_drifts_is_followed() {
    for (step_ms, drift_ppm) in [(240_000, 0), (-240_000, 0), (0, 20_000), (0, -20_000)] {
        play(async move |stage| {
            let cache = stage.open_with(1, living(Some(20 * MINUTE), HOUR)).await;
            stage.at_rest(&cache).await;
            cache.upsert(&uid("u"), &field("v", "1")).await.expect("redis");
            stage.world.set_drift_ppm(1, drift_ppm);
            stage.world.step_clock_ms(REDIS, step_ms);
            stage.sleep(10 * MINUTE).await;
            stage.world.set_drift_ppm(1, 0);
            let health = cache.health();
            assert_eq!((health.connections, profile(&cache, "u").await.0), (1, Source::Shared));
            check_end(&stage, &cache, end_ms(&stage, "u")).await;
        });
    }
}

#[test]
fn an_ended_record_shows_none_of_its_cells_under_the_next_write() {
    for away in [false, true] {
        play(async move |stage| {
            let settings = living(Some(MINUTE), HOUR);
            let (cache, other) = (stage.open_with(1, settings.clone()).await, stage.open_with(2, settings).await);
            stage.at_rest(&cache).await;
            stage.at_rest(&other).await;
            for name in ["old", "last"] {
                cache.upsert(&uid("u"), &field(name, "1")).await.expect("redis");
            }
            if away {
                stage.cut(1, true);
                stage.away(&cache).await;
            }
            stage.sleep(2 * MINUTE).await;
            cache.upsert(&uid("u"), &field("new", "1")).await.expect("one of the tiers");
            let new = Some(json!({"new": "1"}));
            assert_eq!(profile(&cache, "u").await.1, new);
            stage.cut(1, false);
            stage.at_rest(&cache).await;
            for cache in [&cache, &other] {
                assert_eq!(profile(cache, "u").await, (Source::Shared, new.clone()));
            }
        });
    }
}

/// No probe has asked for Redis's clock since it was set back. The answer to the first write shows it: a copy of its life would pass for one
/// that is over, and not for one that Redis lost.
#[test]
fn what_redis_loses_just_after_its_clock_was_set_back_is_published_again() {
    play(async move |stage| {
        let cache = stage.open_with(1, living(Some(MINUTE), HOUR)).await;
        stage.at_rest(&cache).await;
        stage.world.step_clock_ms(REDIS, 900_000);
        // Probes ask each second.
        stage.sleep(Duration::from_millis(2500)).await;
        stage.world.step_clock_ms(REDIS, -900_000);
        for name in ["title", "role"] {
            let written = cache.upsert(&uid("u"), &field(name, "it")).await.expect("redis");
            assert_eq!(written.placement, Placement::Shared);
            if name == "title" {
                stage.command(&["DEL", "cc1:p:u"]);
                // The next life begins later than this one.
                stage.sleep(Duration::from_millis(50)).await;
            }
        }
        let (_, record) = profile(&cache, "u").await;
        assert_eq!(record, Some(json!({"title": "it", "role": "it"})));
        stage.sleep(Duration::from_secs(3)).await;
        assert_eq!(stage.stored_profile("u").len(), 2);
    });
}
