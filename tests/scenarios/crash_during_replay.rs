//! Redis is back, the outage's writes are on their way to it, and the process is killed: a deployment, or the killer of
//! processes that use too much memory. FusionCache keeps the queue of such writes in memory and empties it on the way
//! out; others replay from the start, removals included, over what was written since.
//!
//! Here what was not merged is still on disk, what was merged is merged again without harm, and what others wrote over it
//! in between stays; however often the process dies.

use std::{collections::BTreeSet, time::Duration};

use contact_cache::{Source, State};
use rand::RngExt;
use seedbed_contact::{history::Stop, redis_host::REDIS};
use serde_json::json;

use crate::{
    fleet::{Fleet, play_seeds},
    stage::{Stage, field, profile, uid},
};

const RECORDS: usize = 100;

#[test]
fn a_replay_that_is_killed_again_and_again_ends_with_everything_merged_once() {
    play_seeds(story);
}

async fn story(stage: Stage) {
    let mut fleet = Fleet::start(&stage, 2).await;
    stage.cut(1, true);
    stage.away(fleet.cache(1)).await;
    for number in 0..RECORDS {
        fleet.write(1, &number.to_string()).await;
        fleet.in_time(fleet.cache(1).upsert(&uid(&number.to_string()), &field("title", "mine"))).await.expect("a disk");
    }
    // A batch is under way for longer than the disk waits for what it is told.
    stage.world.net().set_extra_us(1, REDIS, 180_000);
    let mut chance = stage.seed.stream("deaths");
    stage.cut(1, false);
    let mut over: BTreeSet<usize> = BTreeSet::new();
    for (round, how) in [Stop::Killed, Stop::PowerLost, Stop::Killed].into_iter().enumerate() {
        let health = || fleet.cache(1).health();
        stage.until("the replay has begun", || health().state == State::Recovering).await;
        let left = health().pending_records;
        let some = left - left / 3;
        stage.until("and is under way", || health().pending_records <= some || health().pending_records == 0).await;
        stage.sleep(Duration::from_millis(chance.random_range(0..180))).await;
        assert!(health().pending_records > 0, "it was over before it could be killed");
        fleet.crash(1, how);
        // Somebody writes over some of what has arrived.
        for number in (round..RECORDS).step_by(3).filter(|number| !stage.stored(&number.to_string()).is_empty()) {
            fleet.cache(2).upsert(&uid(&number.to_string()), &field("title", "theirs")).await.expect("redis");
            over.insert(number);
        }
        fleet.open(1).await;
    }
    assert!(over.len() > 5, "{over:?}");
    stage.sleep(Duration::from_secs(5)).await;

    fleet.recovers().await;
    for number in 0..RECORDS {
        let name = number.to_string();
        let title = if over.contains(&number) { "theirs" } else { "mine" };
        assert_eq!(stage.stored_profile(&name)["title"], title, "{name}");
        for cache in fleet.caches() {
            let (source, shown) = profile(cache, &name).await;
            assert_eq!((source, shown.map(|shown| shown["title"].clone())), (Source::Shared, Some(json!(title))));
        }
    }
}
