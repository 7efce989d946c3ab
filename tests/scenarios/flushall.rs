//! FLUSHALL, typed into the wrong window. No connection breaks, no error comes. Clients that keep copies learn of it by a
//! message that is easily lost or misread: Redis sends "everything" as a null (redis issue 7469), which redis-rs took for
//! nothing until 1.8.1 (2536); and a message sent while a client reconnects is never sent again.
//!
//! Here the data has a generation of its own, which every probe asks for. Within a probe interval each instance knows,
//! and publishes what it holds; also what was written between the FLUSHALL and that moment, or was under way.

use std::time::Duration;

use contact_cache::{Placement, Source};
use seedbed_redis::Engine;
use serde_json::json;

use crate::{
    fleet::{Fleet, Met, play_seeds, play_some},
    stage::{Stage, field, profile, uid},
};

#[test]
fn everything_is_back_within_seconds_and_nobody_sees_it_gone() {
    play_seeds(story);
}

#[test]
fn calls_with_large_records_do_not_knock_one_after_the_other_until_that_is_noticed() {
    play_some(0..10, large_records);
}

async fn story(stage: Stage) {
    let fleet = Fleet::start(&stage, 3).await;
    fleet.all_work(Duration::from_secs(3)).await;
    // Only this instance knows it, and it does not look at it again.
    fleet.cache(1).upsert(&uid("dora"), &field("title", "engineer")).await.expect("redis");

    for _ in 0..3 {
        stage.redis.with_engine(Engine::flush_all);
        // Written before anybody can have noticed.
        assert_eq!(fleet.write(2, "emil").await, Placement::Shared);
        let met = fleet.all_work(Duration::from_secs(3)).await;
        assert!(met.values().all(|met| !met.reads.contains_key(&Source::Local)), "redis was never away: {met:?}");
        assert!(!stage.stored("dora").is_empty(), "back within a probe interval and a little, unread");
    }

    fleet.recovers().await;
    let met = fleet.all_work(Duration::from_secs(3)).await;
    assert!(met.values().all(Met::all_shared), "{met:?}");
    for instance in 1..=3 {
        let read = profile(fleet.cache(instance), "dora").await;
        assert_eq!(read, (Source::Shared, Some(json!({"title": "engineer"}))), "instance {instance}");
        assert_eq!(fleet.cache(instance).health().connections, 1, "instance {instance}");
    }
}

/// A large record goes over a connection beside the shared one, which has to lead to the same data. None does, until a probe of the
/// shared one has noticed the loss.
async fn large_records(stage: Stage) {
    let cache = stage.open(1).await;
    stage.at_rest(&cache).await;
    let attempts = || stage.world.net().attempts(1).len();
    let before = attempts();
    stage.redis.with_engine(Engine::flush_all);
    for number in 0..30 {
        let large = field("notes", &"x".repeat(100_000 + number));
        cache.upsert(&uid("large"), &large).await.expect("the disk works");
    }
    assert!(attempts() - before < 10, "{} attempts", attempts() - before);
    stage.at_rest(&cache).await;
    // A connection beside the shared one is opened again.
    let written = cache.upsert(&uid("large"), &field("notes", &"y".repeat(100_000))).await.expect("redis");
    assert_eq!(written.placement, Placement::Shared);
}
