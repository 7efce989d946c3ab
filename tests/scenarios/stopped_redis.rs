//! Redis is stopped (SIGSTOP; a frozen virtual machine looks the same). Its kernel takes connections and bytes, and
//! nothing ever answers. With `ConnectionManager` of the redis crate each call waits 0.5 s for ever, on the same
//! connection, or 16 s while it reconnects; Django applications went down with their cache (django-redis, issues 281 and
//! 314) because each request waited its timeout again.
//!
//! Here the first call waits for one reply and the others for nothing, at most one attempt to connect is under way, and
//! none of the sockets that led nowhere stays open. When Redis goes on, it executes what waited in those sockets: minutes
//! old writes, which must not win.

use std::time::Duration;

use futures_util::future::join_all;
use seedbed_contact::redis_host::REDIS;

use crate::{
    fleet::{Fleet, Met, play_seeds},
    stage::Stage,
};

const STOPPED: Duration = Duration::from_mins(10);

#[test]
fn calls_do_not_wait_for_a_stopped_redis_and_what_it_executes_late_harms_nothing() {
    play_seeds(story);
}

async fn story(stage: Stage) {
    let fleet = Fleet::start(&stage, 3).await;
    assert!(fleet.all_work(Duration::from_secs(2)).await.values().all(Met::all_shared));

    stage.world.pause(REDIS);
    // These are in its sockets now. Whoever asks first waits for the reply; nobody after it does.
    join_all([1, 2, 3].map(|instance| fleet.write(instance, "ada"))).await;
    let first = fleet.all_work(Duration::from_millis(100)).await;
    assert!(first.values().all(|met| met.slowest < Duration::from_millis(20)), "{first:?}");
    let met = fleet.all_work(STOPPED).await;
    for (instance, met) in &met {
        assert!(met.all_local() && met.slowest < Duration::from_millis(20), "instance {instance}: {met:?}");
        let health = fleet.cache(*instance).health();
        assert!(health.away_because.is_some_and(|why| why.contains("connect_timeout")), "instance {instance}");
        // A delay of four seconds on average and a timeout of one.
        assert!((60..300).contains(&health.attempts), "instance {instance}: {} attempts", health.attempts);
        assert!(stage.world.net().open_connections(*instance) <= 1, "instance {instance} leaks sockets");
    }

    stage.world.resume(REDIS);
    fleet.recovers().await;
    assert!(fleet.all_work(Duration::from_secs(2)).await.values().all(Met::all_shared));
}
