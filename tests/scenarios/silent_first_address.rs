//! The name of Redis has several addresses, and the first is silent: a firewall drops what is sent there, or a process
//! that hangs has the port, whose kernel accepts connections that are never answered. Jedis tried one address alone until it
//! learned to try them all (pull requests 2713 and 2722). Tried in turn, the silent one still takes the whole timeout of each
//! attempt: with a second address that works, the client never connects.
//!
//! Here the attempt that meets a lost SYN goes on to the next address after a quarter of a second (RFC 8305). One that was
//! accepted and not answered costs that attempt alone, and the next begins elsewhere.

use std::time::Duration;

use contact_cache::{ContactCache, State};
use seedbed_contact::{
    history::Stop,
    redis_host::{NAME, PORT, REDIS, REPLICA},
    world::Host,
};

use crate::{
    fleet::play_seeds,
    stage::{Cache, Stage, config, profile},
};

/// The address that comes first.
const SILENT: Host = REPLICA;

/// The longest first delay before a reconnect, an attempt, and a margin.
const SECOND_ATTEMPT: Duration = Duration::from_millis(4_500);

#[test]
fn a_first_address_that_loses_every_syn_costs_a_quarter_of_a_second() {
    play_seeds(async |stage| {
        stage.world.set_power(SILENT, false);
        stage.world.net().set_addresses(NAME, &[SILENT, REDIS]);
        let begun_us = stage.world.now_us();
        let cache = stage.open(1).await;
        let took = Duration::from_micros(stage.world.now_us() - begun_us);
        let health = cache.health();
        assert_eq!((health.attempts, health.connections, health.away_because), (1, 1, None));
        assert!(took < Duration::from_millis(300), "it took {took:?}");
        // What was proved is tried first: the next attempt does not wait for the silent one again.
        stage.at_rest(&cache).await;
        stage.world.net().reset_between(1, REDIS);
        stage.away(&cache).await;
        stage.until("an attempt", || cache.health().attempts == 2).await;
        stage.sleep(Duration::from_millis(50)).await;
        assert_eq!(cache.health().connections, 2, "the address that answered last time comes first");
    });
}

#[test]
fn a_first_address_that_accepts_and_says_nothing_costs_one_attempt() {
    play_seeds(async |stage| {
        // Its kernel takes connections for a process that never accepts one.
        stage.world.start_hung(SILENT, PORT);
        stage.world.net().set_addresses(NAME, &[SILENT, REDIS]);
        let cache = stage.open(1).await;
        assert_eq!(cache.health().connections, 0, "the first attempt is spent");
        stage.sleep(SECOND_ATTEMPT).await;
        let health = cache.health();
        assert_eq!((health.attempts, health.connections, health.away_because), (2, 1, None));
        assert_eq!(stage.world.net().open_connections(SILENT), 0, "the silent connection was closed");
    });
}

#[test]
fn an_address_that_falls_silent_under_its_connection_is_left_for_another() {
    play_seeds(async |stage| {
        let cache = stage.open(1).await;
        stage.at_rest(&cache).await;
        // Redis moves; its old host hangs with the port, and its address stays the first.
        stage.world.pause(REDIS);
        stage.away(&cache).await;
        let hung = stage.redis.save();
        stage.redis.roll_back(&stage.world, Stop::Killed, &hung);
        stage.redis.fail_over(&stage.world);
        stage.world.start_hung(REDIS, PORT);
        stage.world.net().set_addresses(NAME, &[REDIS, REPLICA]);
        connected(&stage, &cache, 2).await;
    });
}

#[test]
fn twenty_addresses_of_which_the_last_works_are_tried_within_one_attempt() {
    play_seeds(async |stage| {
        let silent: Vec<_> = (100..119).map(Host::Instance).collect();
        for host in &silent {
            stage.world.set_power(*host, false);
        }
        stage.world.net().set_addresses(NAME, &[silent, vec![REDIS]].concat());
        let cache = stage.open(1).await;
        assert_eq!((cache.health().attempts, cache.health().connections), (1, 1));
        // All that were tried beside it are closed.
        stage.sleep(Duration::from_millis(10)).await;
        assert_eq!(stage.world.net().open_connections(1), 1);
    });
}

#[test]
fn a_slow_answer_of_the_resolver_counts_against_the_same_timeout() {
    play_seeds(async |stage| {
        use seedbed_contact::world::net::{Resolver, Says};
        stage.world.set_power(SILENT, false);
        let says = Says::Addresses(vec![SILENT, REDIS]);
        // 200 ms are left, of which the first address may take a quarter.
        stage.world.net().set_resolver(1, Resolver { delay_us: 800_000, says });
        let begun_us = stage.world.now_us();
        let env = stage.world.boot(1);
        let cache = ContactCache::open(env, config()).await.expect("the disk works");
        let took = Duration::from_micros(stage.world.now_us() - begun_us);
        assert_eq!(cache.health().connections, 1, "opened after {took:?}");
        assert!(took < Duration::from_secs(1), "it took {took:?}");
    });
}

/// Waits until the instance is connected for the time of this number, within two attempts.
async fn connected(stage: &Stage, cache: &Cache, connections: u64) {
    stage.sleep(2 * SECOND_ATTEMPT).await;
    let health = cache.health();
    assert_eq!((health.connections, health.state), (connections, State::Connected), "{health:?}");
    profile(cache, "ada").await;
}
