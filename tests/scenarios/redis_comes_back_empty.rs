//! Redis is restarted and comes back empty: persistence was off, or its volume was not mounted. Clients that take an empty
//! Redis at its word serve "not found" for everything at once. Worse is what comes back from their memories without
//! order: old shards that returned with old data (go-redis, issues 526 and 528), and removed records that a client with
//! an older copy wrote again.
//!
//! Here every instance publishes what it holds, removals included; each field has the newest value that any of them held.

use std::time::Duration;

use contact_cache::Source;
use seedbed_contact::{faults::Persistence, history::Stop};
use serde_json::json;

use crate::{
    fleet::{Fleet, play_seeds},
    stage::{Stage, field, profile, uid},
};

#[test]
fn what_any_instance_held_comes_back_and_what_was_removed_does_not() {
    play_seeds(story);
}

async fn story(stage: Stage) {
    let fleet = Fleet::start(&stage, 3).await;
    fleet.all_work(Duration::from_secs(3)).await;
    // The first holds an old copy of one record, and one of a record that was removed since.
    for name in ["dora", "emil"] {
        fleet.cache(1).upsert(&uid(name), &field("title", "old")).await.expect("redis");
    }
    fleet.cache(2).upsert(&uid("dora"), &field("title", "new")).await.expect("redis");
    fleet.cache(3).remove(&uid("emil")).await.expect("redis");

    stage.redis.crash(&stage.world, Stop::Killed, Persistence::Lost);
    let outage = fleet.all_work(Duration::from_secs(5)).await;
    assert!(outage.values().all(|met| met.slowest < Duration::from_millis(260)), "{outage:?}");
    stage.redis.start(&stage.world);
    // Nobody sees less than before while it fills.
    fleet.all_work(Duration::from_secs(15)).await;

    fleet.recovers().await;
    for instance in 1..=3 {
        let read = profile(fleet.cache(instance), "dora").await;
        assert_eq!(read, (Source::Shared, Some(json!({"title": "new"}))), "instance {instance}");
        assert_eq!(profile(fleet.cache(instance), "emil").await, (Source::Shared, None), "instance {instance}");
    }
    assert_eq!(stage.stored_profile("dora")["title"], "new");
    assert!(!stage.stored("emil").contains_key("ptitle"), "{:?}", stage.stored("emil"));
}
