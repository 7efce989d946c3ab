//! The machine of an instance sleeps: a laptop is closed, a virtual machine is moved, a container is checkpointed. Its process
//! stands still, and with it the clock that timeouts and estimates of Redis's time rest on (`CLOCK_MONOTONIC`), while Redis,
//! the other instances and the wall clock go on. Timers then fire as much later as it slept, and what the instance believes to be
//! a second old is a night old.
//!
//! Here a call that was under way ends within its deadline by the instance's own clock, the instance is connected again within
//! seconds of its own time, it shows what the others wrote meanwhile, and nothing that expired in its sleep (L6).

use std::{sync::Arc, time::Duration};

use contact_cache::{Placement, Source, env::Env as _};
use serde_json::json;

use crate::{
    fleet::play_seeds,
    stage::{config, field, profile, uid},
};

const SLEEPER: u32 = 1;
const OTHER: u32 = 2;

/// Longer than anything that an instance waits for, and than what its kernel gives a silent peer.
const SLEEP: Duration = Duration::from_mins(20);

#[test]
fn an_instance_that_slept_is_back_within_seconds_and_shows_what_others_wrote_meanwhile() {
    play_seeds(async |stage| {
        let (sleeper, other) = (stage.open(SLEEPER).await, stage.open(OTHER).await);
        stage.at_rest(&sleeper).await;
        sleeper.upsert(&uid("ada"), &field("name", "Ada")).await.expect("Redis works");

        stage.world.suspend(SLEEPER);
        other.upsert(&uid("ada"), &field("name", "Ada L.")).await.expect("Redis works");
        stage.sleep(SLEEP).await;
        stage.world.wake(SLEEPER);
        stage.sleep(Duration::from_secs(5)).await;
        assert_eq!(profile(&sleeper, "ada").await, (Source::Shared, Some(json!({"name": "Ada L."}))));
        sleeper.upsert(&uid("dora"), &field("name", "Dora")).await.expect("Redis works");
        assert_eq!(profile(&other, "dora").await, (Source::Shared, Some(json!({"name": "Dora"}))));
    });
}

#[test]
fn a_call_that_the_sleep_met_ends_within_its_deadline_by_the_clock_of_the_instance() {
    play_seeds(async |stage| {
        let cache = Arc::new(stage.open(SLEEPER).await);
        stage.at_rest(&cache).await;
        stage.cut_from_redis(SLEEPER, true);
        let (env, called_on) = (stage.world.env(SLEEPER), Arc::clone(&cache));
        let called = stage.spawn(SLEEPER, async move {
            let begun = env.now();
            let written = called_on.upsert(&uid("ada"), &field("name", "Ada")).await;
            (written.map(|written| written.placement), env.now().saturating_sub(begun))
        });
        stage.sleep(Duration::from_millis(100)).await;
        stage.world.suspend(SLEEPER);
        stage.sleep(SLEEP).await;
        stage.world.wake(SLEEPER);
        let (written, took) = called.await.expect("the call ends");
        assert_eq!(written.expect("the disk works"), Placement::Local);
        assert!((Duration::from_millis(250)..config().op_deadline).contains(&took), "it took {took:?}");
    });
}

#[test]
fn a_record_that_expired_in_its_sleep_is_not_shown_as_shared() {
    play_seeds(async |stage| {
        let mut config = config();
        config.record_ttl = Some(Duration::from_mins(1));
        let sleeper = stage.open_with(SLEEPER, config).await;
        stage.at_rest(&sleeper).await;
        sleeper.upsert(&uid("ada"), &field("name", "Ada")).await.expect("Redis works");
        stage.world.suspend(SLEEPER);
        stage.sleep(SLEEP).await;
        stage.world.wake(SLEEPER);
        // At once, and after each of the things that a fresh connection tells.
        for _ in 0..40 {
            let (source, shown) = profile(&sleeper, "ada").await;
            assert!(shown.is_none(), "{shown:?} was shown, as {source:?}, hours after it expired");
            stage.sleep(Duration::from_millis(100)).await;
        }
    });
}
