//! The master dies, and its name leads to another address, where a replica took over. Clients that resolve a name once
//! call the dead address until somebody restarts them: the JVM kept what it had resolved for ever, and lettuce and Jedis
//! were known for needing a restart after every failover of a managed Redis. A host that lost power refuses nothing, so
//! that each of those calls waits for a timeout. And replication is asynchronous: a replica that was behind has the
//! master's name, its generation, and not its last seconds.
//!
//! Here every attempt asks for the name again. Whether the process died or the power went, everybody is back within the
//! bound; what the replica never had comes from the instances that hold it, and nobody sees less in between.

use std::time::Duration;

use contact_cache::Source;
use futures_util::future::join;
use seedbed_contact::{faults::Persistence, history::Stop};

use crate::{
    fleet::{Fleet, Met, RECOVERED_WITHIN, play_seeds},
    stage::Stage,
};

const INSTANCES: u32 = 3;

/// How long nobody has the name that matters, and how far a replica is behind that is.
const DOWN: Duration = Duration::from_secs(5);
const BEHIND: Duration = Duration::from_secs(3);

#[test]
fn everybody_follows_the_name_to_a_replica_that_has_everything() {
    play_seeds(async |stage| story(stage, false).await);
}

#[test]
fn what_a_replica_that_was_behind_never_had_comes_back() {
    play_seeds(async |stage| story(stage, true).await);
}

async fn story(stage: Stage, behind: bool) {
    let fleet = Fleet::start(&stage, INSTANCES).await;
    // There, and back again.
    for dies in [Stop::Killed, Stop::PowerLost] {
        assert!(fleet.all_work(Duration::from_secs(1)).await.values().all(Met::all_shared));
        let save = behind.then(|| stage.redis.save());
        // One record that only its author knows.
        fleet.write(1, "dora").await;
        fleet.all_work(BEHIND).await;

        let (dead, stored) = (stage.redis.host(), ["ada", "dora"].map(|record| stage.stored_profile(record)));
        match &save {
            Some(save) => stage.redis.roll_back(&stage.world, dies, save),
            None => stage.redis.crash(&stage.world, dies, Persistence::Kept),
        }
        let kept = ["ada", "dora"].map(|record| stage.stored_profile(record));
        assert!((0..2).all(|record| (kept[record] != stored[record]) == behind), "{kept:?}, before {stored:?}");
        let outage = fleet.all_work(DOWN).await;
        assert!(outage.values().all(|met| met.slowest < Duration::from_millis(260)), "{outage:?}");

        let begun_us = stage.world.now_us();
        stage.redis.fail_over(&stage.world);
        let back = async {
            for cache in fleet.caches() {
                stage.at_rest(cache).await;
            }
            Duration::from_micros(stage.world.now_us() - begun_us)
        };
        // At work all the while.
        let (took, _) = join(back, fleet.all_work(RECOVERED_WITHIN)).await;
        assert!(took <= RECOVERED_WITHIN, "not back before {took:?}");
        let connections = |host| stage.world.net().open_connections(host);
        assert_eq!((connections(stage.redis.host()), connections(dead)), (INSTANCES as usize, 0));

        // Nobody else has it, and nobody has asked for it.
        assert_eq!(fleet.read(1, "dora").await, if behind { Source::Merged } else { Source::Shared });
        fleet.recovers().await;
    }
}
