//! Records that expire: by Redis's clock, whole, and for good.

use std::{path::Path, time::Duration};

use contact_cache::{
    Config, ContactCache, Patch, Placement, Source,
    env::{Env, TokioEnv},
};
use redis_launcher::{Program, Server};
use serde_json::json;

use crate::client::{at_rest, config, directory, named, object, open, open_with, uid};

const TTL: Duration = Duration::from_secs(1);

fn expiring(redis: &str, directory: &Path, ttl: Duration) -> Config {
    Config { record_ttl: Some(ttl), ..config(redis, directory) }
}

async fn sleep(duration: Duration) {
    TokioEnv::new().sleep(duration).await;
}

fn metadata(name: &str) -> Patch {
    Patch { metadata: object(&json!({name: 1})), ..Patch::default() }
}

async fn shown(cache: &ContactCache) -> (Source, Option<serde_json::Value>) {
    let read = cache.get(&uid("u")).await.expect("the disk works");
    let parts = read.record.map(|record| json!([record.profile, record.metadata]));
    (read.source, parts)
}

pub(crate) async fn a_record_expires_whole_and_its_cells_do_not_come_back(redis: &Program) {
    let (server, directory) = (Server::running(redis), directory());
    let first = open_with(expiring(&server.url(), &directory.path().join("first"), TTL)).await;
    let second = open(&server.url(), &directory.path().join("second")).await;
    first.upsert(&uid("u"), &named("old")).await.expect("a record");
    assert_eq!(shown(&second).await, (Source::Shared, Some(json!([{"name": "old"}, {}]))));
    assert_eq!(second.list().await.expect("a list").uids, [uid("u")].into());

    sleep(TTL).await;
    assert_eq!(shown(&second).await, (Source::Shared, None));
    assert_eq!(shown(&first).await, (Source::Shared, None));
    assert!(second.list().await.expect("a list").uids.is_empty());

    second.upsert(&uid("u"), &metadata("new")).await.expect("a record");
    for cache in [&first, &second] {
        assert_eq!(shown(cache).await, (Source::Shared, Some(json!([{}, {"new": 1}]))));
    }
    // The last writer asked for no end.
    assert_eq!(server.ask("PTTL cc1:p:u"), ":-1\r\n");
}

/// The script meets the expired record before any reader does.
pub(crate) async fn a_write_to_an_expired_record_begins_a_new_one(redis: &Program) {
    let (server, directory) = (Server::running(redis), directory());
    let first = open_with(expiring(&server.url(), &directory.path().join("first"), TTL)).await;
    let second = open(&server.url(), &directory.path().join("second")).await;
    first.upsert(&uid("u"), &named("old")).await.expect("a record");
    sleep(TTL).await;
    let written = second.upsert(&uid("u"), &metadata("new")).await.expect("a record");
    assert_eq!(written.placement, Placement::Shared);
    // The first holds a copy of what expired.
    for cache in [&first, &second] {
        assert_eq!(shown(cache).await, (Source::Shared, Some(json!([{}, {"new": 1}]))));
    }
}

pub(crate) async fn each_upsert_begins_the_time_to_live_anew(redis: &Program) {
    let (server, directory) = (Server::running(redis), directory());
    let cache = open_with(expiring(&server.url(), directory.path(), 4 * TTL)).await;
    for _ in 0..5 {
        cache.upsert(&uid("u"), &metadata("kept")).await.expect("a record");
        sleep(TTL).await;
    }
    assert_eq!(shown(&cache).await, (Source::Shared, Some(json!([{}, {"kept": 1}]))));
}

/// An older write that waited on a disk while its own life, and then the record, expired.
pub(crate) async fn a_late_write_does_not_bring_an_expired_record_back(redis: &Program) {
    let (mut server, directory) = (Server::absent(redis), directory());
    let late = directory.path().join("late");
    let cache = open_with(expiring(&server.url(), &late, TTL)).await;
    assert_eq!(cache.upsert(&uid("u"), &named("late")).await.expect("the disk works").placement, Placement::Local);
    cache.close().await.expect("the disk works");

    server.start();
    let first = open_with(expiring(&server.url(), &directory.path().join("first"), TTL)).await;
    first.upsert(&uid("u"), &metadata("newer")).await.expect("a record");
    sleep(TTL).await;
    let cache = open_with(expiring(&server.url(), &late, TTL)).await;
    at_rest(&cache).await;
    for cache in [&cache, &first] {
        assert_eq!(shown(cache).await, (Source::Shared, None));
    }
}

pub(crate) async fn a_record_written_while_redis_is_away_expires_as_well(redis: &Program) {
    let (mut server, directory) = (Server::absent(redis), directory());
    let short = open_with(expiring(&server.url(), &directory.path().join("short"), TTL)).await;
    short.upsert(&uid("u"), &named("old")).await.expect("the disk works");
    assert_eq!(shown(&short).await, (Source::Local, Some(json!([{"name": "old"}, {}]))));
    sleep(TTL).await;
    assert_eq!(shown(&short).await, (Source::Local, None));
    assert!(short.list().await.expect("the disk works").uids.is_empty());
    // A write shows only itself.
    short.upsert(&uid("u"), &metadata("new")).await.expect("the disk works");
    assert_eq!(shown(&short).await, (Source::Local, Some(json!([{}, {"new": 1}]))));

    let long = open_with(expiring(&server.url(), &directory.path().join("long"), Duration::from_secs(1000))).await;
    long.upsert(&uid("v"), &named("kept")).await.expect("the disk works");
    server.start();
    at_rest(&long).await;
    let existence = server.ask("HGET cc1:p:v e");
    let deadline = existence.trim().get(existence.trim().len() - 12..).expect("a deadline");
    let deadline_ms = u64::from_str_radix(deadline, 16).expect("hexadecimal digits");
    let left_ms = deadline_ms - TokioEnv::new().wall_ms();
    assert!((800_000..=1_000_000).contains(&left_ms), "{left_ms}");
    assert!(long.get(&uid("v")).await.expect("a record").record.is_some());
}
