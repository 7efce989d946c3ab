//! The local store when its disk is full, fails or rots, when it reaches its limits, and across versions of its format.

mod stage;

use std::{collections::BTreeMap, io, path::Path, time::Duration};

use contact_cache::{
    Config, Error, OpenError, Source, State,
    env::{Disk as _, DiskFile as _, Env as _},
    error::{Effect, StoreError},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use seedbed_contact::{faults::BadWrite, history::Stop, world::disk::Verb};
use serde_json::{Value as Json, json};
use stage::{Cache, DIRECTORY, Stage, config, field, play, profile, uid};

/// An instance without Redis.
async fn alone(stage: &Stage) -> Cache {
    stage.cut(1, true);
    stage.open(1).await
}

fn image(stage: &Stage) -> Vec<u8> {
    let disk = stage.world.env(1).disk().clone();
    let file = disk.open(&Path::new(DIRECTORY).join("store.log")).expect("the disk works");
    let mut bytes = vec![0; usize::try_from(file.len().expect("the disk works")).expect("it is small")];
    file.read_at(0, &mut bytes).expect("the file is that long");
    bytes
}

fn put_image(stage: &Stage, directory: &str, bytes: &[u8]) {
    let disk = stage.world.env(1).disk().clone();
    disk.create_dir_all(Path::new(directory)).expect("the disk works");
    let file = disk.open(&Path::new(directory).join("store.log")).expect("the disk works");
    file.set_len(0).expect("the disk works");
    file.write_at(0, bytes).expect("the disk works");
    file.sync().expect("the disk works");
}

#[test]
fn a_full_disk_is_an_error_and_the_store_goes_on_when_there_is_room() {
    play(async |stage| {
        let cache = alone(&stage).await;
        cache.upsert(&uid("a"), &field("v", "before")).await.expect("the disk works");
        let disk = stage.world.disk(1);
        disk.inject(Verb::Write, io::ErrorKind::StorageFull, 1000);
        for name in ["a", "b"] {
            let error = cache.upsert(&uid(name), &field("v", "full")).await.expect_err("the disk is full");
            assert!(matches!(&error, Error::Store(StoreError::DiskFull { .. })), "{error}");
            assert_eq!(error.effect(), Effect::Unknown);
        }
        disk.heal();
        stage.until("written", || cache.health().store_error.is_none()).await;
        cache.upsert(&uid("c"), &field("v", "after")).await.expect("there is room");
        stage.kill(1, Stop::PowerLost, cache);
        let cache = stage.open(1).await;
        assert!(!cache.open_report().damage.is_loss(), "{:?}", cache.open_report());
        assert_eq!(profile(&cache, "c").await, (Source::Local, Some(json!({"v": "after"}))));
        // What was refused may have been written later, whole.
        let a = profile(&cache, "a").await.1.expect("it was acknowledged");
        assert!(a == json!({"v": "before"}) || a == json!({"v": "full"}), "{a}");
    });
}

#[test]
fn closing_on_a_full_disk_is_an_error_in_time_that_gives_the_directory_back() {
    play(async |stage| {
        let cache = alone(&stage).await;
        cache.upsert(&uid("a"), &field("v", "before")).await.expect("the disk works");
        stage.world.disk(1).inject(Verb::Write, io::ErrorKind::StorageFull, 1000);
        let error = cache.close().await.expect_err("the disk is full");
        assert!(matches!(&error, Error::Store(StoreError::DiskFull { .. })), "{error}");
        stage.world.disk(1).heal();
        let again = contact_cache::ContactCache::open(stage.world.env(1), config()).await.expect("it was given back");
        assert_eq!(profile(&again, "a").await.1, Some(json!({"v": "before"})));
    });
}

#[test]
fn a_store_that_was_closed_with_something_unwritten_has_its_end_last() {
    play(async |stage| {
        let cache = stage.open(1).await;
        stage.at_rest(&cache).await;
        // Redis has it; the copy is written behind, and closing does not wait for that.
        cache.upsert(&uid("a"), &field("v", "1")).await.expect("redis is there");
        stage.close(1, cache).await;
        let cache = stage.open(1).await;
        assert!(cache.open_report().clean_end, "{:?}", cache.open_report());
    });
}

#[test]
fn a_store_whose_writes_since_its_last_orderly_end_were_lost_was_not_closed_in_order() {
    play(async |stage| {
        let cache = alone(&stage).await;
        stage.close(1, cache).await;
        // Before it is opened: what opening writes would stand behind the orderly end.
        stage.world.disk(1).spoil_writes(BadWrite::Lost, u32::MAX);
        let cache = stage.open(1).await;
        cache.upsert(&uid("a"), &field("v", "1")).await.expect("the disk says that it has it");
        stage.kill(1, Stop::Killed, cache);
        stage.world.disk(1).heal();
        let cache = stage.open(1).await;
        assert_eq!(profile(&cache, "a").await.1, None);
        assert!(!cache.open_report().clean_end, "{:?}", cache.open_report());
    });
}

#[test]
fn a_clear_on_a_full_disk_names_the_removals_that_may_come_yet() {
    play(async |stage| {
        let cache = alone(&stage).await;
        cache.upsert(&uid("a"), &field("v", "1")).await.expect("the disk works");
        stage.world.disk(1).inject(Verb::Write, io::ErrorKind::StorageFull, u32::MAX);
        let cleared = cache.clear().await.expect("the list needs no disk");
        assert_eq!((cleared.removed.len(), cleared.unknown.contains(&uid("a"))), (0, true));
        stage.world.disk(1).heal();
        stage.until("removed after all", || cache.health().store_error.is_none()).await;
        assert_eq!(profile(&cache, "a").await, (Source::Local, None));
    });
}

#[test]
fn a_failed_sync_ends_the_store_until_it_is_opened_again_and_loses_nothing_acknowledged() {
    play(async |stage| {
        let cache = alone(&stage).await;
        cache.upsert(&uid("a"), &field("v", "before")).await.expect("the disk works");
        stage.world.disk(1).inject(Verb::Sync, io::ErrorKind::Other, 1);
        cache.upsert(&uid("b"), &field("v", "lost")).await.expect_err("the sync failed");
        let error = cache.upsert(&uid("c"), &field("v", "late")).await.expect_err("the store has stopped");
        assert!(matches!(error, Error::Store(StoreError::Poisoned { .. })), "{error}");
        assert!(cache.health().store_error.is_some());
        stage.kill(1, Stop::Killed, cache);
        let cache = stage.open(1).await;
        assert_eq!(profile(&cache, "a").await.1, Some(json!({"v": "before"})));
        cache.upsert(&uid("c"), &field("v", "again")).await.expect("the disk works");
    });
}

#[test]
fn a_disk_that_fails_to_sync_while_a_cache_opens_is_an_error_that_gives_the_directory_back() {
    play(async |stage| {
        let cache = alone(&stage).await;
        cache.upsert(&uid("a"), &field("v", "1")).await.expect("the disk works");
        stage.close(1, cache).await;
        // The first is that of the lock file, without which an opening goes on.
        stage.world.disk(1).inject(Verb::Sync, io::ErrorKind::Other, 2);
        let env = stage.world.boot(1);
        let begun = env.now();
        let error = Cache::open(env.clone(), config()).await.err().expect("a disk in trouble");
        let took = env.now().saturating_sub(begun);
        assert!(took < config().connect_timeout + Duration::from_millis(100), "{took:?}: nothing is left to wait for");
        assert!(matches!(&error, OpenError::Store(StoreError::Poisoned { .. })), "{error}");
        let cache = Cache::open(env, config()).await.expect("the disk works");
        assert_eq!(profile(&cache, "a").await, (Source::Local, Some(json!({"v": "1"}))));
    });
}

#[test]
fn a_failed_read_is_an_error_of_that_call_alone() {
    play(async |stage| {
        let cache = alone(&stage).await;
        cache.upsert(&uid("a"), &field("v", "1")).await.expect("the disk works");
        stage.close(1, cache).await;
        for error in [io::ErrorKind::Other, io::ErrorKind::UnexpectedEof] {
            // A fresh one reads from the disk; later it remembers.
            let cache = stage.open(1).await;
            stage.world.disk(1).inject(Verb::Read, error, 1);
            let error = cache.get(&uid("a")).await.expect_err("the read failed");
            assert!(matches!(error, Error::Store(StoreError::Io { .. })), "{error}");
            assert_eq!(profile(&cache, "a").await, (Source::Local, Some(json!({"v": "1"}))));
            cache.upsert(&uid("b"), &field("v", "2")).await.expect("the disk works");
            stage.close(1, cache).await;
        }
    });
}

#[test]
fn what_a_stopped_store_holds_is_not_passed_over_because_it_cannot_be_read() {
    play(async |stage| {
        stage.cut(1, true);
        let cache = stage.open(1).await;
        cache.upsert(&uid("a"), &field("v", "1")).await.expect("the disk works");
        stage.close(1, cache).await;
        // A fresh one reads from the disk; later it remembers.
        let cache = stage.open(1).await;
        stage.world.disk(1).inject(Verb::Sync, io::ErrorKind::Other, 1);
        cache.upsert(&uid("b"), &field("v", "2")).await.expect_err("the sync failed");
        stage.world.disk(1).inject(Verb::Read, io::ErrorKind::Other, 1_000_000);
        stage.cut(1, false);
        for _ in 0..100 {
            // Redis answers that there is none: it never had it. The instance has answered that it has it.
            let error = cache.get(&uid("a")).await.expect_err("nothing can be read");
            assert!(matches!(error, Error::Store(_)), "{error}");
            cache.list().await.expect_err("what is pending belongs to it");
            stage.sleep(Duration::from_millis(100)).await;
        }
        assert!(cache.health().connections > 0, "redis was never asked");
    });
}

#[test]
fn pending_writes_are_bounded_and_what_was_taken_is_merged() {
    play(async |stage| {
        stage.cut(1, true);
        let limit_bytes = 4_000;
        let cache = stage.open_with(1, Config { pending_bytes_max: limit_bytes, ..config() }).await;
        let mut taken = 0;
        let error = loop {
            match cache.upsert(&uid(&taken.to_string()), &field("v", "1")).await {
                Ok(_) => taken += 1,
                Err(error) => break error,
            }
            assert!(taken < 1000, "no limit");
        };
        assert!(matches!(error, Error::PendingFull { limit_bytes: 4_000, sent: false }), "{error}");
        assert_eq!((error.effect(), taken > 5), (Effect::None, true));
        assert!(cache.health().pending_bytes <= limit_bytes);
        // The last one left no trace, what is there can be read, and a write that needs no more room is taken.
        assert_eq!(profile(&cache, &taken.to_string()).await, (Source::Local, None));
        cache.upsert(&uid("0"), &field("v", "2")).await.expect("no longer than before");
        stage.close(1, cache).await;
        let cache = stage.open_with(1, Config { pending_bytes_max: limit_bytes, ..config() }).await;
        cache.upsert(&uid("one more"), &field("v", "1")).await.expect_err("still full");

        stage.cut(1, false);
        stage.at_rest(&cache).await;
        assert_eq!((cache.health().pending_bytes, cache.health().pending_for), (0, None));
        cache.upsert(&uid("one more"), &field("v", "1")).await.expect("room again");
        for number in 0..taken {
            let expected = if number == 0 { "2" } else { "1" };
            let read = profile(&cache, &number.to_string()).await;
            assert_eq!(read, (Source::Shared, Some(json!({"v": expected}))));
        }
    });
}

#[test]
fn writes_that_redis_took_count_as_copies_and_are_forgotten_beyond_the_limit() {
    play(async |stage| {
        let limit = Config { copies_bytes_max: 5_000, ..config() };
        stage.cut(1, true);
        let cache = stage.open_with(1, limit).await;
        for number in 0..50 {
            cache.upsert(&uid(&number.to_string()), &field("v", "1")).await.expect("the disk works");
        }
        assert!(cache.health().pending_bytes > 5_000);
        stage.cut(1, false);
        stage.at_rest(&cache).await;
        stage.sleep(Duration::from_millis(500)).await;
        let health = cache.health();
        assert!(health.copies_bytes <= 5_000 && health.forgotten_copies > 0, "{health:?}");
        assert_eq!(cache.list().await.expect("redis").uids.len(), 50);
    });
}

#[test]
fn copies_are_bounded_and_what_was_forgotten_is_never_taken_for_absent() {
    play(async |stage| {
        let limit = Config { copies_bytes_max: 10_000, republish_window: Duration::from_secs(1), ..config() };
        let cache = stage.open_with(1, limit.clone()).await;
        stage.at_rest(&cache).await;
        for number in 0..200 {
            let name = number.to_string();
            cache.upsert(&uid(&name), &field("v", "1")).await.expect("a record");
            // All of it is known only once it was read: another instance may have written to it as well.
            assert_eq!(profile(&cache, &name).await, (Source::Shared, Some(json!({"v": "1"}))));
            stage.sleep(Duration::from_millis(50)).await;
        }
        let health = cache.health();
        assert!(health.copies_bytes <= 10_000 && health.forgotten_copies >= 100, "{health:?}");
        // Oldest first: the last ones are here.
        stage.close(1, cache).await;
        stage.cut(1, true);
        let cache = stage.open_with(1, limit).await;
        let (mut held, mut forgotten) = (0, 0);
        for number in 0..201 {
            match cache.get(&uid(&number.to_string())).await {
                Ok(read) => {
                    assert_eq!(Json::from(read.record.expect("it exists").profile.clone()), json!({"v": "1"}));
                    held += 1;
                }
                Err(Error::Forgotten) => forgotten += 1,
                Err(error) => panic!("{error}"),
            }
        }
        assert!(held > 10 && forgotten > 100, "{held} held, {forgotten} forgotten");
        assert!(!cache.list().await.expect("the disk works").complete);
        // A write to what was forgotten is taken, and not shown as if it were all.
        cache.upsert(&uid("0"), &field("w", "2")).await.expect("the disk works");
        assert!(matches!(cache.get(&uid("0")).await, Err(Error::Forgotten)));
        cache.remove(&uid("1")).await.expect("the disk works");
        assert_eq!(profile(&cache, "1").await, (Source::Local, None));

        stage.cut(1, false);
        stage.at_rest(&cache).await;
        assert_eq!(profile(&cache, "0").await, (Source::Shared, Some(json!({"v": "1", "w": "2"}))));
        stage.cut(1, true);
        stage.away(&cache).await;
        assert_eq!(profile(&cache, "0").await, (Source::Local, Some(json!({"v": "1", "w": "2"}))));
    });
}

#[test]
fn no_copy_is_forgotten_within_the_window_or_while_it_is_pending() {
    play(async |stage| {
        let limit = Config { copies_bytes_max: 5_000, republish_window: Duration::from_hours(1), ..config() };
        let cache = stage.open_with(1, limit).await;
        stage.at_rest(&cache).await;
        for number in 0..100 {
            cache.upsert(&uid(&number.to_string()), &field("v", "1")).await.expect("a record");
        }
        stage.cut(1, true);
        stage.away(&cache).await;
        // The first ones were admitted, and none of them made room for a later one.
        assert_eq!(profile(&cache, "0").await.1, Some(json!({"v": "1"})));
        assert!(matches!(cache.get(&uid("99")).await, Err(Error::Forgotten)));
        for number in 0..30 {
            cache.upsert(&uid(&format!("mine {number}")), &field("v", "1")).await.expect("another limit");
        }
        for number in 0..30 {
            let read = cache.get(&uid(&format!("mine {number}"))).await;
            assert!(matches!(read, Err(Error::Forgotten) | Ok(_)));
        }
        assert_eq!(cache.health().pending_records, 30);
    });
}

#[test]
fn removed_records_leave_the_disk_once_redis_has_forgotten_them_too() {
    play(async |stage| {
        let short = Config {
            tombstone_ttl: Duration::from_mins(1),
            republish_window: Duration::from_secs(1),
            compact_bytes: 1_000,
            ..config()
        };
        let cache = stage.open_with(1, short).await;
        for number in 0..50 {
            cache.upsert(&uid(&number.to_string()), &field("v", "1")).await.expect("a record");
            cache.remove(&uid(&number.to_string())).await.expect("a record");
        }
        stage.sleep(Duration::from_secs(90)).await;
        for round in 0..200 {
            cache.upsert(&uid("kept"), &field("v", &round.to_string())).await.expect("a record");
            stage.sleep(Duration::from_millis(200)).await;
        }
        assert!(image(&stage).len() < 6_000, "{} bytes", image(&stage).len());
        assert!(!String::from_utf8_lossy(&image(&stage)).contains("\"uid\":\"7\""));
        assert_eq!(profile(&cache, "kept").await.1, Some(json!({"v": "199"})));
    });
}

#[test]
fn writes_are_durable_at_once_while_the_log_is_rewritten() {
    play(async |stage| {
        stage.cut(1, true);
        let small = Config { compact_bytes: 10_000, ..config() };
        let cache = stage.open_with(1, small.clone()).await;
        let mut rng = StdRng::seed_from_u64(5);
        let mut expected = BTreeMap::new();
        let mut cache = Some(cache);
        for step in 0..3000 {
            let name = rng.random_range(0..600).to_string();
            let open = cache.as_ref().expect("open");
            open.upsert(&uid(&name), &field("v", &step.to_string())).await.expect("the disk works");
            expected.insert(name, step.to_string());
            if step % 500 == 250 {
                stage.kill(1, Stop::PowerLost, cache.take().expect("open"));
                cache = Some(stage.open_with(1, small.clone()).await);
            }
        }
        let cache = cache.expect("open");
        assert!(!cache.open_report().damage.is_loss(), "{:?}", cache.open_report());
        for (name, value) in &expected {
            assert_eq!(profile(&cache, name).await.1, Some(json!({"v": value})), "{name}");
        }
        assert_eq!(cache.health().pending_records, expected.len() as u64);
    });
}

/// Made by the versions that wrote these formats.
#[test]
fn a_store_of_a_format_before_is_read_and_rewritten() {
    let olds = [
        &include_bytes!("stores/format-1.log")[..],
        include_bytes!("stores/format-2.log"),
        include_bytes!("stores/format-3.log"),
    ];
    for (format, old) in (1..).zip(olds) {
        play(async move |stage| {
            stage.cut(1, true);
            let env = stage.world.boot(1);
            put_image(&stage, DIRECTORY, old);
            let crm = Config { prefix: "crm".parse().expect("a prefix"), ..config() };
            let cache = contact_cache::ContactCache::open(env, crm.clone()).await.expect("a store of ours");
            assert!(!cache.open_report().damage.is_loss());
            for number in 0..5 {
                let expected = (number != 3).then(|| json!({"name": format!("name-{number}")}));
                assert_eq!(profile(&cache, &format!("u{number}")).await, (Source::Local, expected));
            }
            assert_eq!(cache.health().pending_records, 5);
            assert_eq!((old[8], image(&stage)[8]), (format, 4), "the version in the header");
            stage.close(1, cache).await;
            let cache = stage.open_with(1, crm).await;
            assert_eq!(profile(&cache, "u4").await.1, Some(json!({"name": "name-4"})));
        });
    }
}

#[test]
fn a_store_whose_name_has_rotted_is_nobody_elses() {
    play(async |stage| {
        let cache = alone(&stage).await;
        cache.upsert(&uid("a"), &field("v", "secret")).await.expect("the disk works");
        stage.close(1, cache).await;
        let mut bytes = {
            stage.world.boot(1);
            image(&stage)
        };
        let name = bytes.windows(6).position(|window| window == b"prefix").expect("the first entry");
        bytes[name] ^= 1;
        put_image(&stage, DIRECTORY, &bytes);
        put_image(&stage, "/data/other", &bytes);
        stage.world.kill(1, Stop::Killed);
        let other = Config { prefix: "other".parse().expect("a prefix"), directory: "/data/other".into(), ..config() };
        let cache = stage.open_with(1, other).await;
        assert_eq!(profile(&cache, "a").await, (Source::Local, None));
        assert_eq!((cache.health().pending_records, cache.health().quarantined_files), (0, 1));
        assert!(cache.open_report().set_aside.is_some());
        stage.close(1, cache).await;
        let cache = stage.open(1).await;
        assert_eq!(profile(&cache, "a").await, (Source::Local, Some(json!({"v": "secret"}))));
        assert!(cache.open_report().damage.is_loss());
    });
}

/// What a store held at its end, and images of it on the way.
struct Origin {
    last: BTreeMap<String, u64>,
    images: Vec<Vec<u8>>,
}

async fn origin(stage: &Stage) -> Origin {
    let cache = alone(stage).await;
    let (mut last, mut images) = (BTreeMap::new(), Vec::new());
    for version in 0..60 {
        let name = format!("u{}", version % 12);
        let mut patch = field("name", &name);
        patch.profile.insert("version".to_owned(), json!(version));
        patch.metadata.insert("sum".to_owned(), json!(format!("{name}/{version}")));
        cache.upsert(&uid(&name), &patch).await.expect("the disk works");
        last.insert(name, version);
        images.push(image(stage));
    }
    cache.close().await.expect("the disk works");
    images.push(image(stage));
    stage.world.kill(1, Stop::Killed);
    Origin { last, images }
}

/// Damages the last image of a store as a bad disk does.
fn damage(origin: &Origin, rng: &mut StdRng) -> Vec<u8> {
    const SECTOR: usize = 512;
    let mut bytes = origin.images.last().expect("some").clone();
    let sectors = bytes.len().div_ceil(SECTOR);
    let from = rng.random_range(0..sectors) * SECTOR;
    let to = bytes.len().min(from + rng.random_range(1..4) * SECTOR);
    match rng.random_range(0..6) {
        0 | 1 => {
            for _ in 0..rng.random_range(1..4) {
                let at = rng.random_range(0..bytes.len());
                bytes[at] ^= 1 << rng.random_range(0..8);
            }
        }
        2 => bytes[from..to].fill(0),
        // A write that the disk acknowledged and lost: the sector holds what it held before.
        3 => {
            let older = &origin.images[rng.random_range(0..origin.images.len())];
            for (at, byte) in bytes.iter_mut().enumerate().take(to).skip(from) {
                *byte = older.get(at).copied().unwrap_or(0);
            }
        }
        4 => bytes.truncate(rng.random_range(0..bytes.len())),
        _ => {
            let piece = bytes[from..to].to_vec();
            let at = rng.random_range(0..sectors) * SECTOR;
            for (offset, byte) in piece.into_iter().enumerate() {
                match bytes.get_mut(at + offset) {
                    Some(there) => *there = byte,
                    None => bytes.push(byte),
                }
            }
        }
    }
    bytes
}

#[test]
fn of_ten_thousand_damaged_stores_none_is_served_wrong_and_no_loss_goes_unreported() {
    play(async |stage| {
        let origin = origin(&stage).await;
        let mut rng = StdRng::seed_from_u64(3);
        let (mut lost, mut whole) = (0, 0);
        for number in 0..10_000 {
            let bytes = damage(&origin, &mut rng);
            let intact = bytes == *origin.images.last().expect("some");
            let directory = format!("/data/{number}");
            let env = stage.world.boot(1);
            put_image(&stage, &directory, &bytes);
            let damaged = Config { directory: directory.into(), ..config() };
            let cache = match contact_cache::ContactCache::open(env, damaged).await {
                Ok(cache) => cache,
                // The version in the header, and its checksum with it.
                Err(OpenError::Store(StoreError::Format { .. })) => {
                    stage.world.kill(1, Stop::Killed);
                    continue;
                }
                Err(error) => panic!("image {number}: {error}"),
            };
            let report = cache.open_report().clone();
            let mut newest = true;
            for (name, last) in &origin.last {
                let read =
                    cache.get(&uid(name)).await.unwrap_or_else(|error| panic!("image {number}, {name}: {error}"));
                let Some(record) = read.record else {
                    newest = false;
                    continue;
                };
                let version = record.profile["version"].as_u64().expect("a number");
                let right = record.profile["name"] == name.as_str()
                    && record.metadata["sum"] == format!("{name}/{version}")
                    && version <= *last
                    && version % 12 == *last % 12;
                assert!(right, "image {number}: {name} is served as {record:?}");
                newest &= version == *last;
            }
            assert!(newest || !intact);
            let reported = report.damage.is_loss() || !report.clean_end;
            assert!(newest || reported, "image {number}: a loss that nobody is told of: {report:?}");
            assert_eq!(report.damage.is_loss(), report.set_aside.is_some());
            if newest {
                whole += 1;
            } else {
                lost += 1;
            }
            assert!(matches!(cache.health().state, State::Degraded | State::Probing));
            stage.kill(1, Stop::Killed, cache);
        }
        assert!(lost > 1000 && whole > 1000, "{lost} lost something, {whole} did not");
    });
}
