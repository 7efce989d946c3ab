//! One instance's clock is a quarter of an hour ahead, and nobody knows. With "the last write wins" by the wall clock its
//! values win against everything for fifteen minutes, also over those who have read them and answer them: FusionCache
//! (issue 319) had a server just so, Grafana (131917) entries from the future.
//!
//! Here the instance writes through a partition, and comes back. Its writes are above those made beside it, which is a
//! choice between equals; but whoever writes after having seen them, or simply later, wins: a stamp is a clock that never
//! runs behind what it has seen.

use std::time::Duration;

use contact_cache::{Placement, Source};
use serde_json::json;

use crate::{
    fleet::{Fleet, Met, play_seeds},
    stage::{Stage, field, profile, uid},
};

const QUARTER_MS: i64 = 15 * 60 * 1000;
const RIGHT: u32 = 1;
const FAST: u32 = 2;
const THIRD: u32 = 3;

#[test]
fn whoever_writes_after_the_fast_clock_wins_although_their_own_is_behind() {
    play_seeds(story);
}

async fn story(stage: Stage) {
    stage.world.set_offset_ms(FAST, QUARTER_MS);
    let fleet = Fleet::start(&stage, 3).await;
    stage.cut(FAST, true);
    stage.away(fleet.cache(FAST)).await;
    for name in ["dora", "emil"] {
        let ahead = fleet.cache(FAST).upsert(&uid(name), &field("title", "ahead")).await.expect("the disk works");
        assert_eq!(ahead.placement, Placement::Local);
        let right = fleet.cache(RIGHT).upsert(&uid(name), &field("title", "right")).await.expect("redis");
        assert_eq!(right.placement, Placement::Shared);
        assert!(right.stamp < ahead.stamp, "its clock is ahead");
    }
    fleet.all_work(Duration::from_mins(1)).await;
    stage.cut(FAST, false);
    fleet.recovers().await;
    for cache in fleet.caches() {
        assert_eq!(profile(cache, "dora").await, (Source::Shared, Some(json!({"title": "ahead"}))), "the same for all");
    }

    // One has read it and answers it while it is cut off itself; another has seen nothing, and is merely later.
    stage.cut(RIGHT, true);
    stage.away(fleet.cache(RIGHT)).await;
    let answer = fleet.cache(RIGHT).upsert(&uid("dora"), &field("title", "answer")).await.expect("the disk works");
    assert_eq!(answer.placement, Placement::Local);
    let later = fleet.cache(THIRD).upsert(&uid("emil"), &field("title", "later")).await.expect("redis");
    assert_eq!(later.placement, Placement::Shared);
    stage.cut(RIGHT, false);

    fleet.recovers().await;
    for (name, title) in [("dora", "answer"), ("emil", "later")] {
        assert_eq!(stage.stored_profile(name)["title"], title);
        for cache in fleet.caches() {
            assert_eq!(profile(cache, name).await, (Source::Shared, Some(json!({"title": title}))));
        }
    }
    assert!(fleet.all_work(Duration::from_secs(1)).await.values().all(Met::all_shared));
    assert!(fleet.caches().all(|cache| cache.health().future_stamps == 0), "a quarter of an hour is no alarm");
}
