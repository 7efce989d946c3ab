//! A store belongs to the data of one Redis, and asks before it publishes into another.

use std::time::Duration;

use contact_cache::{Config, Error, OnOtherRedis, Placement, Source, State, config::RedisUrl};
use seedbed_contact::redis_host::PORT;
use serde_json::json;

use crate::stage::{Stage, config, field, play, profile, uid};

fn database(number: u32) -> RedisUrl {
    format!("redis://redis:{PORT}/{number}").parse().expect("a url")
}

fn in_database(number: u32) -> Config {
    Config { redis: database(number), ..config() }
}

/// Leaves a store behind that holds a copy, and one write that Redis does not have.
async fn left_behind(stage: &Stage) {
    let cache = stage.open(1).await;
    stage.at_rest(&cache).await;
    cache.upsert(&uid("copied"), &field("v", "1")).await.expect("redis is there");
    stage.cut(1, true);
    stage.away(&cache).await;
    cache.upsert(&uid("owed"), &field("v", "1")).await.expect("the disk works");
    stage.close(1, cache).await;
    stage.cut(1, false);
}

#[test]
fn a_store_of_another_redis_holds_what_it_has_and_says_so() {
    play(async |stage| {
        left_behind(&stage).await;
        let cache = stage.open_with(1, in_database(3)).await;
        for _ in 0..20 {
            stage.sleep(Duration::from_secs(1)).await;
            let health = cache.health();
            assert!(matches!(health.state, State::Degraded | State::Probing), "{health:?}");
            assert_eq!(health.pending_records, 1);
        }
        let other = cache.health().other_redis.expect("it was met");
        assert_eq!((other.belongs_to, other.found), (database(0).to_string(), database(3).to_string()));
        assert!(other.generation.is_some() && other.found_generation.is_none(), "not even a generation was left there");
        let said = cache.health().away_because.expect("it counts as away");
        assert!(said.contains("redis:6379/3") && said.contains("on_other_redis"), "{said}");
        let refused = cache.upsert_shared(&uid("x"), &field("v", "1")).await.expect_err("not there");
        assert!(matches!(refused, Error::NotShared { sent: false, .. }), "{refused}");
        assert_eq!(cache.upsert(&uid("more"), &field("v", "1")).await.expect("the disk").placement, Placement::Local);
        assert_eq!(profile(&cache, "copied").await, (Source::Local, Some(json!({"v": "1"}))));
        stage.close(1, cache).await;
        // At home again, all of it goes where it belongs.
        let cache = stage.open(1).await;
        stage.at_rest(&cache).await;
        assert_eq!(cache.health().other_redis, None);
        for name in ["copied", "owed", "more"] {
            assert_eq!(stage.stored_profile(name).get("v").map(String::as_str), Some("1"), "{name}");
        }
    });
}

#[test]
fn a_store_moves_to_another_redis_if_the_setting_allows_it() {
    play(async |stage| {
        left_behind(&stage).await;
        let moved = Config { on_other_redis: OnOtherRedis::Publish, ..in_database(3) };
        let cache = stage.open_with(1, moved).await;
        stage.at_rest(&cache).await;
        for name in ["copied", "owed"] {
            assert_eq!(profile(&cache, name).await, (Source::Shared, Some(json!({"v": "1"}))), "{name}");
        }
        stage.close(1, cache).await;
        // From now on it belongs there.
        let cache = stage.open_with(1, in_database(3)).await;
        stage.at_rest(&cache).await;
        stage.close(1, cache).await;
        let cache = stage.open(1).await;
        stage.sleep(Duration::from_secs(3)).await;
        assert!(cache.health().other_redis.is_some());
    });
}

#[test]
fn a_new_name_for_the_same_data_is_no_question() {
    play(async |stage| {
        left_behind(&stage).await;
        // The generation tells that it is the same data: as a replica has it, or the same server by its address.
        let marker = stage.command(&["GET", "cc1g:p"]);
        let marker = marker.split("\r\n").nth(1).expect("a bulk string").to_owned();
        stage.command_in(3, &["SET", "cc1g:p", &marker]);
        let cache = stage.open_with(1, in_database(3)).await;
        stage.at_rest(&cache).await;
        assert_eq!(profile(&cache, "owed").await, (Source::Shared, Some(json!({"v": "1"}))));
    });
}

#[test]
fn a_store_that_holds_nothing_goes_anywhere() {
    play(async |stage| {
        let cache = stage.open(1).await;
        stage.at_rest(&cache).await;
        stage.close(1, cache).await;
        let cache = stage.open_with(1, in_database(3)).await;
        stage.at_rest(&cache).await;
        assert_eq!(cache.upsert(&uid("a"), &field("v", "1")).await.expect("redis").placement, Placement::Shared);
    });
}

#[test]
fn data_lost_by_the_same_redis_is_published_again_as_ever() {
    play(async |stage| {
        left_behind(&stage).await;
        stage.command(&["FLUSHALL"]);
        let cache = stage.open(1).await;
        stage.at_rest(&cache).await;
        for name in ["copied", "owed"] {
            assert_eq!(profile(&cache, name).await, (Source::Shared, Some(json!({"v": "1"}))), "{name}");
        }
    });
}
