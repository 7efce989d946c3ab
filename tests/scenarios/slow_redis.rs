//! Redis is slow: a large deletion, a noisy neighbour, a saturated link. Answers take four fifths of the time that the
//! client waits for them. On 19 October 2023 a provider's authentication caches, failing under load, were finished off by
//! the retries and fallbacks of their own clients (status.openai.com, incident fk0tcbydtybr), and went back to work when
//! those asked less.
//!
//! Here slow is not away: every answer is Redis's, no connection is replaced, and the struggling server gets not one
//! command more for a call than a healthy one.

use std::time::Duration;

use contact_cache::{Placement, Source};
use futures_util::future::join_all;
use seedbed_contact::redis_host::REDIS;

use crate::{
    fleet::{Fleet, play_seeds},
    stage::Stage,
};

const ROUNDS: u64 = 30;

#[test]
fn a_slow_redis_answers_every_call_and_is_asked_nothing_twice() {
    play_seeds(story);
}

async fn story(stage: Stage) {
    let fleet = Fleet::start(&stage, 3).await;
    let healthy = fewest_commands(&stage, &fleet).await;

    for instance in 1..=3 {
        stage.world.net().set_extra_us(instance, REDIS, 100_000);
        stage.world.net().set_extra_us(REDIS, instance, 100_000);
    }
    let slow = fewest_commands(&stage, &fleet).await;
    assert_eq!(slow, healthy, "commands for one call of each kind on each instance");

    // All write to the same records in the same moments. Who meets a conflict has no time to go to Redis twice, and keeps
    // the write: but a server that has just answered is not taken for one that is away.
    let contended = fleet.all_work(Duration::from_secs(10)).await;
    for met in contended.values() {
        assert!(met.writes.contains_key(&Placement::Shared) && !met.reads.contains_key(&Source::Local), "{met:?}");
    }
    for cache in fleet.caches() {
        let health = cache.health();
        assert_eq!((health.connections, health.away_because), (1, None));
    }
    fleet.recovers().await;
}

/// How many commands Redis executes for one call of each kind on each instance, where nobody is in the way of another. In
/// some rounds a probe comes in between, hence the fewest.
async fn fewest_commands(stage: &Stage, fleet: &Fleet) -> u64 {
    let commands = || stage.redis.with_engine(|engine| engine.commands());
    let mut fewest = u64::MAX;
    for _ in 0..ROUNDS {
        let before = commands();
        let calls = [1, 2, 3].map(|instance| async move {
            let name = format!("own-{instance}");
            (fleet.write(instance, &name).await, fleet.read(instance, &name).await)
        });
        let answers = join_all(calls).await;
        assert!(answers.iter().all(|answer| *answer == (Placement::Shared, Source::Shared)), "{answers:?}");
        fewest = fewest.min(commands() - before);
        stage.sleep(Duration::from_millis(100)).await;
    }
    fewest
}
