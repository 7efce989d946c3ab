//! A host restarts with its clock an hour behind where it was: the old value was wrong, or the new one is until the time
//! service has had its say. Stamps made from the wall clock alone begin below those of before the restart. The process's
//! own later writes lose to its earlier ones, silently, in whatever merges them (the wall-clock order of the caches
//! surveyed has no defence against it).
//!
//! Here a ceiling above every stamp issued is on disk before the stamp is used, and a restarted instance begins there,
//! whether or not anything else that it wrote has survived.

use std::time::Duration;

use contact_cache::{Placement, Source};
use seedbed_contact::history::Stop;
use serde_json::json;

use crate::{
    fleet::{Fleet, play_seeds},
    stage::{Stage, field, profile, uid},
};

const HOUR_MS: i64 = 60 * 60 * 1000;

#[test]
fn a_later_write_wins_although_the_clock_has_stepped_back_over_the_restart() {
    play_seeds(story);
}

async fn story(stage: Stage) {
    stage.world.set_offset_ms(1, 2 * HOUR_MS);
    let mut fleet = Fleet::start(&stage, 2).await;
    let mut last = None;
    for (round, how) in [Stop::PowerLost, Stop::Killed, Stop::PowerLost, Stop::Killed].into_iter().enumerate() {
        let title = format!("title {round}");
        let written = fleet.in_time(fleet.cache(1).upsert(&uid("dora"), &field("title", &title))).await;
        let written = written.expect("the disk works");
        assert_eq!(written.placement, if round % 2 == 0 { Placement::Shared } else { Placement::Local });
        assert!(last < Some(written.stamp), "round {round}: {last:?}, then {written:?}");
        last = Some(written.stamp);
        fleet.write(1, "ada").await;

        // At once: no copy has reached the disk.
        fleet.crash(1, how);
        stage.world.set_offset_ms(1, (1 - i64::try_from(round).expect("small")) * HOUR_MS);
        stage.cut(1, round % 2 == 0);
        fleet.open(1).await;
        if round % 2 == 1 {
            fleet.recovers().await;
        }
    }
    let title = fleet.in_time(fleet.cache(1).upsert(&uid("dora"), &field("title", "last"))).await;
    assert!(last < Some(title.expect("redis").stamp));
    fleet.recovers().await;
    assert_eq!(stage.stored_profile("dora")["title"], "last");
    for cache in fleet.caches() {
        assert_eq!(profile(cache, "dora").await, (Source::Shared, Some(json!({"title": "last"}))));
    }
    stage.sleep(Duration::from_secs(1)).await;
}
