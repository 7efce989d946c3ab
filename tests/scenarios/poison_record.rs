//! One record that cannot be merged, among 150 that can: its value is above the server's `proto-max-bulk-len`, so that
//! Redis closes the connection on it, or the script works on it longer than anybody waits for a reply. Sent in one batch
//! with others it never drains, takes the connection along at every attempt, and nobody can tell which one it was. It is
//! the poison message of every queue that is drained in order.
//!
//! Here it is tried alone over a connection of its own and named, everything else drains, and the calls of the
//! application never notice.

use std::time::Duration;

use contact_cache::{Config, ContactPoint, Patch, Placement};
use serde_json::Map;

use crate::{
    fleet::play_some,
    stage::{Cache, Stage, config, field, uid},
};

const SMALL: u32 = 150;

/// The least that a server can be told as `proto-max-bulk-len`, and more than that.
const BULK_BYTES_MAX: u64 = 1 << 20;
const BEYOND: usize = 1_200_000;

#[test]
fn a_record_that_redis_closes_the_connection_on_is_isolated_and_named() {
    play_some(0..5, refused);
}

#[test]
fn a_write_that_redis_closes_the_connection_on_costs_the_others_nothing() {
    play_some(0..5, written_while_connected);
}

#[test]
fn a_record_that_the_script_works_on_for_long_is_merged_apart_from_the_others() {
    play_some(0..2, long_script);
}

async fn refused(stage: Stage) {
    let cache = start(&stage, Config { record_bytes_max: 4 << 20, ..config() }).await;
    stage.redis.with_engine(|engine| engine.set_bulk_bytes_max(BULK_BYTES_MAX));
    let poison = uid("m-poison");
    write_away(&stage, &cache, &[("m-poison", field("notes", &"x".repeat(BEYOND)))]).await;
    let begun_us = stage.world.now_us();
    stage.cut(1, false);
    stage.until("all but one merged", || cache.health().pending_records == 1).await;
    // The wait for the connection is most of it.
    assert!(stage.world.now_us() - begun_us < 10_000_000, "{} us", stage.world.now_us() - begun_us);

    calls_stay_shared(&stage, &cache).await;
    let health = cache.health();
    let [isolated] = health.isolated.as_slice() else { panic!("{health:?}") };
    assert_eq!(isolated.uid, poison);
    assert!(isolated.bytes > BEYOND as u64 && (3..10).contains(&isolated.attempts), "{isolated:?}");
    assert!(!isolated.reason.is_empty(), "{isolated:?}");

    stage.redis.with_engine(|engine| engine.set_bulk_bytes_max(512 << 20));
    stage.at_rest(&cache).await;
    assert_eq!(cache.health().isolated, []);
    assert!(stage.stored("m-poison")["pnotes"].len() > BEYOND);
}

async fn written_while_connected(stage: Stage) {
    let cache = start(&stage, Config { record_bytes_max: 4 << 20, ..config() }).await;
    stage.redis.with_engine(|engine| engine.set_bulk_bytes_max(BULK_BYTES_MAX));
    let written = cache.upsert(&uid("poison"), &field("notes", &"x".repeat(BEYOND))).await.expect("the disk works");
    assert_eq!(written.placement, Placement::Local);
    calls_stay_shared(&stage, &cache).await;
    assert_eq!((cache.health().connections, cache.health().pending_records), (1, 1));
    // What makes it small again is merged at once, although the next attempt was not due for a while.
    cache.upsert(&uid("poison"), &field("notes", "short")).await.expect("redis");
    stage.sleep(Duration::from_secs(3)).await;
    assert_eq!((cache.health().pending_records, cache.health().isolated), (0, vec![]));
}

async fn long_script(stage: Stage) {
    const CONTACTS: u32 = 30_000;
    // A tenth of what the script takes for a hundred thousand.
    let impatient = Config {
        reply_timeout: Duration::from_millis(60),
        record_bytes_max: 16 << 20,
        record_cells_max: 100_000,
        ..config()
    };
    let cache = start(&stage, impatient).await;
    let point = |number| ContactPoint { kind: "tel".into(), value: format!("{number}"), rest: Map::new() };
    let many = Patch { contacts: (0..CONTACTS).map(point).collect(), ..Patch::default() };
    write_away(&stage, &cache, &[("m-poison", many)]).await;
    stage.cut(1, false);
    stage.at_rest(&cache).await;
    // The first, and the one after the cut.
    assert_eq!(cache.health().connections, 2);
    assert!(stage.command(&["HLEN", "cc1:p:m-poison"]).starts_with(":30003"));
}

async fn start(stage: &Stage, config: Config) -> Cache {
    let cache = stage.open_with(1, config).await;
    stage.at_rest(&cache).await;
    cache
}

/// Writes these and [`SMALL`] small records, half of them before and half of them behind, while Redis is away.
async fn write_away(stage: &Stage, cache: &Cache, large: &[(&str, Patch)]) {
    stage.cut(1, true);
    cache.get(&uid("ada")).await.expect("the disk works");
    stage.away(cache).await;
    let small = (0..SMALL).map(|number| (if number % 2 == 0 { "a" } else { "z" }, number));
    for (first, number) in small {
        cache.upsert(&uid(&format!("{first}-{number}")), &field("v", "1")).await.expect("the disk works");
    }
    for (name, patch) in large {
        cache.upsert(&uid(name), patch).await.expect("the disk works");
    }
}

/// Redis is healthy: nobody's small write may be kept locally, and no connection replaced.
pub(crate) async fn calls_stay_shared(stage: &Stage, cache: &Cache) {
    let before = cache.health().connections;
    for number in 0..SMALL {
        let written = cache.upsert(&uid("busy"), &field("v", &number.to_string())).await.expect("redis");
        assert_eq!(written.placement, Placement::Shared, "write {number}: {:?}", cache.health());
        stage.sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(cache.health().connections, before);
}
