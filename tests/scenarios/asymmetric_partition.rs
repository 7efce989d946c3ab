//! One direction is gone: requests arrive and are executed, replies are lost. A broken cable, a wrong route or an
//! exhausted table of an address translator does it. Whoever takes silence for "not executed" tries again and applies a
//! write twice, or tells its caller that it failed although everybody sees it; whoever takes it for "executed" loses
//! writes. go-redis (issue 2339) and redis-py (261) met the first.
//!
//! Here the write is on the instance's disk before it answers, keeps its stamp, and is merged when replies come again:
//! what others wrote over it meanwhile stays.

use std::time::Duration;

use contact_cache::{Placement, Source};
use futures_util::future::join;
use serde_json::json;

use crate::{
    fleet::{Fleet, play_seeds},
    stage::{Stage, field, profile, uid},
};

const DEAF: u32 = 1;
const OTHER: u32 = 2;

#[test]
fn a_write_that_arrived_without_a_reply_is_kept_once_and_stays_below_what_came_after_it() {
    play_seeds(story);
}

async fn story(stage: Stage) {
    let fleet = Fleet::start(&stage, 2).await;
    fleet.all_work(Duration::from_secs(1)).await;

    stage.cut_from_redis(DEAF, true);
    let (title, name) = (field("title", "engineer"), uid("dora"));
    let builds_on_it = async {
        // While its author still waits, everybody else sees it, and one writes over it.
        stage.until("it has been executed", || !stage.stored("dora").is_empty()).await;
        let seen = profile(fleet.cache(OTHER), "dora").await;
        assert_eq!(seen, (Source::Shared, Some(json!({"title": "engineer"}))));
        fleet.cache(OTHER).upsert(&name, &field("title", "director")).await.expect("redis").placement
    };
    let written = fleet.in_time(fleet.cache(DEAF).upsert(&name, &title));
    let (written, promoted) = join(written, builds_on_it).await;
    assert_eq!(written.expect("the disk works").placement, Placement::Local);
    assert_eq!(promoted, Placement::Shared);

    let met = fleet.all_work(Duration::from_mins(5)).await;
    assert!(met[&DEAF].all_local() && met[&DEAF].slowest < Duration::from_millis(20), "{met:?}");
    assert!(met[&OTHER].all_shared(), "{met:?}");
    let health = fleet.cache(DEAF).health();
    assert!(health.away_because.is_some() && health.pending_records > 0, "{health:?}");

    stage.cut_from_redis(DEAF, false);
    fleet.recovers().await;
    for instance in [DEAF, OTHER] {
        let read = profile(fleet.cache(instance), "dora").await;
        assert_eq!(read, (Source::Shared, Some(json!({"title": "director"}))), "instance {instance}");
    }
    assert_eq!(stage.stored_profile("dora")["title"], "director");
}
