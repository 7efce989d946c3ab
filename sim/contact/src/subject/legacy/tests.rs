//! The Python client's habits, one by one, on the simulated Redis.

use serde_json::{Value as Json, json};

use super::*;
use crate::{
    history::{Patch, Stop},
    redis_host::{PORT, RedisHost},
    world::{SimEnv, World, simulate},
};

type Client = LegacySubject<SimEnv>;

async fn open(env: SimEnv, prefix: &str) -> Client {
    let settings = Settings::new(&format!("redis://redis:{PORT}"), prefix, "/data");
    LegacySubject::open(env, &settings).await.expect("the disk works")
}

fn redis(world: &World) -> RedisHost {
    let redis = RedisHost::default();
    redis.start(world);
    redis
}

async fn ask(client: &Client, call: Call) -> Answer {
    match client.call(&call).await {
        Outcome::Ok { answer } => answer,
        other => panic!("{call:?} was answered with {other:?}"),
    }
}

async fn upsert(client: &Client, uid: &str, patch: Json) -> Answer {
    let patch: Patch = serde_json::from_value(patch).expect("a patch");
    ask(client, Call::upsert(uid, patch)).await
}

/// Where the record came from, and its contacts, profile and metadata.
async fn get(client: &Client, uid: &str) -> (Source, Option<[Json; 3]>) {
    match ask(client, Call::get(uid)).await {
        Answer::Read { source, record } => {
            let part = |record: &Json, name: &str| record[name].clone();
            (source, record.map(|record| ["contacts", "profile", "metadata"].map(|name| part(&record, name))))
        }
        other => panic!("a get was answered with {other:?}"),
    }
}

fn written_to(placement: Placement) -> Answer {
    Answer::Written { placement, stamp: None }
}

fn named(name: &str) -> [Json; 3] {
    [json!([]), json!({ "name": name }), json!({})]
}

#[test]
fn an_upsert_unites_contacts_and_fields_and_ignores_a_null_profile_field() {
    simulate(1, async |world| {
        let _redis = redis(&world);
        let client = open(world.boot(0), "crm").await;
        let (work, home) = (json!({"type": "email", "value": "a"}), json!({"type": "tel", "value": "1"}));
        let first = json!({"contacts": [work, home], "profile": {"name": "A"}, "metadata": {"n": 1}});
        assert_eq!(upsert(&client, "u", first).await, written_to(Placement::Shared));
        let labelled = json!({"type": "email", "value": "a", "label": "x"});
        let second = json!({"contacts": [labelled], "profile": {"name": null, "title": "T"}, "metadata": {"n": null}});
        upsert(&client, "u", second).await;
        let merged = [json!([labelled, home]), json!({"name": "A", "title": "T"}), json!({"n": null})];
        assert_eq!(get(&client, "u").await, (Source::Shared, Some(merged)));
    });
}

#[test]
fn a_save_writes_every_record_whole_over_what_others_wrote_since() {
    simulate(1, async |world| {
        let _redis = redis(&world);
        let (one, other) = (open(world.boot(0), "crm").await, open(world.boot(1), "crm").await);
        upsert(&one, "u", json!({"profile": {"name": "old"}})).await;
        upsert(&other, "u", json!({"profile": {"name": "new"}})).await;
        assert_eq!(get(&one, "u").await, (Source::Shared, Some(named("new"))));
        upsert(&one, "v", json!({"profile": {"name": "V"}})).await;
        assert_eq!(get(&other, "u").await, (Source::Shared, Some(named("old"))), "a write to another record undid it");
    });
}

#[test]
fn the_file_is_read_at_the_next_start_and_one_that_does_not_parse_counts_as_empty() {
    simulate(1, async |world| {
        let redis = redis(&world);
        let client = open(world.boot(0), "crm").await;
        upsert(&client, "u", json!({"profile": {"name": "A"}})).await;
        drop(client);
        world.kill(0, Stop::Killed);
        redis.with_engine(seedbed_redis::Engine::flush_all);
        let env = world.boot(0);
        let client = open(env.clone(), "crm").await;
        assert_eq!(get(&client, "u").await, (Source::Local, Some(named("A"))));
        assert_eq!(ask(&client, Call::Sync).await, Answer::Synced { pending: 0 });
        assert_eq!(get(&client, "u").await, (Source::Shared, Some(named("A"))), "a save brought it back to redis");

        drop(client);
        redis.with_engine(seedbed_redis::Engine::flush_all);
        cut_file(&env);
        assert_eq!(get(&open(env, "crm").await, "u").await, (Source::Shared, None));
    });
}

fn cut_file(env: &SimEnv) {
    use seedbed_env::{Disk, DiskFile};
    let file = env.disk().open(&std::path::Path::new("/data").join(FILE)).expect("it was written");
    file.set_len(file.len().expect("a length") - 1).expect("the disk works");
}

#[test]
fn errors_of_redis_are_swallowed_and_what_the_instance_holds_is_answered() {
    simulate(1, async |world| {
        let redis = redis(&world);
        let client = open(world.boot(0), "crm").await;
        redis.crash(&world, Stop::Killed, crate::faults::Persistence::Kept);
        assert_eq!(upsert(&client, "u", json!({"profile": {"name": "A"}})).await, written_to(Placement::Local));
        assert_eq!(get(&client, "u").await, (Source::Local, Some(named("A"))));
        assert_eq!(ask(&client, Call::Sync).await, Answer::Synced { pending: 1 });
        redis.start(&world);
        assert_eq!(get(&client, "u").await, (Source::Local, Some(named("A"))), "nothing brings it to redis but a save");
        assert_eq!(ask(&client, Call::Sync).await, Answer::Synced { pending: 0 });
        assert_eq!(get(&client, "u").await, (Source::Shared, Some(named("A"))));
    });
}

#[test]
fn a_client_that_found_redis_down_never_asks_again() {
    simulate(1, async |world| {
        let client = open(world.boot(0), "crm").await;
        assert_eq!(client.status().state, "degraded");
        let _redis = redis(&world);
        let other = open(world.boot(1), "crm").await;
        assert_eq!(upsert(&client, "u", json!({"profile": {"name": "A"}})).await, written_to(Placement::Local));
        assert_eq!(get(&other, "u").await, (Source::Shared, None));
        upsert(&other, "v", json!({"profile": {"name": "B"}})).await;
        assert_eq!(get(&client, "v").await, (Source::Local, None));
    });
}

#[test]
fn a_clear_takes_a_prefix_for_a_pattern_and_deletes_the_keys_of_others() {
    simulate(1, async |world| {
        let _redis = redis(&world);
        let (star, plain) = (open(world.boot(0), "user*").await, open(world.boot(1), "user").await);
        upsert(&star, "mine", json!({"profile": {"name": "A"}})).await;
        upsert(&plain, "theirs", json!({"profile": {"name": "B"}})).await;
        let uids = vec!["mine".to_owned(), "user:theirs".to_owned()];
        assert_eq!(
            ask(&star, Call::Clear).await,
            Answer::Cleared { placement: Placement::Shared, uids, complete: true }
        );
        assert_eq!(get(&star, "mine").await, (Source::Shared, None));
        assert_eq!(get(&plain, "theirs").await, (Source::Local, Some(named("B"))), "redis does not have it any more");
    });
}

#[test]
fn two_prefixes_can_mean_the_same_key() {
    simulate(1, async |world| {
        let _redis = redis(&world);
        let (short, long) = (open(world.boot(0), "a").await, open(world.boot(1), "a:b").await);
        upsert(&short, "b:u", json!({"profile": {"name": "A"}})).await;
        assert_eq!(get(&long, "u").await, (Source::Shared, Some(named("A"))));
    });
    let record = |prefix: &str, uid: &str| RecordName { prefix: prefix.to_owned(), uid: uid.to_owned() };
    assert_eq!(records_of_key(b"a:b:u", &["a", "a:b", "c"]), [record("a", "b:u"), record("a:b", "u")]);
}

#[test]
fn what_the_client_cannot_do_is_refused() {
    simulate(1, async |world| {
        let client = open(world.boot(0), "crm").await;
        for call in [Call::List, Call::remove("u")] {
            let outcome = client.call(&call).await;
            assert!(matches!(&outcome, Outcome::Fail { error } if error.starts_with("refused")), "{outcome:?}");
        }
    });
}
