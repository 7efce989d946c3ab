//! A firewall between an instance and Redis forgets their connection. No reset is sent: to both ends it looks alive, and
//! what is sent on it is lost. StackExchange.Redis (issues 1848, 2595), lettuce (2082) and ioredis (1932) all met it as a
//! stall of fifteen minutes, which is how long Linux sends unacknowledged bytes again before it gives up; keepalives do
//! not help, as none is sent while bytes wait. New connections would have worked from the first second.
//!
//! Here the call that meets it waits for one reply, and an instance that makes no calls finds out by its own probe. Both
//! are on another connection within seconds, and stay on it for the rest of the quarter of an hour.

use std::time::Duration;

use contact_cache::Source;
use seedbed_contact::redis_host::REDIS;

use crate::{
    fleet::{Fleet, Met, play_seeds},
    stage::Stage,
};

const BUSY: u32 = 1;
const IDLE: u32 = 2;

#[test]
fn a_forgotten_connection_costs_one_reply_and_is_replaced_within_seconds() {
    play_seeds(story);
}

async fn story(stage: Stage) {
    let fleet = Fleet::start(&stage, 2).await;
    fleet.write(IDLE, "ada").await;
    assert_eq!(stage.world.net().forget_between(BUSY, REDIS), 1);
    assert_eq!(stage.world.net().forget_between(IDLE, REDIS), 1);

    // Whoever asks first waits for the reply; nobody after it does.
    assert_eq!(fleet.read(BUSY, "ada").await, Source::Local);
    let first = fleet.work(BUSY, Duration::from_millis(100)).await;
    assert!(first.all_local() && first.slowest < Duration::from_millis(20), "{first:?}");

    // Probe interval and its timeout, the longest first delay, and a connect.
    stage.sleep(Duration::from_millis(4_500)).await;
    for instance in [BUSY, IDLE] {
        let health = fleet.cache(instance).health();
        assert_eq!((health.connections, health.away_because), (2, None), "instance {instance}");
    }

    let met = fleet.all_work(Duration::from_mins(15)).await;
    assert!(met.values().all(Met::all_shared), "{met:?}");
    for instance in [BUSY, IDLE] {
        assert_eq!(fleet.cache(instance).health().connections, 2, "instance {instance}");
        assert_eq!(stage.world.net().open_connections(instance), 1, "the dead connection was closed");
    }
    fleet.recovers().await;
}
