//! A link too slow for what waits: a record of 400 kB takes 400 ms over 8 Mbit/s, and forty-eight of them more than a
//! second over 100 Mbit/s, where a reply is waited for for a quarter of one. What does not fit into the timeout is sent
//! again and again, whole, and nothing behind it moves: the usual end of a sync job behind a home line.
//!
//! Here a record has the time that its bytes take, large ones go one after the other beside the shared connection, and the
//! calls of the application go on.

use std::time::Duration;

use contact_cache::{Freshness, Placement, Source, State};
use futures_util::future::join;
use seedbed_contact::redis_host::REDIS;
use seedbed_contact::world::Host;

use crate::{
    fleet::play_some,
    poison_record::calls_stay_shared,
    stage::{Stage, field, uid},
};

const LARGE: usize = 400_000;

#[test]
fn a_record_of_400_kb_drains_over_8_mbit_a_second() {
    play_some(0..5, async |stage| story(stage, 1, 1_000_000).await);
}

#[test]
fn forty_eight_records_of_400_kb_drain_over_100_mbit_a_second() {
    play_some(0..1, async |stage| story(stage, 48, 12_500_000).await);
}

#[test]
fn reads_of_a_record_that_the_link_is_too_slow_for_cost_the_others_nothing() {
    play_some(0..5, reads);
}

async fn reads(stage: Stage) {
    let cache = stage.open(1).await;
    stage.at_rest(&cache).await;
    for name in ["large-1", "large-2"] {
        cache.upsert(&uid(name), &field("notes", &"x".repeat(2 * LARGE))).await.expect("redis");
    }
    for (from, to) in [(Host::Instance(1), REDIS), (REDIS, Host::Instance(1))] {
        stage.world.net().set_bandwidth(from, to, Some(1_000_000));
    }
    let large = uid("large-1");
    let all = ["busy", "large-1", "large-2"].map(uid).into();
    for number in 0..20 {
        let (busy, patch) = (uid("busy"), field("v", &number.to_string()));
        let (read, small) = join(cache.get(&large), cache.upsert(&busy, &patch)).await;
        assert!(read.expect("the disk works").record.is_some());
        assert_eq!(small.expect("redis").placement, Placement::Shared, "write {number}: {:?}", cache.health());
        let several = cache.get_many(&all, Freshness::Any).await.expect("in time");
        let sources = several.values().map(|read| read.as_ref().expect("the disk works").source);
        assert_eq!(sources.collect::<Vec<_>>(), [Source::Shared, Source::Local, Source::Local]);
        stage.sleep(Duration::from_millis(50)).await;
    }
    assert_eq!((cache.health().connections, cache.health().away_because), (1, None));
}

async fn story(stage: Stage, records: usize, bytes_per_s: u64) {
    let cache = stage.open(1).await;
    stage.at_rest(&cache).await;
    stage.cut(1, true);
    cache.get(&uid("ada")).await.expect("the disk works");
    stage.away(&cache).await;
    let text = "x".repeat(LARGE);
    for number in 0..records {
        let written = cache.upsert(&uid(&format!("large-{number}")), &field("notes", &text)).await;
        assert_eq!(written.expect("the disk works").placement, Placement::Local);
    }
    for number in 0..50 {
        cache.upsert(&uid(&format!("small-{number}")), &field("v", "1")).await.expect("the disk works");
    }
    for (from, to) in [(Host::Instance(1), REDIS), (REDIS, Host::Instance(1))] {
        stage.world.net().set_bandwidth(from, to, Some(bytes_per_s));
    }
    stage.cut(1, false);
    stage.until("connected", || matches!(cache.health().state, State::Recovering | State::Connected)).await;
    let begun_us = stage.world.now_us();
    calls_stay_shared(&stage, &cache).await;
    stage.at_rest(&cache).await;
    // Twice what the bytes take, and the calls' own time.
    let link_us = (records * LARGE) as u64 * 1_000_000 / bytes_per_s;
    let took_us = stage.world.now_us() - begun_us;
    assert!(took_us < 2 * link_us + 10_000_000, "{took_us} us for {link_us} us of the link");
    assert_eq!((cache.health().connections, cache.health().isolated), (2, vec![]));
}
