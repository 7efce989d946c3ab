//! The protocol rules R1 to R10 (ARCHITECTURE.md), each as a directed scenario: the interleaving that breaks a client
//! without the rule, played on purpose. Each was seen failing with its rule taken out of the client, but for one half of
//! R6: that a success from an older generation counts for nothing. Replies come in the order of requests, so the one that
//! tells of the loss is always behind; the client does not rely on it.

mod stage;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use contact_cache::{Config, Freshness, Patch, Placement, Read, Source, State};
use seedbed_contact::{faults::Refusal, history::Stop, redis_host::REDIS};
use serde_json::json;
use stage::{Cache, Stage, config, field, play, play_seed, profile, uid};

const QUARTER_MS: i64 = 15 * 60 * 1000;

/// Copies stay in memory: a crash forgets them.
fn lazy() -> Config {
    Config { flush_interval: Duration::from_hours(1), ..config() }
}

/// Removals are soon forgotten.
fn forgetful() -> Config {
    Config { tombstone_ttl: Duration::from_mins(1), republish_window: Duration::from_secs(10), ..config() }
}

fn refuse_writes(stage: &Stage, refuse: bool) {
    stage.redis.with_engine(|engine| engine.refuse(refuse.then_some(Refusal::OutOfMemory)));
}

#[test]
fn r1_r2_a_read_shows_what_is_pending_and_does_not_call_it_shared() {
    play(async |stage| {
        let (cache, other) = (stage.open(1).await, stage.open(2).await);
        stage.at_rest(&cache).await;
        other.upsert(&uid("u"), &field("theirs", "1")).await.expect("redis");
        refuse_writes(&stage, true);
        cache.upsert(&uid("u"), &field("mine", "1")).await.expect("the disk works");
        assert_eq!(profile(&cache, "u").await, (Source::Merged, Some(json!({"mine": "1", "theirs": "1"}))));
        assert_eq!(cache.list().await.expect("redis").uids, [uid("u")].into());
        assert_eq!(profile(&other, "u").await, (Source::Shared, Some(json!({"theirs": "1"}))));
        refuse_writes(&stage, false);
        stage.at_rest(&cache).await;
        assert_eq!(profile(&cache, "u").await, (Source::Shared, Some(json!({"mine": "1", "theirs": "1"}))));
    });
}

#[test]
fn a_copy_has_all_of_an_upsert_that_won_over_a_part_of_a_pending_one() {
    play(async |stage| {
        let (cache, other) = (stage.open(1).await, stage.open(2).await);
        stage.at_rest(&cache).await;
        stage.cut(1, true);
        cache.upsert(&uid("u"), &field("theirs", "mine, earlier")).await.expect("the disk works");
        let both = Patch { metadata: field("with", "it").profile, ..field("theirs", "1") };
        other.upsert(&uid("u"), &both).await.expect("redis");
        stage.cut(1, false);
        stage.at_rest(&cache).await;
        stage.cut(1, true);
        let read = cache.get(&uid("u")).await.expect("a copy is held");
        let record = read.record.expect("it was written");
        assert_eq!((read.source, &record.profile["theirs"]), (Source::Local, &json!("1")));
        assert_eq!(record.metadata.get("with"), Some(&json!("it")), "half of the upsert is missing");
    });
}

#[test]
fn r3_a_local_read_sees_copies_that_are_not_on_disk_yet() {
    play(async |stage| {
        let cache = stage.open_with(1, lazy()).await;
        stage.at_rest(&cache).await;
        cache.upsert(&uid("u"), &field("v", "1")).await.expect("redis");
        // At once: nothing has been written to the disk meanwhile.
        stage.redis.with_engine(|engine| engine.refuse(Some(Refusal::Loading)));
        assert_eq!(profile(&cache, "u").await, (Source::Local, Some(json!({"v": "1"}))));
        // And a write joins them.
        cache.upsert(&uid("u"), &field("w", "1")).await.expect("the disk works");
        assert_eq!(profile(&cache, "u").await, (Source::Local, Some(json!({"v": "1", "w": "1"}))));
    });
}

#[test]
fn r4_a_write_after_a_restart_is_above_what_was_written_before_it_with_a_faster_clock() {
    play(async |stage| {
        stage.world.set_offset_ms(1, QUARTER_MS);
        let cache = stage.open_with(1, lazy()).await;
        stage.at_rest(&cache).await;
        cache.upsert(&uid("u"), &field("v", "first")).await.expect("redis");
        // The copy is lost, and with it the stamp.
        stage.kill(1, Stop::PowerLost, cache);
        stage.world.set_offset_ms(1, -QUARTER_MS);
        stage.cut(1, true);
        let cache = stage.open_with(1, lazy()).await;
        cache.upsert(&uid("u"), &field("v", "second")).await.expect("the disk works");
        stage.cut(1, false);
        stage.at_rest(&cache).await;
        assert_eq!(profile(&cache, "u").await, (Source::Shared, Some(json!({"v": "second"}))));
    });
}

#[test]
fn r4_a_write_after_a_restart_is_above_what_was_read_before_it() {
    play(async |stage| {
        stage.world.set_offset_ms(2, QUARTER_MS);
        let (cache, fast) = (stage.open_with(1, lazy()).await, stage.open(2).await);
        stage.at_rest(&cache).await;
        fast.upsert(&uid("u"), &field("v", "theirs")).await.expect("redis");
        assert_eq!(profile(&cache, "u").await.1, Some(json!({"v": "theirs"})));
        stage.kill(1, Stop::PowerLost, cache);
        stage.cut(1, true);
        let cache = stage.open_with(1, lazy()).await;
        cache.upsert(&uid("u"), &field("v", "mine")).await.expect("the disk works");
        stage.cut(1, false);
        stage.at_rest(&cache).await;
        assert_eq!(profile(&fast, "u").await, (Source::Shared, Some(json!({"v": "mine"}))));
    });
}

#[test]
fn r5_a_record_that_redis_lost_alone_comes_back_when_it_is_read() {
    play(async |stage| {
        let cache = stage.open(1).await;
        stage.at_rest(&cache).await;
        cache.upsert(&uid("u"), &field("v", "1")).await.expect("redis");
        assert_eq!(stage.command(&["DEL", "cc1:p:u"]), ":1\r\n");
        assert_eq!(profile(&cache, "u").await, (Source::Merged, Some(json!({"v": "1"}))));
        stage.at_rest(&cache).await;
        assert_eq!(profile(&cache, "u").await, (Source::Shared, Some(json!({"v": "1"}))));
        // Also where Redis is merely behind.
        cache.upsert(&uid("u"), &field("w", "1")).await.expect("redis");
        assert_eq!(stage.command(&["HDEL", "cc1:p:u", "pw"]), ":1\r\n");
        assert_eq!(profile(&cache, "u").await, (Source::Merged, Some(json!({"v": "1", "w": "1"}))));
        stage.at_rest(&cache).await;
        let other = stage.open(2).await;
        assert_eq!(profile(&other, "u").await, (Source::Shared, Some(json!({"v": "1", "w": "1"}))));
    });
}

#[test]
fn r6_what_redis_lost_comes_back_unread_also_what_was_written_before_anybody_noticed() {
    play(async |stage| {
        let cache = stage.open(1).await;
        stage.at_rest(&cache).await;
        for number in 0..100 {
            cache.upsert(&uid(&number.to_string()), &field("v", "before")).await.expect("redis");
        }
        stage.redis.with_engine(seedbed_redis::Engine::flush_all);
        let written = cache.upsert(&uid("late"), &field("v", "late")).await.expect("redis");
        assert_eq!(written.placement, Placement::Shared);
        stage.redis.with_engine(seedbed_redis::Engine::flush_all);
        stage.sleep(Duration::from_secs(2)).await;
        stage.at_rest(&cache).await;
        let other = stage.open(2).await;
        assert_eq!(other.list().await.expect("redis").uids.len(), 101);
        assert_eq!(profile(&other, "late").await.1, Some(json!({"v": "late"})));
    });
}

#[test]
fn r6_a_success_from_before_the_loss_counts_for_nothing() {
    play(async |stage| {
        let cache = stage.open(1).await;
        stage.at_rest(&cache).await;
        // The reply is under way for longer than it takes to notice the loss and to merge everything again.
        stage.world.net().set_extra_us(REDIS, 1, 100_000);
        let (patch, name) = (field("v", "1"), uid("u"));
        let (written, ()) = tokio::join!(biased; cache.upsert(&name, &patch), async {
            stage.sleep(Duration::from_millis(50)).await;
            stage.redis.with_engine(seedbed_redis::Engine::flush_all);
        });
        written.expect("the disk works");
        stage.world.net().set_extra_us(REDIS, 1, 0);
        stage.sleep(Duration::from_secs(3)).await;
        stage.at_rest(&cache).await;
        let other = stage.open(2).await;
        assert_eq!(profile(&other, "u").await, (Source::Shared, Some(json!({"v": "1"}))));
    });
}

/// The replies to a read and to a later write arrive together; either task may go on first.
#[test]
fn r7_what_came_while_a_read_was_under_way_is_not_taken_for_lost() {
    for (seed, among_several) in (0..100).flat_map(|seed| [(seed, false), (seed, true)]) {
        play_seed(seed, async move |stage| {
            let cache = Arc::new(stage.open(1).await);
            stage.at_rest(&cache).await;
            cache.upsert(&uid("warm"), &field("v", "1")).await.expect("redis");
            stage.at_rest(&cache).await;
            stage.cut_from_redis(1, true);
            let (reader, writer) = (cache.clone(), cache.clone());
            let read = stage.spawn(1, async move { read(&reader, among_several).await });
            // Behind the read, on the same connection.
            stage.sleep(Duration::from_millis(1)).await;
            let written =
                stage.spawn(1, async move { writer.upsert(&uid("u"), &field("v", "1")).await.expect("redis") });
            stage.until("the write has been executed", || !stage.stored("u").is_empty()).await;
            stage.cut_from_redis(1, false);
            let (read, written) = (read.await.expect("it ends"), written.await.expect("it ends"));
            assert_eq!((read.source, read.record), (Source::Shared, None), "it was asked before the write");
            assert_eq!(written.placement, Placement::Shared);
            assert_eq!((cache.health().pending_records, cache.health().state), (0, State::Connected), "seed {seed}");
            assert_eq!(profile(&cache, "u").await, (Source::Shared, Some(json!({"v": "1"}))));
        });
    }
}

/// Reads the record `u`, alone or together with another.
async fn read(cache: &Cache, among_several: bool) -> Read {
    if !among_several {
        return cache.get(&uid("u")).await.expect("redis");
    }
    let names = [uid("u"), uid("warm")].into();
    let mut reads = cache.get_many(&names, Freshness::Any).await.expect("in time");
    reads.remove(&uid("u")).expect("it was asked for").expect("redis")
}

/// The acknowledgement of a replay and the news that Redis lost it again arrive together; either task may go on first.
#[test]
fn r8_an_acknowledgement_clears_nothing_that_was_marked_since() {
    for seed in 0..100 {
        play_seed(seed, async move |stage| {
            let cache = Arc::new(stage.open(1).await);
            stage.at_rest(&cache).await;
            cache.upsert(&uid("u"), &field("v", "1")).await.expect("redis");
            // Redis has lost it, and a read made it pending again.
            assert_eq!(stage.command(&["DEL", "cc1:p:u"]), ":1\r\n");
            stage.cut_from_redis(1, true);
            let first = cache.clone();
            let first = stage.spawn(1, async move { first.get(&uid("u")).await.expect("redis") });
            stage.sleep(Duration::from_millis(5)).await;
            stage.cut_from_redis(1, false);
            first.await.expect("it ends");
            stage.cut_from_redis(1, true);
            stage.until("it was merged again", || !stage.stored("u").is_empty()).await;
            // Its acknowledgement has not arrived, and Redis loses it once more.
            assert_eq!(stage.command(&["DEL", "cc1:p:u"]), ":1\r\n");
            let second = cache.clone();
            let second = stage.spawn(1, async move { second.get(&uid("u")).await.expect("redis") });
            stage.sleep(Duration::from_millis(5)).await;
            stage.cut_from_redis(1, false);
            second.await.expect("it ends");
            stage.at_rest(&cache).await;
            let other = stage.open(2).await;
            assert_eq!(profile(&other, "u").await, (Source::Shared, Some(json!({"v": "1"}))), "seed {seed}");
        });
    }
}

#[test]
fn r9_a_copy_from_before_the_memory_of_removals_yields() {
    play(async |stage| {
        let (away, other) = (stage.open_with(1, forgetful()).await, stage.open_with(2, forgetful()).await);
        stage.at_rest(&away).await;
        away.upsert(&uid("u"), &field("v", "1")).await.expect("redis");
        away.upsert(&uid("kept"), &field("v", "1")).await.expect("redis");
        stage.cut(1, true);
        stage.away(&away).await;
        away.upsert(&uid("mine"), &field("v", "1")).await.expect("the disk works");
        other.remove(&uid("u")).await.expect("redis");
        stage.sleep(Duration::from_mins(3)).await;
        assert_eq!(stage.command(&["EXISTS", "cc1:p:u"]), ":0\r\n", "even the removal is forgotten");
        stage.cut(1, false);
        stage.at_rest(&away).await;
        for cache in [&away, &other] {
            assert_eq!(profile(cache, "u").await, (Source::Shared, None));
            assert_eq!(profile(cache, "kept").await, (Source::Shared, Some(json!({"v": "1"}))));
            assert_eq!(profile(cache, "mine").await, (Source::Shared, Some(json!({"v": "1"}))), "pending, however old");
        }
    });
}

#[test]
fn r9_copies_of_an_idle_instance_stay_young_enough_to_be_published_again() {
    play(async |stage| {
        let cache = stage.open_with(1, forgetful()).await;
        stage.at_rest(&cache).await;
        for number in 0..40 {
            cache.upsert(&uid(&number.to_string()), &field("v", "1")).await.expect("redis");
        }
        stage.sleep(Duration::from_mins(20)).await;
        stage.redis.with_engine(seedbed_redis::Engine::flush_all);
        stage.sleep(Duration::from_secs(2)).await;
        stage.at_rest(&cache).await;
        let other = stage.open(2).await;
        assert_eq!(other.list().await.expect("redis").uids.len(), 40);
    });
}

#[test]
fn r10_after_an_unknown_outcome_a_write_keeps_its_stamp() {
    play(async |stage| {
        let (cache, other) = (stage.open(1).await, stage.open(2).await);
        stage.at_rest(&cache).await;
        // So that Redis knows the script.
        cache.upsert(&uid("another"), &field("v", "1")).await.expect("redis");
        stage.cut_from_redis(1, true);
        let (patch, name) = (field("v", "1"), uid("u"));
        let (written, ()) = tokio::join!(biased; cache.upsert(&name, &patch), async {
            // It was executed, and somebody builds on it while its author still waits.
            stage.until("executed", || !stage.stored("u").is_empty()).await;
            assert_eq!(profile(&other, "u").await.1, Some(json!({"v": "1"})));
            other.upsert(&uid("u"), &field("v", "2")).await.expect("redis");
        });
        assert_eq!(written.expect("the disk works").placement, Placement::Local);
        stage.cut_from_redis(1, false);
        stage.at_rest(&cache).await;
        for cache in [&cache, &other] {
            assert_eq!(profile(cache, "u").await, (Source::Shared, Some(json!({"v": "2"}))), "the later write wins");
        }
    });
}

#[test]
fn a_causally_later_write_wins_although_its_clock_is_half_an_hour_behind() {
    play(async |stage| {
        stage.world.set_offset_ms(1, QUARTER_MS);
        stage.world.set_offset_ms(2, -QUARTER_MS);
        let (fast, slow) = (stage.open(1).await, stage.open(2).await);
        stage.at_rest(&fast).await;
        stage.at_rest(&slow).await;
        for round in 0..20 {
            let value = round.to_string();
            let (writer, reader) = if round % 2 == 0 { (&fast, &slow) } else { (&slow, &fast) };
            writer.upsert(&uid("u"), &field("v", &value)).await.expect("redis");
            assert_eq!(profile(reader, "u").await, (Source::Shared, Some(json!({"v": value}))));
        }
        // Also where Redis never hears of it in time: seen, cut off, written.
        fast.upsert(&uid("u"), &field("v", "seen")).await.expect("redis");
        assert_eq!(profile(&slow, "u").await.1, Some(json!({"v": "seen"})));
        stage.cut(2, true);
        stage.away(&slow).await;
        slow.remove(&uid("u")).await.expect("the disk works");
        stage.cut(2, false);
        stage.at_rest(&slow).await;
        assert_eq!(profile(&fast, "u").await, (Source::Shared, None));
    });
}

#[test]
fn stamps_grow_across_restarts_whatever_the_clock_does() {
    play(async |stage| {
        let mut last = None;
        for (round, offset) in [0, QUARTER_MS, -QUARTER_MS, 4 * QUARTER_MS, -8 * QUARTER_MS, 0].into_iter().enumerate()
        {
            stage.world.set_offset_ms(1, offset);
            let cache = stage.open_with(1, lazy()).await;
            for _ in 0..3 {
                let written = cache.upsert(&uid("u"), &field("v", "x")).await.expect("the disk works");
                assert!(last < Some(written.stamp), "round {round}");
                last = Some(written.stamp);
                stage.world.set_offset_ms(1, offset - 1000);
            }
            stage.kill(1, Stop::PowerLost, cache);
        }
    });
}

#[test]
fn a_stamp_from_the_far_future_is_reported_and_can_be_written_over() {
    play(async |stage| {
        stage.world.set_offset_ms(1, 20 * 365 * 24 * 4 * QUARTER_MS);
        let (broken, cache) = (stage.open(1).await, stage.open(2).await);
        stage.at_rest(&cache).await;
        broken.upsert(&uid("u"), &field("v", "2046")).await.expect("redis");
        assert_eq!(profile(&cache, "u").await.1, Some(json!({"v": "2046"})));
        assert_eq!(cache.health().future_stamps, 1);
        let written = cache.upsert(&uid("u"), &field("v", "now")).await.expect("redis");
        assert_eq!(written.placement, Placement::Shared);
        assert_eq!(profile(&broken, "u").await, (Source::Shared, Some(json!({"v": "now"}))));
    });
}

#[test]
fn a_crash_at_any_point_of_the_replay_loses_and_doubles_nothing() {
    const RECORDS: u64 = 60;
    for at in 0..60 {
        play_seed(at, async move |stage| {
            let eager = Config { backoff_first: Duration::from_millis(50), ..config() };
            stage.cut(1, true);
            let cache = stage.open_with(1, eager.clone()).await;
            for number in 0..RECORDS {
                cache.upsert(&uid(&number.to_string()), &field("v", "1")).await.expect("the disk works");
            }
            stage.world.net().set_extra_us(1, REDIS, 500);
            stage.cut(1, false);
            stage.until("the replay has begun", || cache.health().state == State::Recovering).await;
            stage.world.sleep_us(at * 200).await;
            let how = if at % 2 == 0 { Stop::PowerLost } else { Stop::Killed };
            stage.kill(1, how, cache);

            // Meanwhile somebody writes over what has arrived.
            let other = stage.open(2).await;
            let arrived: BTreeSet<_> = other.list().await.expect("redis").uids;
            for uid in &arrived {
                other.upsert(uid, &field("v", "2")).await.expect("redis");
            }
            let cache = stage.open_with(1, eager).await;
            stage.at_rest(&cache).await;
            for number in 0..RECORDS {
                let name = number.to_string();
                let expected = if arrived.contains(&uid(&name)) { "2" } else { "1" };
                assert_eq!(
                    profile(&cache, &name).await,
                    (Source::Shared, Some(json!({"v": expected}))),
                    "{at}: {name}"
                );
            }
        });
    }
}

#[test]
fn an_instance_with_a_wrong_clock_knows_as_soon_as_it_is_open_what_has_expired() {
    for offset_ms in [-QUARTER_MS, QUARTER_MS] {
        play(async move |stage| {
            let expiring = || Config { record_ttl: Some(Duration::from_mins(1)), ..config() };
            let other = stage.open_with(2, expiring()).await;
            stage.at_rest(&other).await;
            other.upsert(&uid("u"), &field("v", "1")).await.expect("redis");
            stage.world.set_offset_ms(1, offset_ms);
            let cache = stage.open_with(1, expiring()).await;
            assert_eq!(cache.list().await.expect("redis").uids, [uid("u")].into(), "{offset_ms}");
            // Redis goes before the first probe; what was written last is still there when the second write comes.
            stage.redis.with_engine(|engine| engine.refuse(Some(Refusal::Loading)));
            cache.upsert(&uid("u"), &field("v", "2")).await.expect("the disk works");
            stage.sleep(Duration::from_secs(2)).await;
            cache.upsert(&uid("u"), &field("w", "1")).await.expect("the disk works");
            assert_eq!(profile(&cache, "u").await, (Source::Local, Some(json!({"v": "2", "w": "1"}))), "{offset_ms}");
            stage.redis.with_engine(|engine| engine.refuse(None));
            stage.at_rest(&cache).await;
            stage.at_rest(&other).await;
            assert_eq!(profile(&other, "u").await, (Source::Shared, Some(json!({"v": "2", "w": "1"}))), "{offset_ms}");
        });
    }
}
