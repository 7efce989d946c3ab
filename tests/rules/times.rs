//! `first_revealed_at` is the earliest time of all upserts and imports of a record, `last_updated_at` the latest, whatever they
//! wrote, wherever they were kept, and in whichever order they arrived. Contact points keep the order in which they were
//! first written.

use contact_cache::{CachedContact, ContactPoint, Patch, Placement, Timestamp};
use seedbed_contact::history::Stop;
use serde_json::{Map, json};

use crate::stage::{Cache, Stage, field, play, uid};

const TEN_S: std::time::Duration = std::time::Duration::from_secs(10);
const QUARTER_MS: i64 = 15 * 60 * 1000;

fn contact(value: &str) -> ContactPoint {
    ContactPoint { kind: "email".into(), value: value.into(), rest: Map::new() }
}

fn contacts(values: &[&str]) -> Patch {
    Patch { contacts: values.iter().map(|value| contact(value)).collect(), ..Patch::default() }
}

fn whole() -> Patch {
    Patch { metadata: field("m", "1").profile, profile: field("p", "1").profile, ..contacts(&["a", "b"]) }
}

/// Every kind of upsert.
fn patches() -> Vec<Patch> {
    vec![
        whole(),
        contacts(&["a"]),
        field("p", "2"),
        Patch { metadata: field("m", "2").profile, ..Patch::default() },
        Patch { without_contacts: vec![("email".into(), "a".into())], ..Patch::default() },
        Patch { without_contacts: vec![("email".into(), "never written".into())], ..Patch::default() },
        Patch { without_profile: vec!["p".into()], ..Patch::default() },
        Patch { without_metadata: vec!["m".into()], ..Patch::default() },
        Patch::default(),
    ]
}

/// First and last time of a record that is there.
async fn times(cache: &Cache, name: &str) -> (u64, u64) {
    let record = cache.get(&uid(name)).await.expect("the disk works").record.expect("it was written");
    (record.first_revealed_at.millis(), record.last_updated_at.millis())
}

/// Likewise, as Redis has them.
fn stored_times(stage: &Stage, name: &str) -> (u64, u64) {
    let stored = stage.stored(name);
    let time = |field: &str| u64::from_str_radix(&stored[field], 16).expect("a time");
    (time("f"), time("l"))
}

#[test]
fn every_kind_of_upsert_moves_the_last_time_and_leaves_the_first() {
    play(async |stage| {
        let (cache, other) = (stage.open(1).await, stage.open(2).await);
        stage.at_rest(&cache).await;
        let first = stage.world.wall_ms(1);
        cache.upsert(&uid("u"), &whole()).await.expect("redis");
        let (first, mut last) = (times(&cache, "u").await.0.max(first), times(&cache, "u").await.1);
        assert_eq!(first, last);
        for away in [false, true] {
            for (number, patch) in patches().iter().enumerate() {
                stage.sleep(TEN_S).await;
                stage.cut(1, away);
                if away {
                    stage.away(&cache).await;
                }
                let before = last;
                let now_ms = stage.world.wall_ms(1);
                let written = cache.upsert(&uid("u"), patch).await.expect("one of the tiers");
                assert_eq!(written.placement == Placement::Local, away);
                last = times(&cache, "u").await.1;
                let context = format!("patch {number}, away: {away}");
                assert!(last > before && last.abs_diff(now_ms) < 1000, "{context}");
                assert_eq!(times(&cache, "u").await, (first, last), "{context}");
                stage.cut(1, false);
                stage.at_rest(&cache).await;
                assert_eq!(stored_times(&stage, "u"), (first, last), "{context}");
                assert_eq!(times(&other, "u").await, (first, last), "{context}");
            }
        }
        stage.sleep(TEN_S).await;
        cache.upsert_shared(&uid("u"), &Patch::default()).await.expect("redis");
        assert!(times(&other, "u").await.1 >= last + 10_000);
    });
}

#[test]
fn the_earliest_and_the_latest_time_of_all_writers_stand_whichever_arrives_first() {
    for reversed in [false, true] {
        play(async move |stage| {
            stage.world.set_offset_ms(1, QUARTER_MS);
            stage.world.set_offset_ms(2, -QUARTER_MS);
            let (fast, slow) = (stage.open(1).await, stage.open(2).await);
            stage.at_rest(&fast).await;
            stage.at_rest(&slow).await;
            let (earliest, latest) = (stage.world.wall_ms(2), stage.world.wall_ms(1));
            let order = if reversed { [&slow, &fast] } else { [&fast, &slow] };
            for writer in order {
                writer.upsert(&uid("u"), &field("v", "1")).await.expect("redis");
            }
            for reader in order {
                let (first, last) = times(reader, "u").await;
                assert!(first.abs_diff(earliest) < 1000 && last.abs_diff(latest) < 1000, "{first} {last}");
                assert_eq!(stored_times(&stage, "u"), (first, last));
            }
        });
    }
}

#[test]
fn a_write_that_arrives_late_lowers_the_first_time_and_not_the_last() {
    play(async |stage| {
        let (away, other) = (stage.open(1).await, stage.open(2).await);
        stage.at_rest(&away).await;
        stage.cut(1, true);
        stage.away(&away).await;
        away.upsert(&uid("u"), &field("mine", "1")).await.expect("the disk works");
        let (first, _) = times(&away, "u").await;
        stage.sleep(TEN_S).await;
        other.upsert(&uid("u"), &field("theirs", "1")).await.expect("redis");
        let (second, last) = times(&other, "u").await;
        assert!(second >= first + 10_000);
        // Through a crash, too.
        stage.kill(1, Stop::PowerLost, away);
        stage.cut(1, false);
        let away = stage.open(1).await;
        stage.at_rest(&away).await;
        assert_eq!(stored_times(&stage, "u"), (first, last));
        for cache in [&away, &other] {
            assert_eq!(times(cache, "u").await, (first, last));
        }
    });
}

#[test]
fn the_times_of_an_import_join_those_that_are_there() {
    let imported = |first, last| CachedContact {
        uid: uid("u"),
        contacts: vec![contact("imported")],
        profile: Map::new(),
        metadata: Map::new(),
        first_revealed_at: Timestamp::from_millis(first),
        last_updated_at: Timestamp::from_millis(last),
    };
    play(async move |stage| {
        let (cache, other) = (stage.open(1).await, stage.open(2).await);
        stage.at_rest(&cache).await;
        cache.upsert(&uid("u"), &field("v", "1")).await.expect("redis");
        let (written, _) = times(&cache, "u").await;
        cache.import(&imported(1000, 2000)).await.expect("redis");
        assert_eq!(stored_times(&stage, "u"), (1000, written));
        cache.import(&imported(5000, written + 7)).await.expect("redis");
        assert_eq!(stored_times(&stage, "u"), (1000, written + 7));
        for cache in [&cache, &other] {
            assert_eq!(times(cache, "u").await, (1000, written + 7));
        }
    });
}

#[test]
fn a_removal_keeps_the_first_time_for_the_next_upsert() {
    for away in [false, true] {
        play(async move |stage| {
            let (cache, other) = (stage.open(1).await, stage.open(2).await);
            stage.at_rest(&cache).await;
            cache.upsert(&uid("u"), &whole()).await.expect("redis");
            let (first, _) = times(&cache, "u").await;
            if away {
                stage.cut(1, true);
                stage.away(&cache).await;
            }
            stage.sleep(TEN_S).await;
            cache.remove(&uid("u")).await.expect("one of the tiers");
            stage.sleep(TEN_S).await;
            cache.upsert(&uid("u"), &field("v", "1")).await.expect("one of the tiers");
            let again = times(&cache, "u").await;
            assert!(again.0 == first && again.1 >= first + 20_000, "{again:?}");
            stage.cut(1, false);
            stage.at_rest(&cache).await;
            assert_eq!(times(&other, "u").await, again);
            let record = other.get(&uid("u")).await.expect("redis").record.expect("it was written again");
            assert_eq!((record.contacts.len(), &record.profile["v"], record.profile.len()), (0, &json!("1"), 1));
        });
    }
}

async fn order(cache: &Cache) -> Vec<String> {
    let record = cache.get(&uid("u")).await.expect("the disk works").record.expect("it was written");
    record.contacts.iter().map(|contact| contact.value.clone()).collect()
}

#[test]
fn contact_points_keep_the_order_in_which_they_were_first_written() {
    for away in [false, true] {
        play(async move |stage| {
            let (cache, other) = (stage.open(1).await, stage.open(2).await);
            stage.at_rest(&cache).await;
            cache.upsert(&uid("u"), &contacts(&["m", "z", "a"])).await.expect("redis");
            if away {
                stage.cut(1, true);
                stage.away(&cache).await;
            }
            let mut labelled = contacts(&["a", "new", "m", "before"]);
            labelled.contacts[0].rest.insert("label".into(), json!("work"));
            cache.upsert(&uid("u"), &labelled).await.expect("one of the tiers");
            assert_eq!(order(&cache).await, ["m", "z", "a", "new", "before"], "what is there keeps its place");
            let without = Patch { without_contacts: vec![("email".into(), "z".into())], ..Patch::default() };
            cache.upsert(&uid("u"), &without).await.expect("one of the tiers");
            assert_eq!(order(&cache).await, ["m", "a", "new", "before"]);
            cache.upsert(&uid("u"), &contacts(&["z"])).await.expect("one of the tiers");
            let last = ["m", "a", "new", "before", "z"];
            assert_eq!(order(&cache).await, last, "what comes back is new");
            stage.cut(1, false);
            stage.at_rest(&cache).await;
            assert_eq!(order(&other).await, last, "seen by another instance");
            other.upsert(&uid("u"), &contacts(&["0", "m"])).await.expect("redis");
            let last = [&last[..], &["0"]].concat();
            for cache in [&cache, &other] {
                assert_eq!(order(cache).await, last);
            }
            stage.close(1, cache).await;
            stage.cut(1, true);
            assert_eq!(order(&stage.open(1).await).await, last, "from the disk");
        });
    }
}
